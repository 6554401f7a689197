//! What a rule matches: "All fields of a rule must hold."

use std::net::IpAddr;

use super::{Objects, Packet, Transport, who};
use crate::compiled::{End, Family};
use crate::model::{Backends, Entity, Key, Peer, PortTerm, Ports, Rule};

/// Whether a rule matches a packet.
pub fn matches(objects: &Objects, rule: &Rule, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    rule.family.is_none_or(|only| only == family)
        && rule.ports.iter().all(|term| ports_hold(objects, term, packet))
        && entity_holds(objects, &rule.source, packet.source)
        && entity_holds(objects, &rule.destination, packet.destination)
}

/// One end of a rule: every condition holds. `notNets` and `notSelector` are negated conditions, and match the outside too.
fn entity_holds(objects: &Objects, entity: &Entity, address: IpAddr) -> bool {
    entity.terms.iter().all(|term| {
        let inside = term.peers.iter().any(|peer| peer_contains(objects, peer, address));
        if term.negated { !inside } else { inside }
    })
}

fn peer_contains(objects: &Objects, peer: &Peer, address: IpAddr) -> bool {
    match peer {
        // "`ipBlock` looks at the address alone (pods too), in its own family."
        Peer::Block { net, except } => {
            net.contains(&address) && except.iter().all(|hole| !hole.contains(&address))
        }
        // Known pods alone: no node, nothing outside, and never the pool that their addresses come from.
        Peer::Pods(selection) => {
            who::owner(objects, address).is_some_and(|(key, _)| who::contains(objects, selection, key))
        }
        Peer::Sets(selection) => objects.sets.iter().any(|(key, set)| {
            who::contains_set(objects, selection, key, set)
                && set.nets.iter().any(|net| net.contains(&address))
        }),
        // "`services`: all EndpointSlice addresses, ready or not."
        Peer::Backends(service) => slices(objects, service).any(|slice| slice.addresses.contains(&address)),
        // "`nodes` are the IPs in status.addresses."
        Peer::Nodes(selector) => objects
            .nodes
            .values()
            .any(|node| who::holds(selector, &node.labels) && node.addresses.contains(&address)),
        // "Unreadable: that peer matches nothing, never 'any'."
        Peer::Nothing => false,
    }
}

fn slices<'a>(objects: &'a Objects, service: &'a Key) -> impl Iterator<Item = &'a Backends> {
    objects
        .backends
        .iter()
        .filter(|(slice, backends)| slice.namespace == service.namespace && backends.service == service.name)
        .map(|(_, backends)| backends)
}

fn ports_hold(objects: &Objects, term: &PortTerm, packet: &Packet) -> bool {
    let one = term.ports.iter().any(|entry| entry_holds(objects, entry, term.end, packet));
    if term.negated { !one } else { one }
}

fn entry_holds(objects: &Objects, entry: &Ports, end: End, packet: &Packet) -> bool {
    let (address, port) = match (end, packet.transport) {
        (End::Source, Transport::Ports { source, .. }) => (packet.source, Some(source)),
        (End::Destination, Transport::Ports { destination, .. }) => (packet.destination, Some(destination)),
        (End::Source, _) => (packet.source, None),
        (End::Destination, _) => (packet.destination, None),
    };
    let protocol = packet.transport.protocol();
    match entry {
        // "No `port`: all of the protocol."
        Ports::Protocol(only) => *only == protocol && family_of(*only, address),
        // "`endPort` is inclusive", and only what has ports has numbers, "so never ping".
        Ports::Range(only, range) => {
            *only == protocol && port.is_some_and(|port| (range.first..=range.last).contains(&port))
        }
        // "Named ports resolve per destination pod and protocol; a name nobody has matches nothing; with empty `to` they
        // mean every pod that has the name." As a source port: the pod that sends.
        Ports::Named(name) => {
            let numbers = who::owner(objects, address).and_then(|(_, pod)| pod.named_ports.get(name));
            let has = |port| numbers.is_some_and(|numbers| numbers.contains(&port));
            name.protocol == protocol && port.is_some_and(has)
        }
        // "icmp needs ICMP (IPv4) or ICMPv6; code needs type."
        Ports::Icmp(only, only_kind, only_code) => match packet.transport {
            Transport::Icmp { protocol, kind, code } => {
                *only == protocol
                    && family_of(*only, address)
                    && *only_kind == kind
                    && only_code.is_none_or(|only| only == code)
            }
            Transport::Ports { .. } | Transport::Other(_) => false,
        },
        // "for egress with their ports": of one slice, whose ports are those of all its addresses. A port without a number
        // is every port of its protocol.
        Ports::Backends(service) => slices(objects, service).any(|slice| {
            slice.addresses.contains(&address)
                && (slice.whole.contains(&protocol)
                    || port.is_some_and(|port| slice.ports.contains(&(protocol, port))))
        }),
        Ports::Nothing => false,
    }
}

/// ICMP is IPv4's and ICMPv6 IPv6's; every other protocol is both's.
fn family_of(protocol: u8, address: IpAddr) -> bool {
    match protocol {
        1 => address.is_ipv4(),
        58 => address.is_ipv6(),
        _ => true,
    }
}
