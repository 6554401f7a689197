//! Changes of policies and tiers.

use std::sync::Arc;

use super::groups::{Group, Sign};
use super::{Engine, Node};
use crate::compile::profile::{Placement, Says};
use crate::compile::{Compiled, compile, counts};
use crate::compiled::{self, PolicyKey};
use crate::index::Set;
use crate::index::slab::Id;
use crate::model::{self, Ports};

/// A policy that the engine holds.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(super) placement: Placement,
    /// None where its selector can match nothing.
    pub(super) subject: Option<Id<Set>>,
    pub(super) compiled: Arc<compiled::Policy>,
    groups: Box<[Id<Group>]>,
    /// What it was compiled from, where that must be done again when a Service that it names changes.
    pub(super) again: Option<Box<model::Policy>>,
    /// It is on the list of policies to report.
    pub(super) dirty: bool,
}

impl Engine {
    pub(super) fn set_policy(&mut self, key: PolicyKey, policy: Option<model::Policy>) {
        let known = self.policy_ids.get(&key).copied();
        match (known, policy) {
            (None, None) => {}
            (None, Some(policy)) => {
                let policy = self.prepare(&key, policy);
                let key = policy.placement.key.clone();
                let id = self.policies.insert(policy);
                self.policy_ids.insert(key, id);
                self.attach(id);
            }
            (Some(id), None) => {
                self.detach(id);
                self.policy_ids.remove(&key);
                if let Some(policy) = self.policies.remove(id) {
                    self.discard(&policy);
                }
            }
            (Some(id), Some(policy)) => {
                let policy = self.prepare(&key, policy);
                if self.policies.get(id).is_some_and(|known| known.same(&policy)) {
                    self.discard(&policy);
                    return;
                }
                self.detach(id);
                if let Some(known) = self.policies.get_mut(id) {
                    let dirty = known.dirty;
                    let old = std::mem::replace(known, Policy { dirty, ..policy });
                    self.discard(&old);
                }
                self.attach(id);
            }
        }
    }

    pub(super) fn set_tier(&mut self, name: &Arc<str>, tier: Option<model::Tier>) {
        if self.tiers.set(name, tier) {
            for id in self.policies_by_tier.get(name).cloned().unwrap_or_default() {
                self.mark_subject(id);
            }
        }
    }

    /// Compiles a policy, and makes the sets and groups that it needs.
    fn prepare(&mut self, key: &PolicyKey, policy: model::Policy) -> Policy {
        let Compiled { policy: compiled, groups, names } =
            compile(&policy, &|service| self.lists.whole(service));
        let placement = Placement {
            key: PolicyKey {
                kind: key.kind,
                namespace: self.index.strings.intern(&key.namespace),
                name: self.index.strings.intern(&key.name),
            },
            tier: self.index.strings.intern(&policy.tier),
            order: policy.order,
            ingress: says(policy.ingress.as_deref()),
            egress: says(policy.egress.as_deref()),
            names,
        };
        let again = names_services(&policy).then(|| Box::new(policy.clone()));
        let subject = policy.subject.canonical().map(|pods| self.index.use_set(&pods));
        let acquire = |(id, spec)| self.groups.acquire(&mut self.index, &mut self.lists, id, &spec);
        let groups = groups.into_iter().map(acquire).collect();
        Policy { placement, subject, compiled: Arc::new(compiled), groups, again, dirty: false }
    }

    /// Gives back what [`Engine::prepare`] took.
    fn discard(&mut self, policy: &Policy) {
        for group in &policy.groups {
            self.groups.release(*group);
        }
        if let Some(subject) = policy.subject {
            self.index.release_set(subject);
        }
    }

