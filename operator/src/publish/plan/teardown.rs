//! Whether everything is torn down.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Whether somebody tears everything down.
#[derive(Debug, Default)]
pub(super) struct Teardown {
    /// NodePolicies whose flag was set while this led. A flag that stood before is left over, or is set again.
    pub(super) asked: BTreeSet<Arc<str>>,
    /// Nothing is published. It stays when the last NodePolicy that was asked goes: that is how a teardown ends, and
    /// what came after it would stay in the kernels.
    pub(super) mute: bool,
}

impl Teardown {
    /// A NodePolicy's flag was set, or taken back.
    pub(super) fn flag(&mut self, node: &Arc<str>, set: bool) {
        if set {
            self.asked.insert(node.clone());
            if !self.mute {
                tracing::warn!(node = &**node, "teardown was asked for: nothing is published any more");
            }
            self.mute = true;
        } else if self.asked.remove(node) && self.asked.is_empty() {
            tracing::warn!(node = &**node, "the last teardown was taken back: publishing goes on");
            self.mute = false;
        }
    }
}
