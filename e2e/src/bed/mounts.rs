//! What a machine sees of the file system: the host's programs, and folders of its own wherever Kubernetes writes.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use super::layout::Layout;
use crate::error::{At, Error, Result};

/// Kernel-wide settings that the kubelet wants to write. It finds its own values instead: the host's must not change.
const KUBELET_SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// A node's settings, as the documentation of Kubernetes asks for: its network namespace has its own.
const NODE_SYSCTLS: &[&str] = &[
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
];

pub(super) fn control_plane() -> Result<()> {
    propagation(MsFlags::MS_PRIVATE)?;
    mount_at("proc", "/proc", Some("proc"), None)
}

pub(super) fn node(layout: &Layout, machine: &str) -> Result<()> {
    let own = layout.machine(machine);
    propagation(MsFlags::MS_PRIVATE)?;
    // The bed's folder, for certificates and configuration, stays where it is in the node's own /var/lib.
    let again = own.join("var-lib").join(layout.root().strip_prefix("/var/lib").unwrap_or(Path::new("bed")));
    make(&again)?;
    bind(&layout.root(), &again)?;
    bind(&own.join("var-lib"), Path::new("/var/lib"))?;
    bind(&layout.var_log(machine), Path::new("/var/log"))?;
    bind(&own.join("opt"), Path::new("/opt"))?;
    let (upper, work) = (own.join("etc"), own.join("etc-work"));
    let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
    mount_at("overlay", "/etc", Some("overlay"), Some(&options))?;
    mount_at("tmpfs", "/run", Some("tmpfs"), Some("mode=755"))?;
    mount_at("proc", "/proc", Some("proc"), None)?;

    for folder in ["/run/containerd", "/run/netns", "/run/lock", "/run/flannel"] {
        make(Path::new(folder))?;
    }
    make(Path::new("/run/sysctl"))?;
    for (number, (name, value)) in KUBELET_SYSCTLS.iter().enumerate() {
        let file = PathBuf::from(format!("/run/sysctl/{number}"));
        fs::write(&file, format!("{value}\n")).at(&file)?;
        bind(&file, &Path::new("/proc/sys").join(name))?;
    }
    for name in NODE_SYSCTLS {
        let path = Path::new("/proc/sys").join(name);
        fs::write(&path, "1\n").at(&path)?;
    }
    // The kubelet and containerd share mounts with the containers that ask for it.
    propagation(MsFlags::MS_SHARED)
}

/// Makes the folders that [`node`] mounts, from outside.
pub(super) fn prepare_node(layout: &Layout, machine: &str) -> Result<()> {
    let own = layout.machine(machine);
    for folder in
        ["var-lib/kubelet", "var-lib/containerd", "var-lib/cni", "opt/cni/bin", "etc/cni/net.d", "etc-work"]
    {
        make(&own.join(folder))?;
    }
    make(&layout.var_log(machine))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).at(folder)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>).map_err(|errno| failed(to, errno))
}

fn mount_at(source: &str, to: &str, kind: Option<&str>, options: Option<&str>) -> Result<()> {
    mount(Some(source), to, kind, MsFlags::empty(), options).map_err(|errno| failed(Path::new(to), errno))
}

fn propagation(kind: MsFlags) -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, kind | MsFlags::MS_REC, None::<&str>)
        .map_err(|errno| failed(Path::new("/"), errno))
}

fn failed(path: &Path, errno: nix::errno::Errno) -> Error {
    Error::File { path: path.to_owned(), source: errno.into() }
}