    /// Makes a policy select its subject.
    fn attach(&mut self, id: Id<Policy>) {
        let Some(policy) = self.policies.get(id) else { return };
        self.policies_by_tier.entry(policy.placement.tier.clone()).or_default().insert(id);
        for group in policy.groups.clone() {
            self.name_group(group, id, Sign::Plus);
        }
        let Some(policy) = self.policies.get(id) else { return };
        if let Some(set) = policy.subject.and_then(|set| self.index.sets.get_mut(set)) {
            if set.subjects.is_empty() {
                for endpoint in set.members.iter().filter_map(|member| self.index.endpoints.get(*member)) {
                    set.nodes.add(endpoint.node);
                }
            }
            set.subjects.insert(id);
        }
        self.mark_subject(id);
    }

    fn detach(&mut self, id: Id<Policy>) {
        self.mark_subject(id);
        for group in self.policies.get(id).map(|policy| policy.groups.clone()).unwrap_or_default() {
            self.name_group(group, id, Sign::Minus);
        }
        let Some(policy) = self.policies.get(id) else { return };
        if let Some(tier) = self.policies_by_tier.get_mut(&policy.placement.tier) {
            tier.remove(&id);
            if tier.is_empty() {
                self.policies_by_tier.remove(&policy.placement.tier);
            }
        }
        if let Some(set) = policy.subject.and_then(|set| self.index.sets.get_mut(set)) {
            set.subjects.remove(&id);
            if set.subjects.is_empty() {
                set.nodes.clear();
            }
        }
    }

    /// Every endpoint that a policy selects needs another profile, or a node policy with other rules.
    fn mark_subject(&mut self, id: Id<Policy>) {
        self.mark_policy(id);
        let subject = self.policies.get(id).and_then(|policy| policy.subject);
        let Some((id, set)) = subject.and_then(|id| Some((id, self.index.sets.get_mut(id)?))) else { return };
        if std::mem::replace(&mut set.judged, true) {
            return;
        }
        self.dirty.sets.push(id);
        for member in &set.members {
            if let Some(endpoint) = self.index.endpoints.get_mut(*member) {
                self.dirty.endpoint(*member, endpoint);
            }
        }
    }

    /// One endpoint more or less on a node in a set; false where it needs no other profile for that: it is no policy's
    /// subject, and was none since the last flush.
    pub(super) fn count_subject(&mut self, id: Id<Set>, node: Id<Node>, sign: Sign) -> bool {
        let Some(set) = self.index.sets.get_mut(id) else { return false };
        if set.subjects.is_empty() {
            return set.judged;
        }
        match sign {
            Sign::Plus => set.nodes.add(node),
            Sign::Minus => set.nodes.remove(node),
        }
        if !std::mem::replace(&mut set.changed, true) {
            self.dirty.sets.push(id);
        }
        true
    }

    /// Policies whose status may be another because of whom they select.
    pub(super) fn mark_policies_of_changed_sets(&mut self) {
        for id in std::mem::take(&mut self.dirty.sets) {
            let Some(set) = self.index.sets.get_mut(id) else { continue };
            set.judged = false;
            if !std::mem::take(&mut set.changed) {
                continue;
            }
            for policy in &set.subjects {
                if let Some(policy) = self.policies.get_mut(*policy) {
                    self.dirty.policy(policy);
                }
            }
        }
    }
}

/// Whether a policy says anything of the ports of a Service's backends.
fn names_services(policy: &model::Policy) -> bool {
    let rules = policy.ingress.iter().chain(&policy.egress).flatten();
    let mut entries = rules.flat_map(|rule| &rule.ports).flat_map(|term| &term.ports);
    entries.any(|entry| matches!(entry, Ports::Backends(_)))
}

fn says(rules: Option<&[model::Rule]>) -> Says {
    match rules {
        None => Says::Nothing,
        Some(rules) if counts(rules) => Says::Decides,
        Some(_) => Says::Logs,
    }
}

impl Policy {
    fn same(&self, other: &Self) -> bool {
        self.placement == other.placement && self.subject == other.subject && self.compiled == other.compiled
    }
}
