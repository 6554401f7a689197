//! The table of the bridge family: what a pod may put on its bridge.
//!
//! Two things are stopped at the ports of the pods' bridge, before the bridge learns anything from a frame:
//!
//! - frames that no rule of the `inet` table sees. br_netfilter shows it untagged IPv4 and IPv6 alone, and a frame with
//!   a priority tag passes by all of its rules. See docs/adr/0006-bridge-guard.md;
//! - frames in a neighbour's name. Identity is the source address, so a port may only use the addresses that the CNI
//!   plugin gave to the pod behind it, and its MAC address; in ARP and neighbour discovery it may only claim these. See
//!   docs/adr/0011-bound-ports.md.

mod claims;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::Family;

use super::expr::{
    address_bytes, address_part, family_digit, family_of, interface_names, is_interface_name, key,
    padded_name, points,
};
use crate::model::{Elements, Key, KeyPart, Mac, Name, Ruleset, Set};

pub use rules::{POSING, Spoof, spoof};

/// What the node knows of its bridges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BridgeFacts {
    /// The ports of bridges that are no pod bridge: every other veth is taken for a pod's, so that a port that nobody
    /// knows yet is watched.
    pub foreign_ports: BTreeSet<Arc<str>>,
    /// The pods' ports of which the CNI result says everything.
    pub ports: BTreeMap<Arc<str>, Binding>,
    /// MAC addresses of the pods' bridges themselves.
    pub gateway_macs: BTreeSet<Mac>,
    /// The bridges' own addresses, link-local ones included.
    pub gateways: BTreeSet<IpAddr>,
}

/// What a port may call itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The MAC address of the pod's end.
    pub mac: Mac,
    /// The pod's addresses. Its link-local address follows from the MAC address.
    pub addresses: BTreeSet<IpAddr>,
}

/// Names of the sets.
mod names {
    pub const FOREIGN: &str = "foreign-ports";
    /// Ports with a binding.
    pub const PORTS: &str = "ports";
    /// (port, MAC address)
    pub const MACS: &str = "macs";
    /// (port, address)
    pub const BOUND: &str = "bound";
    /// MAC addresses that are somebody's.
    pub const KNOWN_MACS: &str = "known-macs";
    /// Addresses that are somebody's.
    pub const KNOWN: &str = "known";
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The table of the bridge family.
pub fn bridge(facts: &BridgeFacts) -> Ruleset {
    // A name that can't be an interface's is none's.
    let named = || facts.ports.iter().filter(|(port, _)| is_interface_name(port));
    let mut sets: BTreeMap<Name, Set> = BTreeMap::new();
    let foreign = facts.foreign_ports.iter().filter(|port| is_interface_name(port));
    sets.insert(names::FOREIGN.into(), interface_names(foreign));
    sets.insert(names::PORTS.into(), interface_names(named().map(|(port, _)| port)));
    let macs = named().filter_map(|(port, binding)| key(&[&padded_name(port), &binding.mac.0]));
    sets.insert(names::MACS.into(), points(vec![KeyPart::InterfaceName, KeyPart::Mac], macs));
    let known = facts.gateway_macs.iter().copied().chain(named().map(|(_, binding)| binding.mac));
    let known = known.filter_map(|mac| key(&[&mac.0]));
    sets.insert(names::KNOWN_MACS.into(), points(vec![KeyPart::Mac], known));
    for family in FAMILIES {
        let bound = || {
            named()
                .flat_map(|(port, binding)| binding.claims().map(move |address| (port, address)))
                .filter(move |(_, address)| family_of(*address) == family)
        };
        let pairs = bound().filter_map(|(port, address)| key(&[&padded_name(port), &address_bytes(address)]));
        let part = address_part(family);
        sets.insert(set(names::BOUND, family), points(vec![KeyPart::InterfaceName, part], pairs));
        let own = facts.gateways.iter().copied().filter(|address| family_of(*address) == family);
        let known = own.chain(bound().map(|(_, address)| address));
        let known = known.filter_map(|address| key(&[&address_bytes(address)]));
        sets.insert(set(names::KNOWN, family), points(vec![part], known));
    }
    Ruleset { chains: rules::chains(named().map(|(port, _)| port)), sets }
}

/// What stands, without the pairs that are not wanted any more: committed before an address is another pod's, so that
/// at no moment its last port can use it under the new pod's policies.
pub fn without_lost_pairs(standing: &Ruleset, wanted: &Ruleset) -> Ruleset {
    let mut narrowed = standing.clone();
    for (name, standing) in &mut narrowed.sets {
        let base = name.split_once('.').map_or(&**name, |(base, _)| base);
        let pairs = base == names::MACS || FAMILIES.iter().any(|family| *base == *set(names::BOUND, *family));
        let Some(wanted) = wanted.sets.get(base).filter(|_| pairs) else { continue };
        if let (Elements::Points(standing), Elements::Points(wanted)) =
            (&mut standing.elements, &wanted.elements)
        {
            standing.retain(|pair: &Key| wanted.contains(pair));
        }
    }
    narrowed
}

fn set(base: &str, family: Family) -> Name {
    format!("{base}{}", family_digit(family)).into()
}

impl Binding {
    /// Its addresses and the link-local one.
    fn claims(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().copied().chain([IpAddr::from(self.mac.link_local())])
    }
}
