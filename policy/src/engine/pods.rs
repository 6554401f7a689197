//! Changes of pods, namespaces and nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::groups::Sign;
use super::{Engine, Node};
use crate::compiled::EndpointKey;
use crate::index::addresses::Handover;
use crate::index::few::Few;
use crate::index::slab::Id;
use crate::index::{Endpoint, Move};
use crate::model::{self, Labels};

impl Engine {
    pub(super) fn set_pod(&mut self, key: &EndpointKey, pod: Option<model::Pod>) {
        let known = self.endpoint_id(key);
        match (known, pod) {
            (None, None) => {}
            (None, Some(pod)) => self.add_pod(key, pod),
            (Some(id), None) => self.remove_pod(id),
            (Some(id), Some(pod)) => {
                if self.index.endpoints.get(id).is_some_and(|known| known.uid == pod.uid) {
                    self.change_pod(id, pod);
                } else {
                    self.remove_pod(id);
                    self.add_pod(key, pod);
                }
            }
        }
    }

    pub(super) fn endpoint_id(&self, key: &EndpointKey) -> Option<Id<Endpoint>> {
        let namespace = self.index.namespace_id(&key.namespace)?;
        self.index.namespaces.get(namespace)?.endpoints.get(&key.name).copied()
    }

    fn add_pod(&mut self, key: &EndpointKey, pod: model::Pod) {
        let node = self.node_or_new(&pod.node);
        let endpoint = Endpoint {
            name: key.name.clone(),
            namespace: self.index.namespace_or_new(&key.namespace),
            node,
            uid: pod.uid,
            created: pod.created,
            account: self.index.strings.intern(&pod.service_account),
            labels: self.index.strings.labels(&pod.labels),
            addresses: Few::default(),
            owned: Few::default(),
            named_ports: pod.named_ports,
            sets: Vec::new(),
            profile: None,
            dirty: false,
        };
        let (id, joined) = self.index.insert_endpoint(endpoint);
        if let Some(node) = self.nodes.get_mut(node) {
            node.endpoints.insert(id);
        }
        self.moved(&joined);
        self.mark_endpoint(id);
        self.set_addresses(id, pod.addresses);
    }

    fn remove_pod(&mut self, id: Id<Endpoint>) {
        self.set_addresses(id, BTreeSet::new());
        if let Some(left) = self.index.leave_all(id) {
            self.moved(&left);
        }
        let Some(endpoint) = self.index.remove_endpoint(id) else { return };
        if let Some(profile) = endpoint.profile {
            self.profiles.release(profile);
        }
        if let Some(node) = self.nodes.get_mut(endpoint.node) {
            node.endpoints.remove(&id);
        }
        self.mark_node(endpoint.node);
    }

    fn change_pod(&mut self, id: Id<Endpoint>, pod: model::Pod) {
        let Some(endpoint) = self.index.endpoints.get_mut(id) else { return };
        let recreated = std::mem::replace(&mut endpoint.created, pod.created) != pod.created;
        let renamed = endpoint.named_ports != pod.named_ports;
        if endpoint.account != pod.service_account {
            // The API server lets nobody change it; should it be another, so is the pod.
            endpoint.account = self.index.strings.intern(&pod.service_account);
            if let Some(moves) = self.index.reassign(id) {
                self.moved(&moves);
            }
        }
        let Some(endpoint) = self.index.endpoints.get_mut(id) else { return };
        if !endpoint.labels.same(&pod.labels) {
            let labels = self.index.strings.labels(&pod.labels);
            if let Some(moves) = self.index.relabel_endpoint(id, labels) {
                self.moved(&moves);
            }
        }
        if renamed {
            self.contribute_all(id, Sign::Minus);
            if let Some(endpoint) = self.index.endpoints.get_mut(id) {
                endpoint.named_ports = pod.named_ports;
            }
            self.contribute_all(id, Sign::Plus);
            self.mark_endpoint(id);
        }
        let rebound = self.bind(id, &pod.node);
        // A list that turns empty keeps the old addresses.
        if !pod.addresses.is_empty() {
            self.set_addresses(id, pod.addresses);
        }
        if rebound || recreated {
            self.decide_addresses(id);
        }
    }

