//! NetworkSets: which groups list them, and what one more or less of their networks changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;

use super::groups::{Group, Groups, Listed, ListedOf, Sign, Source};
use super::lists::Lists;
use super::{Engine, Policy};
use crate::compiled::{Member, PolicyKey};
use crate::index::Index;
use crate::index::buckets::fulfilled;
use crate::index::labels::LabelSet;
use crate::index::slab::Id;
use crate::model::{self, Key, Namespaces, given};

/// A NetworkSet or GlobalNetworkSet.
#[derive(Debug)]
pub(crate) struct NetSet {
    key: Key,
    /// Its labels, those that it is given included.
    labels: LabelSet,
    nets: Vec<IpNet>,
    pub(super) groups: BTreeSet<Id<Group>>,
}

/// What the engine knows of a NetworkSet, for its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetStatus {
    /// How many different networks it holds.
    pub members: usize,
    /// Policies that name it through a selector, sorted.
    pub policies: Vec<PolicyKey>,
}

impl Lists {
    /// A set comes into a group or goes out of it.
    pub(super) fn put(&mut self, groups: &mut Groups, set: Id<NetSet>, group: Id<Group>, sign: Sign) {
        let Some(known) = self.sets.get_mut(set) else { return };
        match sign {
            Sign::Plus => known.groups.insert(group),
            Sign::Minus => known.groups.remove(&group),
        };
        for net in &known.nets {
            groups.list(group, Member::Net(*net), sign);
        }
        if let Some(Source::Listed(listed)) = groups.by_id_mut(group).map(|group| &mut group.source) {
            match sign {
                Sign::Plus => listed.sets.insert(set),
                Sign::Minus => listed.sets.remove(&set),
            };
        }
        self.dirty.insert(known.key.clone());
    }

    /// Groups that a set belongs to by its labels and namespace.
    fn groups_for(&self, index: &Index, groups: &Groups, set: &NetSet) -> BTreeSet<Id<Group>> {
        let candidates = fulfilled(&set.labels).flat_map(|key| self.set_groups.get((), key));
        let matches = |id: &Id<Group>| match groups.by_id(*id).map(|group| &group.source) {
            Some(Source::Listed(Listed { of: ListedOf::Sets(selection), .. })) => set.is_in(index, selection),
            _ => false,
        };
        candidates.filter(matches).collect()
    }

    /// Puts a set into the groups where it belongs now.
    fn reassign(&mut self, index: &Index, groups: &mut Groups, id: Id<NetSet>) {
        let Some(set) = self.sets.get(id) else { return };
        let (before, after) = (set.groups.clone(), self.groups_for(index, groups, set));
        for group in before.difference(&after) {
            self.put(groups, id, *group, Sign::Minus);
        }
        for group in after.difference(&before) {
            self.put(groups, id, *group, Sign::Plus);
        }
    }
}

impl NetSet {
    pub(super) fn is_in(&self, index: &Index, selection: &model::SetSelection) -> bool {
        let place = match (&selection.namespaces, &*self.key.namespace) {
            (None, namespace) => namespace.is_empty(),
            (Some(_), "") => false,
            (Some(Namespaces::Named(name)), _) => *name == self.key.namespace,
            (Some(Namespaces::Matching(selector)), _) => {
                let id = index.namespace_id(&self.key.namespace);
                let namespace = id.and_then(|id| index.namespaces.get(id));
                namespace.is_some_and(|namespace| selector.matches(&namespace.labels))
            }
        };
        place && selection.sets.matches(&self.labels)
    }
}

impl Engine {
    pub(super) fn set_network_set(&mut self, key: Key, set: Option<model::NetworkSet>) {
        let known = self.lists.set_ids.get(&key).copied();
        match (known, set) {
            (None, None) => {}
            (None, Some(set)) => {
                self.lists.dirty.insert(key.clone());
                if !key.namespace.is_empty() {
                    let namespace = self.index.namespace_or_new(&key.namespace);
                    if let Some(namespace) = self.index.namespaces.get_mut(namespace) {
                        namespace.network_sets += 1;
                    }
                }
                let labels = self.set_labels(&key, &set.labels);
                let nets = distinct(set.nets);
                let id = self.lists.sets.insert(NetSet {
                    key: key.clone(),
                    labels: LabelSet::default(),
                    nets,
                    groups: BTreeSet::new(),
                });
                self.lists.set_ids.insert(key, id);
                self.relabel_set(id, labels);
            }
            (Some(id), Some(set)) => {
                let labels = self.set_labels(&key, &set.labels);
                self.relabel_set(id, labels);
                self.change_nets(id, distinct(set.nets));
            }
            (Some(id), None) => {
                self.lists.dirty.insert(key.clone());
                self.relabel_set(id, LabelSet::default());
                for group in self.lists.sets.get(id).map(|set| set.groups.clone()).unwrap_or_default() {
                    self.lists.put(&mut self.groups, id, group, Sign::Minus);
                }
                self.lists.sets.remove(id);
                self.lists.set_ids.remove(&key);
                // A selector can name a namespace without a name; global sets are in none.
                if !key.namespace.is_empty()
                    && let Some(id) = self.index.namespace_id(&key.namespace)
                    && let Some(namespace) = self.index.namespaces.get_mut(id)
                {
                    namespace.network_sets -= 1;
                    self.index.drop_namespace_if_unused(id);
                }
            }
        }
    }

