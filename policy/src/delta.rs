//! What one flush of the engine changed: the unit that is published.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compiled::{GroupId, GroupKind, Member, NodePolicy, PolicyKey};
use crate::model::Key;

/// Differences between the state after this flush and the state after the one before.
///
/// Publish in the order that the design asks for: spans and members that groups gain, then node policies, then
/// members, spans, groups and nodes that went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delta {
    /// Nodes whose policy is new or another than before, whole.
    pub nodes: BTreeMap<Arc<str>, Arc<NodePolicy>>,
    /// Nodes that have neither an object nor endpoints any more.
    pub removed_nodes: BTreeSet<Arc<str>>,
    /// Groups that at least one node's policy names and that changed in members or span.
    pub groups: BTreeMap<GroupId, GroupDelta>,
    /// Groups that no node's policy names any more.
    pub removed_groups: BTreeSet<GroupId>,
    /// Addresses that another pod has than before, none any more, or one now; true: a pod had it before.
    pub handed_over: BTreeMap<IpAddr, bool>,
    /// Policies that came, went or changed, and those whose [`PolicyStatus`] may be another than before.
    ///
    /// [`PolicyStatus`]: crate::engine::PolicyStatus
    pub policies: BTreeSet<PolicyKey>,
    /// NetworkSets that came, went or changed, and those whose [`SetStatus`] may be another than before.
    ///
    /// [`SetStatus`]: crate::engine::SetStatus
    pub sets: BTreeSet<Key>,
}

/// How one group changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDelta {
    /// What its members are.
    pub kind: GroupKind,
    /// Its members are pods: each is there because of the pod that has the address.
    pub of_pods: bool,
    /// No node named the group before: `added` is every member and `span_added` every node.
    pub created: bool,
    /// Members that it gained, sorted.
    pub added: Vec<Member>,
    /// Members that it lost, sorted.
    pub removed: Vec<Member>,
    /// Members that it has as before, of another pod, sorted.
    pub renewed: Vec<Member>,
    /// Nodes whose policy names it now and did not before, sorted.
    pub span_added: Vec<Arc<str>>,
    /// Nodes whose policy does not name it any more, sorted.
    pub span_removed: Vec<Arc<str>>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.removed_nodes.is_empty()
            && self.groups.is_empty()
            && self.removed_groups.is_empty()
            && self.handed_over.is_empty()
            && self.policies.is_empty()
            && self.sets.is_empty()
    }
}
