//! From what is dirty to what changed: profiles, then node policies, then groups.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::groups::Sign;
use super::{Delta, Engine, Node};
use crate::compile::nets::merge;
use crate::compile::profile::profile;
use crate::compiled::{
    self, EndpointKey, GroupId, Masquerade, NamedPort, NodePolicy, PolicyKey, Profile, ProfileId, Shared,
};
use crate::hash::HashMap;
use crate::index::slab::Id;
use crate::index::{Endpoint, Set};
use crate::model::Pool;

/// Profiles that one flush found already, by the sets through which policies select and by named ports.
type Judged = HashMap<Vec<Id<Set>>, Vec<(BTreeMap<NamedPort, BTreeSet<u16>>, ProfileId)>>;

/// What one flush found already that nodes with these profiles need.
type Found = HashMap<Vec<ProfileId>, Needed>;

/// What profiles need of the cluster.
#[derive(Clone)]
struct Needed {
    policies: Shared<BTreeMap<PolicyKey, Arc<compiled::Policy>>>,
    groups: Shared<BTreeSet<GroupId>>,
}

impl Engine {
    /// Everything that the changes since the last flush made different.
    pub fn flush(&mut self) -> Delta {
        let mut delta = Delta::default();
        let (mut judged, mut found) = (Judged::default(), Found::default());
        for id in std::mem::take(&mut self.dirty.endpoints) {
            self.judge(id, &mut judged);
        }
        for id in std::mem::take(&mut self.dirty.nodes) {
            self.rebuild(id, &mut found, &mut delta);
        }
        delta.sets = self.take_dirty_sets();
        let handed_over = std::mem::take(&mut self.handed_over).into_iter();
        let another = handed_over.filter(|(address, before)| self.owner(*address) != before.as_ref());
        delta.handed_over = another.map(|(address, before)| (address, before.is_some())).collect();
        self.groups.flush(&mut self.index, &mut self.lists, &mut delta);
        self.mark_policies_of_changed_sets();
        delta.policies = std::mem::take(&mut self.dirty.policies).into_iter().collect();
        for key in &delta.policies {
            if let Some(policy) = self.policy_ids.get(key).and_then(|id| self.policies.get_mut(*id)) {
                policy.dirty = false;
            }
        }
        delta
    }

    /// Gives an endpoint its profile, which is that of one that the same policies select and that has the same ports.
    fn judge(&mut self, id: Id<Endpoint>, judged: &mut Judged) {
        let Some(endpoint) = self.index.endpoints.get_mut(id) else { return };
        endpoint.dirty = false;
        let sets = endpoint.sets.iter().filter_map(|id| Some((*id, self.index.sets.get(*id)?)));
        let (ids, sets): (Vec<_>, Vec<_>) = sets.filter(|(_, set)| !set.subjects.is_empty()).unzip();
        let same = judged.entry(ids).or_default();
        let known = same.iter().find(|(ports, _)| *ports == endpoint.named_ports);
        let profile = match known {
            Some((_, profile)) => self.profiles.again(*profile),
            None => {
                let policies =
                    sets.iter().flat_map(|set| &set.subjects).filter_map(|id| self.policies.get(*id));
                let placed = policies.map(|policy| &policy.placement);
                let profile = self.profiles.acquire(profile(placed, &self.tiers, &endpoint.named_ports));
                same.push((endpoint.named_ports.clone(), profile));
                profile
            }
        };
        if let Some(before) = endpoint.profile.replace(profile) {
            self.profiles.release(before);
        }
        let node = endpoint.node;
        self.mark_node(node);
    }

