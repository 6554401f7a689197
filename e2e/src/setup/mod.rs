//! What a machine needs before a cluster can be brought up: Debian packages, Go binaries, images.

mod go;
mod images;
mod packages;

use std::path::PathBuf;

pub use images::{AGNHOST, FLANNEL, FLANNEL_CNI, PAUSE, WEB_SERVER};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::progress::Progress;

/// Everything that was built, in the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tools {
    /// kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl, agnhost, ginkgo, netpol.test.
    pub kubernetes: PathBuf,
    /// helm.
    pub helm: PathBuf,
    /// flannel (the daemon, flanneld).
    pub flannel: PathBuf,
    /// flannel (the CNI plugin).
    pub cni_flannel: PathBuf,
    /// pause.
    pub pause: PathBuf,
    /// A docker-archive with the images that every node gets.
    pub images: PathBuf,
}

/// The programs that talk to a cluster: all that a cluster from elsewhere needs.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The folder of kubectl, and of ginkgo and netpol.test, the upstream NetworkPolicy specs.
    pub kubernetes: PathBuf,
    /// The folder of helm.
    pub helm: PathBuf,
}

/// Installs and builds what is missing; when nothing is, this takes no time.
pub fn tools(progress: &Progress) -> Result<Tools> {
    packages::install_missing(progress)?;
    let kubernetes = go::build(&go::KUBERNETES, progress)?;
    let flannel = go::build(&go::FLANNEL, progress)?;
    let cni_flannel = go::build(&go::CNI_FLANNEL, progress)?;
    let pause = go::build(&go::PAUSE, progress)?;
    let helm = go::build(&go::HELM, progress)?;
    let images = images::base(&kubernetes, &flannel, &cni_flannel, &pause, progress)?;
    Ok(Tools { kubernetes, helm, flannel, cni_flannel, pause, images })
}

/// Builds the clients alone.
pub fn clients(progress: &Progress) -> Result<Clients> {
    let kubernetes = go::build(&go::KUBERNETES, progress)?;
    Ok(Clients { kubernetes, helm: go::build(&go::HELM, progress)? })
}
