//! Services' backends and nodes, and which groups list them and [NetworkSets](super::network_sets).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::Engine;
use super::groups::{Group, Groups, Listed, ListedOf, Part, Sign, Source};
use super::network_sets::NetSet;
use crate::compiled::Member;
use crate::hash::HashMap;
use crate::index::Index;
use crate::index::buckets::{self, Buckets, keys};
use crate::index::labels::LabelSet;
use crate::index::slab::{Id, Slab};
use crate::model::{self, Key};
use crate::selector::Selector;

/// Objects that groups list, and the groups that list them.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    pub(super) sets: Slab<NetSet>,
    pub(super) set_ids: BTreeMap<Key, Id<NetSet>>,
    /// Sets by the values of their labels.
    pub(super) set_labels: Buckets<Id<NetSet>>,
    /// Groups of sets by the keys of their selectors.
    pub(super) set_groups: Buckets<Id<Group>>,
    backends: BTreeMap<Key, model::Backends>,
    /// EndpointSlices by their Service.
    slices: BTreeMap<Key, BTreeSet<Key>>,
    /// Groups by the Service that they are made of.
    service_groups: HashMap<Key, BTreeSet<Id<Group>>>,
    nodes: BTreeMap<Arc<str>, NodeFacts>,
    node_groups: BTreeSet<Id<Group>>,
    /// Sets whose status may be another than at the last flush.
    pub(super) dirty: BTreeSet<Key>,
    /// Groups that other policies name than at the last flush. Their sets are dirty; to say so of each at once would ask
    /// every set of a group for every policy that names it.
    pub(super) named: BTreeSet<Id<Group>>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct NodeFacts {
    labels: LabelSet,
    addresses: BTreeSet<IpAddr>,
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
                let candidates: Vec<Id<NetSet>> = match by_label.contains(&buckets::Key::Any) {
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

    /// The protocols of which some backend of a Service has every port.
    pub(super) fn whole(&self, service: &Key) -> BTreeSet<u8> {
        let slices = self.slices.get(service).into_iter().flatten();
        slices.filter_map(|slice| self.backends.get(slice)).flat_map(|slice| &slice.whole).copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.sets.len() + self.backends.len() + self.nodes.len()
    }

    /// Distinct keys of its indices.
    pub(super) fn index_keys(&self) -> usize {
        self.set_labels.len() + self.set_groups.len() + self.slices.len() + self.service_groups.len()
    }
}

impl Engine {
    pub(super) fn set_backends(&mut self, key: Key, backends: Option<model::Backends>) {
        if self.lists.backends.get(&key) == backends.as_ref() {
            return;
        }
        let of = |backends: &model::Backends| Key {
            namespace: key.namespace.clone(),
            name: backends.service.clone(),
        };
        let services = self.lists.backends.get(&key).into_iter().chain(&backends).map(of);
        let whole: BTreeMap<Key, BTreeSet<u8>> =
            services.map(|service| (service.clone(), self.lists.whole(&service))).collect();
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
        for (service, before) in whole {
            if self.lists.whole(&service) != before {
                self.compile_again(&service);
            }
        }
    }

    /// Policies about the ports of a Service are other rules where it has every port of other protocols than before.
    fn compile_again(&mut self, service: &Key) {
        let groups = self.lists.service_groups.get(service).into_iter().flatten();
        let policies: BTreeSet<_> =
            groups.filter_map(|id| self.groups.by_id(*id)).flat_map(|group| &group.policies).collect();
        let policies = policies.into_iter().filter_map(|id| self.policies.get(*id));
        let again: Vec<_> = policies
            .filter_map(|policy| Some((policy.placement.key.clone(), policy.again.as_deref()?.clone())))
            .collect();
        for (key, policy) in again {
            self.set_policy(key, Some(policy));
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
}

fn list_backends(groups: &mut Groups, id: Id<Group>, of: &ListedOf, backends: &model::Backends, sign: Sign) {
    match of {
        ListedOf::Backends(_, Part::Ports) => {
            for address in &backends.addresses {
                for (protocol, port) in &backends.ports {
                    groups.list(id, Member::Port(*address, *protocol, *port), sign);
                }
            }
        }
        ListedOf::Backends(_, Part::Whole(protocol)) if !backends.whole.contains(protocol) => {}
        _ => list_addresses(groups, id, &backends.addresses, sign),
    }
}

fn list_addresses(groups: &mut Groups, id: Id<Group>, addresses: &BTreeSet<IpAddr>, sign: Sign) {
    for address in addresses {
        groups.list(id, Member::Net(IpNet::from(*address)), sign);
    }
}
