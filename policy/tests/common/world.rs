//! A plain copy of every object, without anything computed.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_policy::compiled::{EndpointKey, PolicyKey};
use selvage_policy::engine::Engine;
use selvage_policy::model::{
    Backends, Change, Key, Namespace, NetworkSet, Node, Pod, Policy, Pool, ServiceAccount, Tier,
};

#[derive(Debug, Clone, Default)]
pub struct World {
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    pub nodes: BTreeMap<Arc<str>, Node>,
    pub pods: BTreeMap<EndpointKey, Pod>,
    pub tiers: BTreeMap<Arc<str>, Tier>,
    pub policies: BTreeMap<PolicyKey, Policy>,
    pub accounts: BTreeMap<Key, ServiceAccount>,
    pub sets: BTreeMap<Key, NetworkSet>,
    pub backends: BTreeMap<Key, Backends>,
    pub pools: BTreeMap<Arc<str>, Pool>,
}

impl World {
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Namespace(key, value) => set(&mut self.namespaces, key, value),
            Change::Node(key, value) => set(&mut self.nodes, key, value),
            Change::Tier(key, value) => set(&mut self.tiers, key, value),
            Change::Policy(key, value) => set(&mut self.policies, key, value),
            Change::ServiceAccount(key, value) => set(&mut self.accounts, key, value),
            Change::NetworkSet(key, value) => set(&mut self.sets, key, value),
            Change::Backends(key, value) => set(&mut self.backends, key, value),
            Change::Pool(key, value) => set(&mut self.pools, key, value),
            Change::Pod(key, value) => {
                let value = value.map(|mut pod| {
                    // A list that turns empty keeps the old addresses.
                    let known = self.pods.get(&key).filter(|known| known.uid == pod.uid);
                    if let Some(known) = known.filter(|_| pod.addresses.is_empty()) {
                        pod.addresses = known.addresses.clone();
                    }
                    pod
                });
                set(&mut self.pods, key, value);
            }
        }
    }

    /// A change for every object, as a list gives them.
    pub fn list(&self) -> Vec<Change> {
        let mut list = Vec::new();
        list.extend(self.namespaces.iter().map(|(k, v)| Change::Namespace(k.clone(), Some(v.clone()))));
        list.extend(self.nodes.iter().map(|(k, v)| Change::Node(k.clone(), Some(v.clone()))));
        list.extend(self.tiers.iter().map(|(k, v)| Change::Tier(k.clone(), Some(v.clone()))));
        list.extend(self.policies.iter().map(|(k, v)| Change::Policy(k.clone(), Some(v.clone()))));
        list.extend(self.accounts.iter().map(|(k, v)| Change::ServiceAccount(k.clone(), Some(v.clone()))));
        list.extend(self.sets.iter().map(|(k, v)| Change::NetworkSet(k.clone(), Some(v.clone()))));
        list.extend(self.backends.iter().map(|(k, v)| Change::Backends(k.clone(), Some(v.clone()))));
        list.extend(self.pools.iter().map(|(k, v)| Change::Pool(k.clone(), Some(v.clone()))));
        list.extend(self.pods.iter().map(|(k, v)| Change::Pod(k.clone(), Some(v.clone()))));
        list
    }

    /// The last change of each key, objects that are gone included.
    pub fn squash(&self, changes: &[Change]) -> Vec<Change> {
        let gone = changes.iter().filter_map(|change| match change {
            Change::Namespace(k, _) => {
                (!self.namespaces.contains_key(k)).then(|| Change::Namespace(k.clone(), None))
            }
            Change::Node(k, _) => (!self.nodes.contains_key(k)).then(|| Change::Node(k.clone(), None)),
            Change::Tier(k, _) => (!self.tiers.contains_key(k)).then(|| Change::Tier(k.clone(), None)),
            Change::Policy(k, _) => (!self.policies.contains_key(k)).then(|| Change::Policy(k.clone(), None)),
            Change::ServiceAccount(k, _) => {
                (!self.accounts.contains_key(k)).then(|| Change::ServiceAccount(k.clone(), None))
            }
            Change::NetworkSet(k, _) => {
                (!self.sets.contains_key(k)).then(|| Change::NetworkSet(k.clone(), None))
            }
            Change::Backends(k, _) => {
                (!self.backends.contains_key(k)).then(|| Change::Backends(k.clone(), None))
            }
            Change::Pool(k, _) => (!self.pools.contains_key(k)).then(|| Change::Pool(k.clone(), None)),
            Change::Pod(k, _) => (!self.pods.contains_key(k)).then(|| Change::Pod(k.clone(), None)),
        });
        self.list().into_iter().chain(gone).collect()
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// An engine that got these changes and was flushed once.
pub fn engine(changes: impl IntoIterator<Item = Change>) -> Engine {
    let mut engine = Engine::new();
    for change in changes {
        engine.apply(change);
    }
    engine.flush();
    engine
}
