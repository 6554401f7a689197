//! Certificates and kubeconfigs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::layout::{CONTROL_PLANE, Layout, SERVICE_NETWORKS, underlay};
use crate::error::{At, Error, Result};

/// The users of the control plane, with their groups; nodes come on top.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "selvage-bed-admin", "system:masters"),
    ("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    ("front-proxy", "front-proxy-client", ""),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
];

/// Writes all certificates, and a kubeconfig for each user that is valid inside the bed.
pub(super) fn write(layout: &Layout, nodes: &[String]) -> Result<()> {
    let folder = layout.pki();
    fs::create_dir_all(&folder).at(&folder)?;
    let key = KeyPair::generate().map_err(failed)?;
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "selvage-bed");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let certificate = ca.self_signed(&key).map_err(failed)?;
    write_pair(&folder, "ca", &certificate.pem(), &key)?;
    let issuer = Issuer::new(ca, key);

    let addresses = [
        underlay(CONTROL_PLANE).0.to_string(),
        underlay(CONTROL_PLANE).1.to_string(),
        "127.0.0.1".to_owned(),
        first_address(SERVICE_NETWORKS[0]),
        first_address(SERVICE_NETWORKS[1]),
    ];
    let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let names = names.into_iter().map(str::to_owned).chain(addresses).collect::<Vec<_>>();
    let mut server = CertificateParams::new(names).map_err(failed)?;
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(&folder, "apiserver", server, &issuer)?;

    let nodes = nodes.iter().map(|node| (node.as_str(), format!("system:node:{node}"), "system:nodes"));
    let users = USERS.iter().map(|&(file, name, group)| (file, name.to_owned(), group)).chain(nodes);
    let server = format!("https://{}:6443", underlay(CONTROL_PLANE).0);
    for (file, name, group) in users {
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            client.distinguished_name.push(DnType::OrganizationName, group);
        }
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(&folder, file, client, &issuer)?;
        write_kubeconfig(layout, file, file, &server)?;
    }

    // Signs the tokens of ServiceAccounts.
    let key = KeyPair::generate().map_err(failed)?;
    write_pair(&folder, "service-account", &key.public_key_pem(), &key)
}

/// Writes the kubeconfig `name` for the certificate of `user`.
pub(super) fn write_kubeconfig(layout: &Layout, name: &str, user: &str, server: &str) -> Result<()> {
    let pki = layout.pki().display().to_string();
    let bed = &layout.name;
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {bed}
  cluster: {{server: \"{server}\", certificate-authority: {pki}/ca.crt}}
users:
- name: {user}
  user: {{client-certificate: {pki}/{user}.crt, client-key: {pki}/{user}.key}}
contexts:
- name: {bed}
  context: {{cluster: {bed}, user: {user}}}
current-context: {bed}
"
    );
    write_private(&layout.kubeconfig(name), &text)
}

/// `10.96.0.0/16` -> `10.96.0.1`, the address of the Service `kubernetes`.
fn first_address(network: &str) -> String {
    let address = network.split('/').next().unwrap_or_default();
    match address.strip_suffix("::") {
        Some(prefix) => format!("{prefix}::1"),
        None => format!("{}1", address.trim_end_matches('0')),
    }
}

fn sign(
    folder: &Path,
    name: &str,
    mut params: CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<()> {
    let key = KeyPair::generate().map_err(failed)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let certificate = params.signed_by(&key, issuer).map_err(failed)?;
    write_pair(folder, name, &certificate.pem(), &key)
}

fn write_pair(folder: &Path, name: &str, public: &str, key: &KeyPair) -> Result<()> {
    let path = folder.join(format!("{name}.crt"));
    fs::write(&path, public).at(&path)?;
    write_private(&folder.join(format!("{name}.key")), &key.serialize_pem())
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).at(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).at(path)
}

fn failed(error: rcgen::Error) -> Error {
    Error::other(format!("certificates: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_service_has_the_first_address_of_each_network() {
        assert_eq!(first_address("10.96.0.0/16"), "10.96.0.1");
        assert_eq!(first_address("fd00:10:96::/112"), "fd00:10:96::1");
    }
}
