//! NetworkSets, Services' backends and nodes: what groups hold that are no pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::groups::{Group, Groups, Listed, ListedOf, Sign, Source};
use super::{Engine, Policy};
use crate::compiled::{Member, PolicyKey};
use crate::index::Index;
use crate::index::buckets::{Buckets, fulfilled, keys};
use crate::index::labels::LabelSet;
use crate::index::slab::{Id, Slab};
use crate::model::{self, Key, Namespaces, given};
use crate::selector::Selector;

/// Objects that groups list, and the groups that list them.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    sets: Slab<NetSet>,
    set_ids: BTreeMap<Key, Id<NetSet>>,
    /// Sets by the values of their labels.
    set_labels: Buckets<Id<NetSet>>,
    /// Groups of sets by the keys of their selectors.
    set_groups: Buckets<Id<Group>>,
    backends: BTreeMap<Key, model::Backends>,
    /// EndpointSlices by their Service.
    slices: BTreeMap<Key, BTreeSet<Key>>,
    /// Groups by the Service that they are made of.
    service_groups: HashMap<Key, BTreeSet<Id<Group>>>,
    nodes: BTreeMap<Arc<str>, NodeFacts>,
    node_groups: BTreeSet<Id<Group>>,
    /// Sets whose status may be another than at the last flush.
    pub(super) dirty: BTreeSet<Key>,
}

