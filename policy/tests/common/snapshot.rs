//! Everything that an engine says, asked of it or summed up from its deltas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvage_policy::compiled::{GroupId, GroupKind, Member, NodePolicy, PolicyKey};
use selvage_policy::engine::{Delta, Engine, PolicyStatus, SetStatus};
use selvage_policy::model::Key;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub nodes: BTreeMap<Arc<str>, Arc<NodePolicy>>,
    pub groups: BTreeMap<GroupId, Group>,
    pub policies: BTreeMap<PolicyKey, PolicyStatus>,
    pub sets: BTreeMap<Key, SetStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub kind: GroupKind,
    pub of_pods: bool,
    pub members: BTreeSet<Member>,
    pub span: BTreeSet<Arc<str>>,
    /// The pod behind each member, as a reader knows it that looks at what changed alone.
    pub owners: BTreeMap<Member, Option<Arc<str>>>,
}

impl Snapshot {
    pub fn of(engine: &Engine) -> Self {
        let group = |id| {
            let state = engine.group(id).unwrap();
            let owner = |member: &Member| (*member, owner(engine, state.of_pods, member));
            let owners = state.members.iter().map(owner).collect();
            let (kind, of_pods, members) = (state.kind, state.of_pods, state.members);
            let group = Group { kind, of_pods, members, span: state.span.into_iter().collect(), owners };
            (id, group)
        };
        let (policies, sets) = (engine.policies().into_iter(), engine.sets().into_iter());
        Self {
            nodes: engine.nodes().into_iter().map(|node| (node.node.clone(), node)).collect(),
            groups: engine.groups().into_iter().map(group).collect(),
            policies: policies.map(|key| (key.clone(), engine.policy(&key).unwrap())).collect(),
            sets: sets.map(|key| (key.clone(), engine.set_status(&key).unwrap())).collect(),
        }
    }

    /// What a publisher knows after one delta more. Deltas must say no more than what changed.
    pub fn follow(&mut self, delta: Delta, engine: &Engine) {
        for (name, policy) in delta.nodes {
            assert_eq!(name, policy.node);
            let before = self.nodes.insert(name, policy.clone());
            assert_ne!(before, Some(policy), "a node policy that did not change");
        }
        for name in delta.removed_nodes {
            assert!(self.nodes.remove(&name).is_some(), "{name} was never published");
        }
        for (id, change) in delta.groups {
            assert_eq!(change.created, !self.groups.contains_key(&id), "{id}");
            let group = self.groups.entry(id).or_insert_with(|| Group {
                kind: change.kind,
                of_pods: change.of_pods,
                members: BTreeSet::new(),
                span: BTreeSet::new(),
                owners: BTreeMap::new(),
            });
            let members = change.added.len() + change.removed.len() + change.renewed.len();
            let changes = members + change.span_added.len();
            assert!(changes + change.span_removed.len() > 0, "{id} did not change");
            for list in [&change.added, &change.removed, &change.renewed] {
                assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
            }
            for list in [&change.span_added, &change.span_removed] {
                assert!(list.is_sorted_by(|a, b| a < b), "{list:?}");
            }
            change.removed.iter().for_each(|member| assert!(group.members.remove(member), "{member:?}"));
            change.added.iter().for_each(|member| assert!(group.members.insert(*member), "{member:?}"));
            for member in &change.removed {
                group.owners.remove(member);
            }
            for member in change.added.iter().chain(&change.renewed) {
                let after = owner(engine, group.of_pods, member);
                let before = group.owners.insert(*member, after.clone());
                assert!(!change.renewed.contains(member) || before.unwrap() != after, "{member:?}");
            }
            change.span_removed.iter().for_each(|node| assert!(group.span.remove(node), "{node}"));
            change.span_added.iter().for_each(|node| assert!(group.span.insert(node.clone()), "{node}"));
        }
        for id in delta.removed_groups {
            assert!(self.groups.remove(&id).is_some(), "{id} was never published");
        }
        for key in delta.policies {
            match engine.policy(&key) {
                Some(status) => self.policies.insert(key, status),
                None => self.policies.remove(&key),
            };
        }
        for key in delta.sets {
            match engine.set_status(&key) {
                Some(status) => self.sets.insert(key, status),
                None => self.sets.remove(&key),
            };
        }
    }

    /// What must hold between node policies and groups.
    pub fn check(&self) {
        let mut spans: BTreeMap<GroupId, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (name, node) in &self.nodes {
            for group in &node.groups {
                spans.entry(*group).or_default().insert(name.clone());
            }
            for endpoint in node.endpoints.values() {
                assert!(node.profiles.contains_key(&endpoint.profile));
            }
            let used: BTreeSet<_> = node.endpoints.values().map(|endpoint| endpoint.profile).collect();
            assert_eq!(used, node.profiles.keys().copied().collect());
            let steps =
                node.profiles.values().flat_map(|profile| profile.ingress.iter().chain(&profile.egress));
            let named: BTreeSet<_> = steps.flat_map(|step| &step.policies).collect();
            assert_eq!(named, node.policies.keys().collect());
        }
        let known: BTreeMap<_, _> = self.groups.iter().map(|(id, group)| (*id, group.span.clone())).collect();
        assert_eq!(spans, known);
    }
}

/// The pod behind a member of a group of pods.
fn owner(engine: &Engine, of_pods: bool, member: &Member) -> Option<Arc<str>> {
    engine.owner(member.address()).filter(|_| of_pods).cloned()
}