    /// Moves an endpoint to another node; false where it is there already.
    fn bind(&mut self, id: Id<Endpoint>, name: &Arc<str>) -> bool {
        let to = self.node_or_new(name);
        let Some(endpoint) = self.index.endpoints.get_mut(id) else { return false };
        let from = std::mem::replace(&mut endpoint.node, to);
        if from == to {
            return false;
        }
        for set in endpoint.sets.clone() {
            self.count_subject(set, from, Sign::Minus);
            self.count_subject(set, to, Sign::Plus);
        }
        if let Some(node) = self.nodes.get_mut(from) {
            node.endpoints.remove(&id);
        }
        if let Some(node) = self.nodes.get_mut(to) {
            node.endpoints.insert(id);
        }
        self.mark_node(from);
        self.mark_endpoint(id);
        true
    }

    fn set_addresses(&mut self, id: Id<Endpoint>, addresses: BTreeSet<IpAddr>) {
        let Some(endpoint) = self.index.endpoints.get_mut(id) else { return };
        if addresses.iter().eq(&endpoint.addresses) {
            return;
        }
        let before = std::mem::replace(&mut endpoint.addresses, addresses.iter().copied().collect());
        for address in before.iter().filter(|address| !addresses.contains(*address)) {
            let rank = |id| rank(&self.index, &self.nodes, id, *address);
            let handover = self.addresses.release(*address, id, rank);
            self.hand_over(handover);
        }
        for address in addresses.iter().filter(|address| !before.contains(address)) {
            let rank = |id| rank(&self.index, &self.nodes, id, *address);
            let handover = self.addresses.claim(*address, id, rank);
            self.hand_over(handover);
        }
    }

    /// What decides who owns the addresses of an endpoint changed.
    fn decide_addresses(&mut self, id: Id<Endpoint>) {
        let Some(endpoint) = self.index.endpoints.get(id) else { return };
        for address in &endpoint.addresses.clone() {
            let handover = self.addresses.decide(*address, |id| rank(&self.index, &self.nodes, id, *address));
            self.hand_over(handover);
        }
    }

    fn hand_over(&mut self, handover: Option<Handover>) {
        let Some(Handover { address, from, to }) = handover else { return };
        let uid = |id| self.index.endpoints.get(id).map(|endpoint| endpoint.uid.clone());
        self.handed_over.entry(address).or_insert_with(|| from.and_then(uid));
        if let Some(from) = from
            && let Some(endpoint) = self.index.endpoints.get_mut(from)
        {
            endpoint.owned.remove(&address);
            self.contribute(from, address, Sign::Minus);
            self.mark_endpoint(from);
        }
        if let Some(to) = to
            && let Some(endpoint) = self.index.endpoints.get_mut(to)
        {
            endpoint.owned.insert(address);
            self.contribute(to, address, Sign::Plus);
            self.mark_endpoint(to);
        }
    }

    fn contribute(&mut self, id: Id<Endpoint>, address: IpAddr, sign: Sign) {
        if let Some(endpoint) = self.index.endpoints.get(id) {
            self.groups.contribute(&self.index, endpoint, address, &endpoint.sets, sign);
        }
    }

    fn contribute_all(&mut self, id: Id<Endpoint>, sign: Sign) {
        let Some(endpoint) = self.index.endpoints.get(id) else { return };
        for address in &endpoint.owned {
            self.groups.contribute(&self.index, endpoint, *address, &endpoint.sets, sign);
        }
    }

    /// An endpoint left and joined sets: their groups change, and the policies whose subject they are.
    fn moved(&mut self, moves: &Move) {
        let id = moves.endpoint;
        let Some(endpoint) = self.index.endpoints.get(id) else { return };
        let node = endpoint.node;
        for (sets, sign) in [(&moves.left, Sign::Minus), (&moves.joined, Sign::Plus)] {
            for address in &endpoint.owned {
                self.groups.contribute(&self.index, endpoint, *address, sets, sign);
            }
        }
        for (sets, sign) in [(&moves.left, Sign::Minus), (&moves.joined, Sign::Plus)] {
            for set in sets {
                if self.count_subject(*set, node, sign) {
                    self.mark_endpoint(id);
                }
            }
        }
    }

