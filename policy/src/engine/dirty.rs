//! What has to be computed again at the next flush. Flags in the things themselves keep each on its list once.

use super::{Engine, Node, Policy};
use crate::compiled::PolicyKey;
use crate::index::slab::Id;
use crate::index::{Endpoint, Set};

#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Endpoints whose profile or entry in the node policy may be another.
    pub(super) endpoints: Vec<Id<Endpoint>>,
    /// Nodes whose policy may be another.
    pub(super) nodes: Vec<Id<Node>>,
    /// Sets that have their own marks: what policies select through them may be another.
    pub(super) sets: Vec<Id<Set>>,
    /// Policies whose status may be another.
    pub(super) policies: Vec<PolicyKey>,
}

impl Dirty {
    pub(super) fn endpoint(&mut self, id: Id<Endpoint>, endpoint: &mut Endpoint) {
        if !std::mem::replace(&mut endpoint.dirty, true) {
            self.endpoints.push(id);
        }
    }

    pub(super) fn policy(&mut self, policy: &mut Policy) {
        if !std::mem::replace(&mut policy.dirty, true) {
            self.policies.push(policy.placement.key.clone());
        }
    }
}

impl Engine {
    pub(super) fn mark_endpoint(&mut self, id: Id<Endpoint>) {
        if let Some(endpoint) = self.index.endpoints.get_mut(id) {
            self.dirty.endpoint(id, endpoint);
        }
    }

    pub(super) fn mark_node(&mut self, id: Id<Node>) {
        if let Some(node) = self.nodes.get_mut(id)
            && !std::mem::replace(&mut node.dirty, true)
        {
            self.dirty.nodes.push(id);
        }
    }

    pub(super) fn mark_policy(&mut self, id: Id<Policy>) {
        if let Some(policy) = self.policies.get_mut(id) {
            self.dirty.policy(policy);
        }
    }
}