    fn set_labels(&mut self, key: &Key, labels: &model::Labels) -> LabelSet {
        let mut labels = labels.clone();
        if !key.namespace.is_empty() {
            labels.insert(given::NAMESPACE.into(), key.namespace.clone());
        }
        self.index.strings.labels(&labels)
    }

    fn relabel_set(&mut self, id: Id<NetSet>, labels: LabelSet) {
        let Some(set) = self.lists.sets.get_mut(id) else { return };
        self.lists.set_labels.refile_all(id, &set.labels, &labels);
        set.labels = labels;
        self.lists.reassign(&self.index, &mut self.groups, id);
    }

    fn change_nets(&mut self, id: Id<NetSet>, nets: Vec<IpNet>) {
        let Some(set) = self.lists.sets.get_mut(id) else { return };
        let before = std::mem::replace(&mut set.nets, nets);
        let (removed, added) = (without(&before, &set.nets), without(&set.nets, &before));
        if removed.is_empty() && added.is_empty() {
            return;
        }
        self.lists.dirty.insert(set.key.clone());
        for group in &set.groups {
            removed.iter().for_each(|net| self.groups.list(*group, Member::Net(*net), Sign::Minus));
            added.iter().for_each(|net| self.groups.list(*group, Member::Net(*net), Sign::Plus));
        }
    }

    /// A namespace's labels changed: its NetworkSets may belong elsewhere.
    pub(super) fn reassign_sets(&mut self, namespace: &Arc<str>) {
        let first = Key { namespace: namespace.clone(), name: "".into() };
        let own = self.lists.set_ids.range(first..).take_while(|(key, _)| key.namespace == *namespace);
        for id in own.map(|(_, id)| *id).collect::<Vec<_>>() {
            self.lists.reassign(&self.index, &mut self.groups, id);
        }
    }

    /// A policy begins to name a group, or stops.
    pub(super) fn name_group(&mut self, id: Id<Group>, policy: Id<Policy>, sign: Sign) {
        let Some(group) = self.groups.by_id_mut(id) else { return };
        match sign {
            Sign::Plus => group.policies.insert(policy),
            Sign::Minus => group.policies.remove(&policy),
        };
        if let Source::Listed(_) = &group.source {
            self.lists.named.insert(id);
        }
    }

    /// Sets whose status may be another than at the last flush. To be asked before groups that nothing names are gone.
    pub(super) fn take_dirty_sets(&mut self) -> BTreeSet<Key> {
        let mut dirty = std::mem::take(&mut self.lists.dirty);
        for group in std::mem::take(&mut self.lists.named) {
            if let Some(Source::Listed(listed)) = self.groups.by_id(group).map(|group| &group.source) {
                let sets = listed.sets.iter().filter_map(|set| self.lists.sets.get(*set));
                dirty.extend(sets.map(|set| set.key.clone()));
            }
        }
        dirty
    }

    /// Every NetworkSet that the engine holds.
    pub fn sets(&self) -> BTreeSet<Key> {
        self.lists.set_ids.keys().cloned().collect()
    }

    /// What there is to say of a NetworkSet.
    pub fn set_status(&self, key: &Key) -> Option<SetStatus> {
        let set = self.lists.sets.get(*self.lists.set_ids.get(key)?)?;
        let groups = set.groups.iter().filter_map(|group| self.groups.by_id(*group));
        let policies = groups.flat_map(|group| &group.policies).filter_map(|id| self.policies.get(*id));
        let policies: BTreeSet<PolicyKey> = policies.map(|policy| policy.placement.key.clone()).collect();
        Some(SetStatus { members: set.nets.len(), policies: policies.into_iter().collect() })
    }
}

/// Masked, sorted, each once.
fn distinct(nets: Vec<IpNet>) -> Vec<IpNet> {
    let mut nets: Vec<IpNet> = nets.iter().map(IpNet::trunc).collect();
    nets.sort_unstable();
    nets.dedup();
    nets
}

/// What the first has and the second has not; both are sorted.
fn without(nets: &[IpNet], other: &[IpNet]) -> Vec<IpNet> {
    let mut other = other.iter().peekable();
    let absent = |net: &&IpNet| {
        while other.next_if(|known| known < net).is_some() {}
        other.peek() != Some(net)
    };
    nets.iter().filter(absent).copied().collect()
}
