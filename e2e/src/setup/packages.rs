//! Debian packages.

use crate::command::{command, output, run};
use crate::error::Result;
use crate::progress::Progress;

/// What the bed runs that is not built here.
const PACKAGES: &[&str] = &[
    // The images that the product is built into.
    "buildah",
    // cp, ping and a shell for images that are made from nothing.
    "busybox-static",
    "ca-certificates",
    "conntrack",
    "containerd",
    // bridge, host-local, loopback, portmap.
    "containernetworking-plugins",
    // etcdctl, for backups.
    "etcd-client",
    "etcd-server",
    // libc.a: flanneld is linked statically, with cgo.
    "gcc",
    "libc6-dev",
    "iproute2",
    // kube-proxy refuses to start without modprobe, and the kubelet without mount.
    "kmod",
    // bindgen, for the kernel tests' independent reader.
    "libclang-dev",
    "mount",
    "nftables",
    // Certificates of the chart's API server test.
    "openssl",
    "procps",
    "runc",
    // nsenter.
    "util-linux",
    "wget",
];

/// Installs the packages that are missing.
pub(super) fn install_missing(progress: &Progress) -> Result<()> {
    let mut query = command("dpkg-query", ["--show", "--showformat=${Package} ${db:Status-Status}\\n"]);
    // It ends with 1 when it does not know one of them.
    let known = output(query.args(PACKAGES), None)?.stdout;
    let installed = |name: &&&str| known.lines().any(|line| line == format!("{name} installed"));
    let missing: Vec<&str> = PACKAGES.iter().filter(|name| !installed(name)).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    progress.step(format_args!("installing {}", missing.join(", ")));
    run(&mut command("apt-get", ["update", "--quiet"]))?;
    let mut install = command("apt-get", ["install", "--yes", "--quiet", "--no-install-recommends"]);
    run(install.args(&missing).env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}
