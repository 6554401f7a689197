//! The naive truth: what becomes of a packet, straight from the objects, as the semantics are written.
//!
//! To be read beside the semantics document, paragraph by paragraph, in its order:
//!
//! | the document | here |
//! |---|---|
//! | Who is judged | [`who`] |
//! | The verdict | [`verdict`] |
//! | Whatever the policies say | [`always`] |
//! | NetworkPolicy, ClusterNetworkPolicy, our own resources: what a rule matches | [`rule`] |
//! | Our own resources: IPPool | [`pool`] |
//!
//! How the text of an object becomes the [model](crate::model), broken parts included, is the edge's business and not
//! decided here. With the compiler this shares nothing but that model: no index, no groups, no canonical forms, its own
//! look at selectors, and every question is answered by looking at every object. Tests hold the compiler, the ruleset and
//! the kernel against it.

pub mod always;
pub mod pool;
pub mod rule;
pub mod verdict;
pub mod who;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::compiled::{EndpointKey, PolicyKey};
use crate::model::{
    Backends, Change, Key, Namespace, NetworkSet, Node, Pod, Policy, Pool, ServiceAccount, Tier,
};

/// Every object, and nothing computed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// By name.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// By name.
    pub nodes: BTreeMap<Arc<str>, Node>,
    /// Pods off the host network that are bound and have not finished.
    pub pods: BTreeMap<EndpointKey, Pod>,
    /// By name. What is said here of the three that always exist counts for nothing.
    pub tiers: BTreeMap<Arc<str>, Tier>,
    /// Policies of every kind.
    pub policies: BTreeMap<PolicyKey, Policy>,
    /// Service accounts.
    pub accounts: BTreeMap<Key, ServiceAccount>,
    /// NetworkSets, and GlobalNetworkSets without a namespace.
    pub sets: BTreeMap<Key, NetworkSet>,
    /// EndpointSlices.
    pub backends: BTreeMap<Key, Backends>,
    /// By name.
    pub pools: BTreeMap<Arc<str>, Pool>,
}

/// A packet as rules see it: after DNAT and before SNAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// The address that it comes from.
    pub source: IpAddr,
    /// The address that it goes to, of the same family: a pod's, not a Service's.
    pub destination: IpAddr,
    /// What it carries.
    pub transport: Transport,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP (6), UDP (17) or SCTP (132).
    Ports {
        /// The IANA number.
        protocol: u8,
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
    /// ICMP (1) or ICMPv6 (58).
    Icmp {
        /// 1 or 58.
        protocol: u8,
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// Another protocol.
    Other(u8),
}

impl Objects {
    /// The object came, changed or went.
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
                let value = value.map(|pod| self.keeping_addresses(&key, pod));
                set(&mut self.pods, key, value);
            }
        }
    }

    /// "A list that turns empty keeps the old addresses; a changed one replaces them." Another uid is another pod.
    fn keeping_addresses(&self, key: &EndpointKey, mut pod: Pod) -> Pod {
        if let Some(before) = self.pods.get(key)
            && before.uid == pod.uid
            && pod.addresses.is_empty()
        {
            pod.addresses = before.addresses.clone();
        }
        pod
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

impl Transport {
    /// The protocol's IANA number.
    pub fn protocol(self) -> u8 {
        match self {
            Self::Ports { protocol, .. } | Self::Icmp { protocol, .. } | Self::Other(protocol) => protocol,
        }
    }
}
