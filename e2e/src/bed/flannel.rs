//! flannel's manifest.

use super::layout::{Backend, POD_NETWORKS};
use crate::setup::{FLANNEL, FLANNEL_CNI};

/// The manifest that installs flannel.
pub(super) fn manifest(backend: Backend) -> String {
    let values = [
        ("${pods4}", POD_NETWORKS[0]),
        ("${pods6}", POD_NETWORKS[1]),
        ("${backend}", backend.flannel_name()),
        ("${image}", FLANNEL),
        ("${plugin_image}", FLANNEL_CNI),
    ];
    let template = include_str!("flannel.yaml").to_owned();
    values.iter().fold(template, |text, (name, value)| text.replace(name, value))
}