    /// Builds a node's policy anew, and says so where it is another.
    fn rebuild(&mut self, id: Id<Node>, found: &mut Found, delta: &mut Delta) {
        let Some(node) = self.nodes.get_mut(id) else { return };
        node.dirty = false;
        let Some(node) = self.nodes.get(id) else { return };
        let needed = node.present || !node.endpoints.is_empty();
        let after = needed.then(|| self.node_policy(node, found));
        if node.published.as_deref() == after.as_ref() {
            if !needed {
                self.forget(id);
            }
            return;
        }
        let name = node.name.clone();
        let (none, before) = (Shared::default(), node.published.clone());
        let old = before.as_deref().map_or(&none, |policy| &policy.groups);
        let new = after.as_ref().map_or(&none, |policy| &policy.groups);
        if old != new {
            for group in old.difference(new) {
                self.groups.span(*group, id, &name, Sign::Minus);
            }
            for group in new.difference(old) {
                self.groups.span(*group, id, &name, Sign::Plus);
            }
        }
        match after {
            Some(policy) => {
                let policy = Arc::new(policy);
                delta.nodes.insert(name, policy.clone());
                if let Some(node) = self.nodes.get_mut(id) {
                    node.published = Some(policy);
                }
            }
            None => {
                delta.removed_nodes.insert(name);
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: Id<Node>) {
        if let Some(node) = self.nodes.remove(id) {
            self.node_ids.remove(&node.name);
        }
    }

    fn node_policy(&self, node: &Node, found: &mut Found) -> NodePolicy {
        let mut profiles: BTreeMap<ProfileId, Shared<Profile>> = BTreeMap::new();
        let mut endpoints = Vec::with_capacity(node.endpoints.len());
        for id in &node.endpoints {
            let Some(endpoint) = self.index.endpoints.get(*id) else { continue };
            let Some(namespace) = self.index.namespaces.get(endpoint.namespace) else { continue };
            let Some(profile) = endpoint.profile else { continue };
            if let Some(content) = self.profiles.get(profile) {
                profiles.entry(profile).or_insert_with(|| content.clone());
            }
            let key = EndpointKey { namespace: namespace.name.clone(), name: endpoint.name.clone() };
            let addresses = endpoint.owned.iter().copied().collect();
            endpoints.push((key, compiled::Endpoint { uid: endpoint.uid.clone(), profile, addresses }));
        }
        let ids = profiles.keys().copied().collect();
        let published = node.published.as_deref();
        let Needed { policies, groups } =
            found.entry(ids).or_insert_with(|| self.needed(&profiles, published)).clone();
        let endpoints = endpoints.into_iter().collect();
        let masquerade = self.masquerade(&node.name);
        NodePolicy { node: node.name.clone(), endpoints, profiles, policies, groups, masquerade }
    }

    /// What profiles need: what a node has already, where that is the same, so that many have it once.
    fn needed(
        &self,
        profiles: &BTreeMap<ProfileId, Shared<Profile>>,
        published: Option<&NodePolicy>,
    ) -> Needed {
        let mut policies = BTreeMap::new();
        for profile in profiles.values() {
            for key in profile.ingress.iter().chain(&profile.egress).flat_map(|step| &step.policies) {
                if policies.contains_key(key) {
                    continue;
                }
                if let Some(policy) = self.policy_ids.get(key).and_then(|id| self.policies.get(*id)) {
                    policies.insert(key.clone(), policy.compiled.clone());
                }
            }
        }
        let groups = policies.values().flat_map(|policy| policy.groups()).collect();
        let needed = Needed { policies: policies.into(), groups };
        match published {
            Some(known) if known.policies == needed.policies && known.groups == needed.groups => {
                Needed { policies: known.policies.clone(), groups: known.groups.clone() }
            }
            _ => needed,
        }
    }

    /// What leaves all pools from one whose nodes this is of.
    fn masquerade(&self, node: &str) -> Option<Masquerade> {
        let own = |pool: &&Pool| pool.nat_outgoing && self.node_matches(node, &pool.nodes);
        let from = merge(self.pools.values().filter(own).map(|pool| pool.net).collect());
        let inside = || merge(self.pools.values().map(|pool| pool.net).collect());
        (!from.is_empty()).then(|| Masquerade { from, inside: inside() })
    }
}