/// A NetworkSet or GlobalNetworkSet.
#[derive(Debug)]
pub(crate) struct NetSet {
    key: Key,
    /// Its labels, those that it is given included.
    labels: LabelSet,
    nets: Vec<IpNet>,
    groups: BTreeSet<Id<Group>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct NodeFacts {
    labels: LabelSet,
    addresses: BTreeSet<IpAddr>,
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
    /// Finds what a new group lists.
    pub(super) fn fill(&mut self, index: &Index, groups: &mut Groups, id: Id<Group>, of: &ListedOf) {
        match of {
            ListedOf::Sets(selection) => {
                for key in keys(&selection.sets) {
                    self.set_groups.insert((), key, id);
                }
                let by_label = keys(&selection.sets);
                let candidates: Vec<Id<NetSet>> = match by_label.contains(&crate::index::buckets::Key::Any) {
                    true => self.sets.iter().map(|(id, _)| id).collect(),
                    false => {
                        let found = by_label.into_iter().flat_map(|key| self.set_labels.get((), key));
                        found.collect::<BTreeSet<_>>().into_iter().collect()
                    }
                };
                for set in candidates {
                    if self.sets.get(set).is_some_and(|set| set.is_in(index, selection)) {
                        self.put(groups, set, id, Sign::Plus);
                    }
                }
            }
            ListedOf::Backends(service, _) => {
                self.service_groups.entry(service.clone()).or_default().insert(id);
                for slice in self.slices.get(service).into_iter().flatten() {
                    if let Some(backends) = self.backends.get(slice) {
                        list_backends(groups, id, of, backends, Sign::Plus);
                    }
                }
            }
            ListedOf::Nodes(selector) => {
                self.node_groups.insert(id);
                for node in self.nodes.values().filter(|node| selector.matches(&node.labels)) {
                    list_addresses(groups, id, &node.addresses, Sign::Plus);
                }
            }
        }
    }

    /// A group that is gone lists nothing any more.
    pub(super) fn forget(&mut self, id: Id<Group>, listed: &Listed) {
        match &listed.of {
            ListedOf::Sets(selection) => {
                for key in keys(&selection.sets) {
                    self.set_groups.remove((), key, id);
                }
                for set in &listed.sets {
                    if let Some(set) = self.sets.get_mut(*set) {
                        set.groups.remove(&id);
                    }
                }
            }
            ListedOf::Backends(service, _) => {
                if let Some(groups) = self.service_groups.get_mut(service) {
                    groups.remove(&id);
                    if groups.is_empty() {
                        self.service_groups.remove(service);
                    }
                }
            }
            ListedOf::Nodes(_) => {
                self.node_groups.remove(&id);
            }
        }
    }

    /// A set comes into a group or goes out of it.
    fn put(&mut self, groups: &mut Groups, set: Id<NetSet>, group: Id<Group>, sign: Sign) {
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

    pub(super) fn len(&self) -> usize {
        self.sets.len() + self.backends.len() + self.nodes.len()
    }

    /// Distinct keys of its indices.
    pub(super) fn index_keys(&self) -> usize {
        self.set_labels.len() + self.set_groups.len() + self.slices.len() + self.service_groups.len()
    }
}

impl NetSet {
    fn is_in(&self, index: &Index, selection: &model::SetSelection) -> bool {
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
                if let Some(id) = self.index.namespace_id(&key.namespace)
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
        if set.nets == nets {
            return;
        }
        self.lists.dirty.insert(set.key.clone());
        let before = std::mem::replace(&mut set.nets, nets);
        let absent = |from: &[IpNet], net: &IpNet| from.binary_search(net).is_err();
        let removed = before.iter().filter(|net| absent(&set.nets, net));
        let added = set.nets.iter().filter(|net| absent(&before, net));
        for group in &set.groups {
            removed.clone().for_each(|net| self.groups.list(*group, Member::Net(*net), Sign::Minus));
            added.clone().for_each(|net| self.groups.list(*group, Member::Net(*net), Sign::Plus));
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

    pub(super) fn set_backends(&mut self, key: Key, backends: Option<model::Backends>) {
        if self.lists.backends.get(&key) == backends.as_ref() {
            return;
        }
        if let Some(before) = self.lists.backends.remove(&key) {
            let service = Key { namespace: key.namespace.clone(), name: before.service.clone() };
            self.list_slice(&service, &before, Sign::Minus);
            if let Some(slices) = self.lists.slices.get_mut(&service) {
                slices.remove(&key);
                if slices.is_empty() {
                    self.lists.slices.remove(&service);
                }
            }
        }
        if let Some(backends) = backends {
            let service = Key { namespace: key.namespace.clone(), name: backends.service.clone() };
            self.list_slice(&service, &backends, Sign::Plus);
            self.lists.slices.entry(service).or_default().insert(key.clone());
            self.lists.backends.insert(key, backends);
        }
    }

    fn list_slice(&mut self, service: &Key, backends: &model::Backends, sign: Sign) {
        for group in self.lists.service_groups.get(service).cloned().unwrap_or_default() {
            if let Some(Source::Listed(listed)) = self.groups.by_id(group).map(|group| &group.source) {
                let of = listed.of.clone();
                list_backends(&mut self.groups, group, &of, backends, sign);
            }
        }
    }

    /// A node's labels and addresses, for the groups of nodes; false where they are what they were.
    pub(super) fn list_node(&mut self, name: &Arc<str>, node: Option<&model::Node>) -> bool {
        let after = node.map(|node| NodeFacts {
            labels: self.index.strings.labels(&node.labels),
            addresses: node.addresses.clone(),
        });
        if self.lists.nodes.get(name) == after.as_ref() {
            return false;
        }
        let before = match after {
            Some(after) => self.lists.nodes.insert(name.clone(), after),
            None => self.lists.nodes.remove(name),
        };
        let after = self.lists.nodes.get(name);
        for (node, sign) in [(before.as_ref(), Sign::Minus), (after, Sign::Plus)] {
            let Some(node) = node else { continue };
            for group in &self.lists.node_groups {
                if let Some(Source::Listed(Listed { of: ListedOf::Nodes(selector), .. })) =
                    self.groups.by_id(*group).map(|group| &group.source)
                    && selector.matches(&node.labels)
                {
                    list_addresses(&mut self.groups, *group, &node.addresses, sign);
                }
            }
        }
        true
    }

    /// Whether a selector matches a node.
    pub(super) fn node_matches(&self, name: &str, selector: &Selector) -> bool {
        self.lists.nodes.get(name).is_some_and(|node| selector.matches(&node.labels))
    }

    /// A policy begins to name a group, or stops.
    pub(super) fn name_group(&mut self, id: Id<Group>, policy: Id<Policy>, sign: Sign) {
        let Some(group) = self.groups.by_id_mut(id) else { return };
        match sign {
            Sign::Plus => group.policies.insert(policy),
            Sign::Minus => group.policies.remove(&policy),
        };
        if let Source::Listed(listed) = &group.source {
            for set in &listed.sets {
                self.lists.dirty.extend(self.lists.sets.get(*set).map(|set| set.key.clone()));
            }
        }
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

fn list_backends(groups: &mut Groups, id: Id<Group>, of: &ListedOf, backends: &model::Backends, sign: Sign) {
    match of {
        ListedOf::Backends(_, true) => {
            for address in &backends.addresses {
                for (protocol, port) in &backends.ports {
                    groups.list(id, Member::Port(*address, *protocol, *port), sign);
                }
            }
        }
        _ => list_addresses(groups, id, &backends.addresses, sign),
    }
}

fn list_addresses(groups: &mut Groups, id: Id<Group>, addresses: &BTreeSet<IpAddr>, sign: Sign) {
    for address in addresses {
        groups.list(id, Member::Net(IpNet::from(*address)), sign);
    }
}
