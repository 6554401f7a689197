//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and how they are started.

use std::fs;
use std::path::{Path, PathBuf};

use super::layout::{CONTROL_PLANE, Layout, POD_NETWORKS, SERVICE_NETWORKS, underlay};
use super::machine::Machine;
use crate::error::{At, Result};

/// The API server's name as a component.
pub(super) const API_SERVER: &str = "kube-apiserver";
/// The components that watch the API server and act.
pub(super) const CONTROLLERS: [&str; 2] = ["kube-controller-manager", "kube-scheduler"];
const ETCD: &str = "http://127.0.0.1:2379";
/// The same for etcdctl.
pub(super) const ETCD_FLAG: &str = "--endpoints=http://127.0.0.1:2379";

/// etcd's data folder.
pub(super) fn data(machine: &Machine) -> PathBuf {
    machine.layout.machine(CONTROL_PLANE).join("etcd")
}
/// What programs that run as pods ask for, Kubernetes' own left out.
const AUDIT: &str = r#"{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
  {"level": "None", "userGroups": ["system:serviceaccounts:kube-system", "system:serviceaccounts:kube-flannel"]},
  {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
  {"level": "None"}]}"#;

pub(super) fn start_etcd(machine: &Machine) -> Result<()> {
    let data = data(machine);
    let args = [
        format!("--name={}", machine.layout.name),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={ETCD}"),
        format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:2380".to_owned(),
        // A bed is not kept over a crash of the host.
        "--unsafe-no-fsync".to_owned(),
    ];
    machine.start_component("etcd", "etcd", args.into())
}

pub(super) fn start_api_server(machine: &Machine, programs: &Path) -> Result<()> {
    let pki = machine.layout.pki().display().to_string();
    let audit = machine.layout.machine(CONTROL_PLANE).join("audit.json");
    fs::write(&audit, AUDIT).at(&audit)?;
    let args = [
        format!("--etcd-servers={ETCD}"),
        "--bind-address=::".to_owned(),
        format!("--advertise-address={}", underlay(CONTROL_PLANE).0),
        "--secure-port=6443".to_owned(),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/kubelet-client.crt"),
        format!("--kubelet-client-key={pki}/kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--service-account-key-file={pki}/service-account.crt"),
        format!("--service-account-signing-key-file={pki}/service-account.key"),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--requestheader-client-ca-file={pki}/ca.crt"),
        "--requestheader-allowed-names=front-proxy-client".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        format!("--proxy-client-cert-file={pki}/front-proxy.crt"),
        format!("--proxy-client-key-file={pki}/front-proxy.key"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // For flannel's pods alone; flannel's namespace is the only one that asks for it.
        "--allow-privileged=true".to_owned(),
        format!("--service-cluster-ip-range={}", SERVICE_NETWORKS.join(",")),
        // As before Kubernetes 1.36: policies with unreadable CIDRs are let in, and must be met.
        "--feature-gates=StrictIPCIDRValidation=false".to_owned(),
        format!("--audit-policy-file={}", audit.display()),
        format!("--audit-log-path={}", machine.layout.audit_log().display()),
    ];
    machine.start_component(API_SERVER, programs.join(API_SERVER), args.into())
}

pub(super) fn start_controllers(machine: &Machine, programs: &Path) -> Result<()> {
    let layout = &machine.layout;
    let pki = layout.pki().display().to_string();
    let [manager, scheduler] = CONTROLLERS;
    let mut args = kubeconfig_flags(layout, manager);
    args.extend([
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--service-account-private-key-file={pki}/service-account.key"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={}", POD_NETWORKS.join(",")),
        "--node-cidr-mask-size-ipv4=24".to_owned(),
        "--node-cidr-mask-size-ipv6=64".to_owned(),
        format!("--service-cluster-ip-range={}", SERVICE_NETWORKS.join(",")),
        "--use-service-account-credentials=true".to_owned(),
    ]);
    machine.start_component(manager, programs.join(manager), args)?;
    machine.start_component(scheduler, programs.join(scheduler), kubeconfig_flags(layout, scheduler))
}

fn kubeconfig_flags(layout: &Layout, user: &str) -> Vec<String> {
    let path = layout.kubeconfig(user).display().to_string();
    let mut flags: Vec<String> = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
        .iter()
        .map(|flag| format!("--{flag}={path}"))
        .collect();
    flags.extend(["--leader-elect=false".to_owned(), "--bind-address=127.0.0.1".to_owned()]);
    flags
}