    pub(super) fn set_namespace(&mut self, name: &Arc<str>, namespace: Option<model::Namespace>) {
        let (present, labels) = match namespace {
            Some(namespace) => (true, namespace.labels),
            None if self.index.namespace_id(name).is_none() => return,
            None => (false, Labels::new()),
        };
        let id = self.index.namespace_or_new(name);
        let labels = self.index.strings.namespace_labels(name, &labels);
        let Some(known) = self.index.namespaces.get_mut(id) else { return };
        known.present = present;
        if known.labels != labels {
            for moves in self.index.relabel_namespace(id, labels) {
                self.moved(&moves);
            }
            self.reassign_sets(name);
        }
        self.index.drop_namespace_if_unused(id);
    }

    pub(super) fn set_account(&mut self, key: &model::Key, account: Option<model::ServiceAccount>) {
        if account.is_none() && self.index.namespace_id(&key.namespace).is_none() {
            return;
        }
        let namespace = self.index.namespace_or_new(&key.namespace);
        let labels = account.map(|account| self.index.strings.labels(&account.labels));
        for moves in self.index.relabel_account(namespace, &key.name, labels) {
            self.moved(&moves);
        }
        self.index.drop_namespace_if_unused(namespace);
    }

    pub(super) fn set_pool(&mut self, name: Arc<str>, pool: Option<model::Pool>) {
        if self.pools.get(&name) == pool.as_ref() {
            return;
        }
        match pool {
            Some(pool) => self.pools.insert(name, pool),
            None => self.pools.remove(&name),
        };
        for id in self.node_ids.values().copied().collect::<Vec<_>>() {
            self.mark_node(id);
        }
    }

    pub(super) fn set_node(&mut self, name: &Arc<str>, node: Option<model::Node>) {
        let relabelled = self.list_node(name, node.as_ref());
        if node.is_none() && !self.node_ids.contains_key(name) {
            return;
        }
        let id = self.node_or_new(name);
        let Some(known) = self.nodes.get_mut(id) else { return };
        let blocks = node.as_ref().map(|node| node.blocks.clone()).unwrap_or_default();
        let present = node.is_some();
        if std::mem::replace(&mut known.present, present) != present {
            self.mark_node(id);
        }
        if relabelled && !self.pools.is_empty() {
            // It may be one of a pool's nodes now.
            self.mark_node(id);
        }
        let Some(known) = self.nodes.get_mut(id) else { return };
        if known.blocks != blocks {
            known.blocks = blocks;
            for endpoint in known.endpoints.clone() {
                self.decide_addresses(endpoint);
            }
        }
    }

    fn node_or_new(&mut self, name: &Arc<str>) -> Id<Node> {
        if let Some(id) = self.node_ids.get(name) {
            return *id;
        }
        let name = self.index.strings.intern(name);
        let id = self.nodes.insert(Node { name: name.clone(), ..Node::default() });
        self.node_ids.insert(name, id);
        // Should nothing come to it before the flush, that forgets it.
        self.mark_node(id);
        id
    }
}

/// Who of two claimants owns an address: the one whose node owns the block, then the newest; the rest only makes the
/// answer certain.
fn rank<'a>(
    index: &'a crate::index::Index,
    nodes: &crate::index::slab::Slab<Node>,
    id: Id<Endpoint>,
    address: IpAddr,
) -> Option<(bool, i64, &'a str, &'a str, &'a str)> {
    let endpoint = index.endpoints.get(id)?;
    let node = nodes.get(endpoint.node)?;
    let owns = node.blocks.iter().any(|block| block.contains(&address));
    let namespace = &index.namespaces.get(endpoint.namespace)?.name;
    Some((owns, endpoint.created, &endpoint.uid, namespace, &endpoint.name))
}
