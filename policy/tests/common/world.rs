//! A plain copy of every object, without anything computed.

use selvage_policy::engine::Engine;
use selvage_policy::model::Change;
use selvage_policy::oracle::Objects;

/// The objects, as the oracle looks at them.
pub type World = Objects;

pub trait WorldExt {
    /// A change for every object, as a list gives them.
    fn list(&self) -> Vec<Change>;
    /// The last change of each key, objects that are gone included.
    fn squash(&self, changes: &[Change]) -> Vec<Change>;
}

impl WorldExt for World {
    fn list(&self) -> Vec<Change> {
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

    fn squash(&self, changes: &[Change]) -> Vec<Change> {
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

/// An engine that got these changes and was flushed once.
pub fn engine(changes: impl IntoIterator<Item = Change>) -> Engine {
    let mut engine = Engine::new();
    for change in changes {
        engine.apply(change);
    }
    engine.flush();
    engine
}
