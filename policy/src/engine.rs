//! The incremental compiler: changes of objects in, changes of node policies and groups out.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::compiled::{EndpointKey, GroupId, GroupKind, Member, NodePolicy, PolicyKey, Profile, ProfileId};
pub use crate::delta::{Delta, GroupDelta};
use crate::model::Change;

/// The state of the cluster and what it means for every node.
///
/// What it gives depends on the objects it holds alone, never on the order in which they came, with one exception
/// that the semantics ask for: a pod whose address list turns empty keeps the addresses it had.
#[derive(Debug, Default)]
pub struct Engine {}

/// Whether a policy is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It is part of the policy of every node in its span.
    Enforced,
    /// The tier it names does not exist.
    MissingTier(Arc<str>),
}

/// What the engine knows of a policy, for its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The uid of the object that was applied.
    pub uid: Arc<str>,
    /// Its generation.
    pub generation: i64,
    /// Whether it is enforced.
    pub enforcement: Enforcement,
    /// How many endpoints it selects, enforced or not.
    pub endpoints: usize,
    /// Nodes with at least one endpoint that it is enforced for, sorted; empty where it is not enforced.
    pub nodes: Vec<Arc<str>>,
}

/// A group as it stands after the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// What its members are.
    pub kind: GroupKind,
    /// All its members.
    pub members: BTreeSet<Member>,
    /// Nodes whose policy names it, sorted.
    pub span: Vec<Arc<str>>,
}

/// An endpoint as it stands after the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// The node it is bound to.
    pub node: Arc<str>,
    /// Which profile judges it.
    pub profile_id: ProfileId,
    /// That profile.
    pub profile: Arc<Profile>,
    /// Addresses that it owns.
    pub addresses: Vec<std::net::IpAddr>,
}

impl Engine {
    /// An empty cluster: no object but the three tiers that always exist.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one change. Costs by what it affects; nothing is published before [`Engine::flush`].
    pub fn apply(&mut self, change: Change) {
        let _ = change;
    }

    /// Everything that the changes since the last flush made different.
    pub fn flush(&mut self) -> Delta {
        Delta::default()
    }

    /// The policy of a node, as the last flush left it.
    pub fn node(&self, name: &str) -> Option<Arc<NodePolicy>> {
        let _ = name;
        None
    }

    /// The policies of all nodes, by name.
    pub fn nodes(&self) -> Vec<Arc<NodePolicy>> {
        Vec::new()
    }

    /// A group in some node's span, as the last flush left it.
    pub fn group(&self, id: GroupId) -> Option<GroupState> {
        let _ = id;
        None
    }

    /// Every group in some node's span.
    pub fn groups(&self) -> BTreeSet<GroupId> {
        BTreeSet::new()
    }

    /// A policy's status.
    pub fn policy(&self, key: &PolicyKey) -> Option<PolicyStatus> {
        let _ = key;
        None
    }

    /// Every policy that the engine holds, enforced or not.
    pub fn policies(&self) -> Vec<PolicyKey> {
        Vec::new()
    }

    /// An endpoint.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<EndpointState> {
        let _ = key;
        None
    }
}
