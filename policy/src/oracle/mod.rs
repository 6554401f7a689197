//! The naive truth: what becomes of a packet, straight from the objects, as the semantics are written.
//!
//! Written to be read beside the document, section by section: [`who`] is judged, the [`verdict`], and what a [`rule`] says.
//! It shares nothing with the compiler but the [model](crate::model): no index, no groups, no canonical forms, and every
//! question is answered by looking at every object. Tests hold the compiler, the ruleset and the kernel against it.

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
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// By name.
    pub namespaces: BTreeMap<Arc<str>, Namespace>,
    /// By name.
    pub nodes: BTreeMap<Arc<str>, Node>,
    /// Pods that are judged.
    pub pods: BTreeMap<EndpointKey, Pod>,
    /// By name, without the three that always exist.
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

/// A packet.
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
                let known = self.pods.get(&key).map(|pod| (pod.uid.clone(), pod.addresses.clone()));
                let value = value.map(|pod| match known {
                    // A list that turns empty keeps the old addresses.
                    Some((uid, addresses)) if uid == pod.uid && pod.addresses.is_empty() => {
                        Pod { addresses, ..pod }
                    }
                    _ => pod,
                });
                set(&mut self.pods, key, value);
            }
        }
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
