//! The incremental label index: which endpoints lie in which pod sets.
//!
//! Three questions are answered without asking everything about everything: a changed endpoint asks only the sets
//! that could care (filed by scope and by one condition that each must fulfil), a new set asks only the endpoints of
//! its namespaces or with its label values, and a relabelled namespace moves only its own endpoints in and out of the
//! scopes that flip.

mod accounts;
pub(crate) mod addresses;
pub(crate) mod buckets;
pub(crate) mod few;
pub(crate) mod labels;
mod namespaces;
mod postings;
mod sets;
pub(crate) mod slab;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::compiled::{NamedPort, ProfileId};
use crate::engine::{Group, Node, Policy};
use crate::hash::HashMap;
use crate::model::Namespaces;
use crate::selector::Selector;
use buckets::Buckets;
use few::{Few, Tally};
use labels::{Interned, LabelSet, Strings};
use postings::Postings;
use slab::{Id, Slab};

/// Endpoints, namespaces and pod sets, and who is in which.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) strings: Strings,
    selectors: Interned<Selector>,
    pub(crate) endpoints: Slab<Endpoint>,
    pub(crate) namespaces: Slab<Namespace>,
    namespace_ids: HashMap<Arc<str>, Id<Namespace>>,
    scopes: Slab<Scope>,
    scope_ids: HashMap<Arc<Namespaces>, Id<Scope>>,
    pub(crate) sets: Slab<Set>,
    /// By a 128-bit hash of the canonical text.
    set_ids: HashMap<u128, Id<Set>>,
    /// Sets by their scope and their keys.
    set_buckets: Buckets<Id<Set>>,
    /// Scopes that choose namespaces by label, by their keys.
    scope_buckets: Buckets<Id<Scope>>,
    postings: Postings,
    namespace_labels: Buckets<Id<Namespace>>,
}

/// A pod.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Id<Namespace>,
    pub(crate) node: Id<Node>,
    pub(crate) uid: Arc<str>,
    pub(crate) created: i64,
    /// The service account's name.
    pub(crate) account: Arc<str>,
    pub(crate) labels: LabelSet,
    /// Addresses that it claims.
    pub(crate) addresses: Few<IpAddr, 2>,
    /// Those of them that are its own: one address has one owner.
    pub(crate) owned: Few<IpAddr, 2>,
    pub(crate) named_ports: BTreeMap<NamedPort, BTreeSet<u16>>,
    /// Sets that it is in, sorted.
    pub(crate) sets: Vec<Id<Set>>,
    pub(crate) profile: Option<ProfileId>,
    /// It is on the list of endpoints whose profile is to be computed.
    pub(crate) dirty: bool,
}

/// A namespace that has an object, endpoints, or sets that name it.
#[derive(Debug)]
pub(crate) struct Namespace {
    pub(crate) name: Arc<str>,
    /// There is an object. Without one the namespace has just its name as a label.
    pub(crate) present: bool,
    pub(crate) labels: LabelSet,
    pub(crate) endpoints: BTreeMap<Arc<str>, Id<Endpoint>>,
    /// Scopes that contain it.
    scopes: Few<Id<Scope>, 4>,
    /// How many scopes name it (none or one).
    named: u32,
    /// Labels of its service accounts that have an object.
    accounts: BTreeMap<Arc<str>, LabelSet>,
    /// How many NetworkSets it has.
    pub(crate) network_sets: u32,
}

/// A choice of namespaces that sets share.
#[derive(Debug)]
struct Scope {
    namespaces: Arc<Namespaces>,
    members: Few<Id<Namespace>, 4>,
    /// How many sets have it.
    users: u32,
}

/// A set of pods that policies select or name as peers.
#[derive(Debug)]
pub(crate) struct Set {
    hash: u128,
    scope: Id<Scope>,
    accounts: Arc<Selector>,
    selector: Arc<Selector>,
    users: u32,
    pub(crate) members: Few<Id<Endpoint>, 4>,
    /// Policies whose subject it is.
    pub(crate) subjects: Few<Id<Policy>, 4>,
    /// How many members are on which node; kept while there are subjects.
    pub(crate) nodes: Tally<Id<Node>>,
    /// Groups made of it.
    pub(crate) groups: Few<Id<Group>, 4>,
    /// What the policies whose subject it is select may be different from what it was at the last flush.
    pub(crate) changed: bool,
    /// All its members are on the list of endpoints whose profile is to be computed.
    pub(crate) judged: bool,
}

/// Sets that an endpoint came into and went out of.
#[derive(Debug)]
pub(crate) struct Move {
    pub(crate) endpoint: Id<Endpoint>,
    pub(crate) left: Vec<Id<Set>>,
    pub(crate) joined: Vec<Id<Set>>,
}

impl Index {
    /// Distinct keys of labels and selectors, and distinct choices of namespaces.
    pub(crate) fn keys(&self) -> usize {
        self.set_buckets.len()
            + self.scope_buckets.len()
            + self.postings.len()
            + self.namespace_labels.len()
            + self.scopes.len()
    }
}
