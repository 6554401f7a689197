//! The images that every node gets. The names are those of the upstream images that they stand for, so that
//! manifests written for these need no change; no node ever pulls.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::archive::{Archive, LayerBuilder};
use crate::cache::{self, Key};
use crate::command::{command, run};
use crate::error::{At, Result};
use crate::progress::Progress;

/// The sandbox of every pod.
pub const PAUSE: &str = "registry.k8s.io/pause:3.10.1";
/// The server and client of the upstream specs of Kubernetes 1.36, which ask for it by this name; with busybox
/// and wget.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";
/// The image that the walkthrough's pod names: here agnhost with a web server on port 80.
pub const WEB_SERVER: &str = "docker.io/marksugar/nginx:1.14.a";
/// flanneld, with nft and busybox.
pub const FLANNEL: &str = "ghcr.io/flannel-io/flannel:v0.26.7";
/// The CNI plugin of flannel, with busybox to copy it.
pub const FLANNEL_CNI: &str = "ghcr.io/flannel-io/flannel-cni-plugin:v0.9.1";

const BUSYBOX: &str = "/bin/busybox";
const NFT: &str = "/usr/sbin/nft";
/// Debian's static busybox has one too, which crashes.
const WGET: &str = "/usr/bin/wget";

/// The archive with all of them, built if it is not in the cache.
pub(super) fn base(
    kubernetes: &Path,
    flannel: &Path,
    cni_flannel: &Path,
    pause: &Path,
    progress: &Progress,
) -> Result<PathBuf> {
    let mut key = Key::default();
    key.add("recipe", include_bytes!("images.rs")).add("format", include_bytes!("../archive.rs"));
    for built in [kubernetes, flannel, cni_flannel, pause] {
        // The folder's name holds the hash of what it was built from.
        key.add("built", built.as_os_str().as_encoded_bytes());
    }
    let (nft, wget) = (closure(NFT)?, closure(WGET)?);
    for file in nft.iter().chain(&wget).map(String::as_str).chain([BUSYBOX]) {
        key.add_file(Path::new(file))?;
    }
    let folder = cache::entry("images", "base", &key.finish(), |folder| {
        progress.step("writing the nodes' images");
        let path = folder.join("base.tar");
        let mut archive = Archive::create(&path)?;
        let mut add = |layer: LayerBuilder, images: &[(&str, &[&str], &[&str])]| -> io::Result<()> {
            let layer = archive.layer(layer)?;
            images.iter().try_for_each(|(name, entry, args)| archive.image(name, &layer, entry, args))
        };

        let mut layer = LayerBuilder::new().at(&path)?;
        layer.program(&pause.join("pause"), "pause")?;
        add(layer, &[(PAUSE, &["/pause"], &[])]).at(&path)?;

        let mut layer = with_busybox()?;
        layer.program(&kubernetes.join("agnhost"), "agnhost")?;
        layer.folder("uploads", 0o755).at(&path)?;
        for file in &wget {
            layer.program(Path::new(file), file)?;
        }
        let web: &[&str] = &["netexec", "--http-port=80", "--udp-port=-1"];
        add(layer, &[(AGNHOST, &["/agnhost"], &["pause"]), (WEB_SERVER, &["/agnhost"], web)]).at(&path)?;

        let mut layer = with_busybox()?;
        layer.program(&flannel.join("flannel"), "opt/bin/flanneld")?;
        for file in &nft {
            layer.program(Path::new(file), file)?;
        }
        add(layer, &[(FLANNEL, &["/opt/bin/flanneld"], &[])]).at(&path)?;

        let mut layer = with_busybox()?;
        layer.program(&cni_flannel.join("flannel"), "flannel")?;
        add(layer, &[(FLANNEL_CNI, &["/bin/sh"], &[])]).at(&path)?;
        archive.finish().at(&path)
    })?;
    Ok(folder.join("base.tar"))
}

fn with_busybox() -> Result<LayerBuilder> {
    let mut layer = LayerBuilder::new().at(BUSYBOX)?;
    layer.program(Path::new(BUSYBOX), BUSYBOX)?;
    for applet in
        run(&mut command(BUSYBOX, ["--list"]))?.lines().filter(|applet| !["busybox", "wget"].contains(applet))
    {
        layer.link(&format!("bin/{applet}"), "busybox").at(BUSYBOX)?;
    }
    Ok(layer)
}

/// A program and the shared libraries that it needs, by their paths.
fn closure(program: &str) -> Result<BTreeSet<String>> {
    let listed = run(&mut command("ldd", [program]))?;
    // "libmnl.so.0 => /lib/x86_64-linux-gnu/libmnl.so.0 (0x...)", or the loader's path alone.
    let paths = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.chain([program]).map(str::to_owned).collect())
}
