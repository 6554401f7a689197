//! A node's containerd, kubelet and kube-proxy: their configuration and how they are started.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::layout::{Layout, POD_NETWORKS, underlay};
use super::machine::Machine;
use super::mounts;
use crate::command::{run, run_from_file, wait_while};
use crate::error::{At, Error, Result};
use crate::setup::PAUSE;

/// Debian's CNI plugins that flannel's configuration delegates to.
const CNI_PLUGINS: &[&str] = &["bridge", "host-local", "loopback", "portmap"];
const CNI_FOLDER: &str = "/usr/lib/cni";

/// Writes what a node starts with.
pub(super) fn prepare(layout: &Layout, node: &str) -> Result<()> {
    mounts::prepare_node(layout, node)?;
    let folder = layout.machine(node);
    for plugin in CNI_PLUGINS {
        let link = folder.join("opt/cni/bin").join(plugin);
        symlink(Path::new(CNI_FOLDER).join(plugin), &link).at(&link)?;
    }
    write(&folder.join("containerd.toml"), containerd())?;
    write(&folder.join("resolv.conf"), "nameserver 127.0.0.1\n".to_owned())?;
    write(&folder.join("kubelet.json"), kubelet(layout, node).to_string())?;
    write(&folder.join("kube-proxy.json"), kube_proxy(layout, node).to_string())
}

/// Starts containerd and waits until it answers.
pub(super) fn start_containerd(machine: &Machine) -> Result<()> {
    let config = machine.layout.machine(&machine.name).join("containerd.toml");
    let args = vec!["--config".to_owned(), config.display().to_string()];
    machine.start_component("containerd", "containerd", args)?;
    let what = format!("containerd of {}", machine.name);
    let healthy = || machine.check_components();
    wait_while(&what, 20, healthy, || {
        let version = machine.command(&["ctr", "version"]).and_then(|mut ctr| run(&mut ctr));
        version.map_err(|error| error.to_string())
    })
    .map(drop)
}

pub(super) fn start_kubelet(machine: &Machine, programs: &Path) -> Result<()> {
    let (layout, node) = (&machine.layout, &machine.name);
    let (v4, v6) = underlay(node);
    let args = [
        format!("--config={}", layout.machine(node).join("kubelet.json").display()),
        format!("--kubeconfig={}", layout.kubeconfig(node).display()),
        format!("--hostname-override={node}"),
        format!("--node-ip={v4},{v6}"),
        "--cert-dir=/var/lib/kubelet/pki".to_owned(),
        "--v=2".to_owned(),
    ];
    machine.start_component("kubelet", programs.join("kubelet"), args.into())
}

pub(super) fn start_kube_proxy(machine: &Machine, programs: &Path) -> Result<()> {
    let config = machine.layout.machine(&machine.name).join("kube-proxy.json");
    let args = vec![format!("--config={}", config.display()), "--v=2".to_owned()];
    machine.start_component("kube-proxy", programs.join("kube-proxy"), args)
}

/// Imports a docker- or OCI archive into a node's containerd.
pub(super) fn import(machine: &Machine, archive: &Path) -> Result<()> {
    let file = File::open(archive).at(archive)?;
    let log = machine.log("images");
    let out = File::options().create(true).append(true).open(&log).at(&log)?;
    let mut command = machine.command(&["ctr", "--namespace", "k8s.io", "images", "import", "-"])?;
    command.stdout(out.try_clone().at(&log)?).stderr(out);
    run_from_file(&mut command, file)
        .map_err(|error| Error::other(format!("{}: {error}; see {}", archive.display(), log.display())))
}

fn write(path: &PathBuf, text: String) -> Result<()> {
    fs::write(path, text).at(path)
}

/// `restrict_oom_score_adj`: machines of our kind lack CAP_SYS_RESOURCE, and no container starts without it.
fn containerd() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = [
  "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#
    )
}

fn kubelet(layout: &Layout, node: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": false,
        "failSwapOn": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", layout.cgroup(node)),
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "address": underlay(node).0.to_string(),
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": layout.pki().join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "healthzBindAddress": "127.0.0.1",
        "clusterDomain": "cluster.local",
        "resolvConf": layout.machine(node).join("resolv.conf"),
        // The host's disk is not the node's: neither its size nor how full it is may evict pods.
        "localStorageCapacityIsolation": false,
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        // Images are imported, so there is no record of who pulled them.
        "imagePullCredentialsVerificationPolicy": "NeverVerify",
        "serializeImagePulls": false,
    })
}

/// The conntrack settings are the host's, and no namespace may write them.
fn kube_proxy(layout: &Layout, node: &str) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": layout.kubeconfig("kube-proxy") },
        "hostnameOverride": node,
        "mode": "nftables",
        "clusterCIDR": POD_NETWORKS.join(","),
        "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "nodePortAddresses": ["primary"],
    })
}
