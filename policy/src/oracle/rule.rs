//! What a rule says of a packet: all of its parts must hold.

use std::net::IpAddr;

use super::who::{contains, contains_set, owner, selects};
use super::{Objects, Packet, Transport};
use crate::compiled::{End, Family};
use crate::model::{Entity, Peer, PortTerm, Ports, Rule};

/// Whether a rule matches a packet.
pub fn matches(objects: &Objects, rule: &Rule, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    rule.family.is_none_or(|wanted| wanted == family)
        && rule.ports.iter().all(|term| holds(objects, term, packet))
        && lies_in(objects, &rule.source, packet.source)
        && lies_in(objects, &rule.destination, packet.destination)
}

fn lies_in(objects: &Objects, entity: &Entity, address: IpAddr) -> bool {
    entity.terms.iter().all(|term| {
        let contained = term.peers.iter().any(|peer| peer_contains(objects, peer, address));
        contained != term.negated
    })
}

fn peer_contains(objects: &Objects, peer: &Peer, address: IpAddr) -> bool {
    match peer {
        // An ipBlock looks at the address alone, pods' too.
        Peer::Block { net, except } => {
            net.contains(&address) && !except.iter().any(|hole| hole.contains(&address))
        }
        Peer::Pods(pods) => owner(objects, address).is_some_and(|(key, _)| contains(objects, pods, key)),
        Peer::Sets(selection) => objects.sets.iter().any(|(key, set)| {
            contains_set(objects, selection, key, set) && set.nets.iter().any(|net| net.contains(&address))
        }),
        Peer::Backends(service) => objects.backends.iter().any(|(slice, backends)| {
            slice.namespace == service.namespace
                && backends.service == service.name
                && backends.addresses.contains(&address)
        }),
        Peer::Nodes(selector) => objects
            .nodes
            .values()
            .any(|node| selects(selector, &node.labels) && node.addresses.contains(&address)),
        Peer::Nothing => false,
    }
}

fn holds(objects: &Objects, term: &PortTerm, packet: &Packet) -> bool {
    term.ports.iter().any(|ports| port_matches(objects, ports, term.end, packet)) != term.negated
}

fn port_matches(objects: &Objects, ports: &Ports, end: End, packet: &Packet) -> bool {
    let address = match end {
        End::Source => packet.source,
        End::Destination => packet.destination,
    };
    // Only TCP, UDP and SCTP have ports: never ping.
    let port = match (packet.transport, end) {
        (Transport::Ports { source, .. }, End::Source) => Some(source),
        (Transport::Ports { destination, .. }, End::Destination) => Some(destination),
        _ => None,
    };
    let protocol = packet.transport.protocol();
    match ports {
        Ports::Protocol(wanted) => protocol == *wanted && right_family(*wanted, address),
        Ports::Range(wanted, range) => {
            protocol == *wanted && port.is_some_and(|port| range.first <= port && port <= range.last)
        }
        // A name is that of a port of the pod at that end; one that nobody has matches nothing.
        Ports::Named(name) => {
            let pod = owner(objects, address);
            let numbers = pod.and_then(|(_, pod)| pod.named_ports.get(name));
            protocol == name.protocol
                && port.is_some_and(|port| numbers.is_some_and(|numbers| numbers.contains(&port)))
        }
        Ports::Icmp(wanted, wanted_kind, wanted_code) => match packet.transport {
            Transport::Icmp { protocol, kind, code } => {
                protocol == *wanted
                    && right_family(*wanted, address)
                    && kind == *wanted_kind
                    && wanted_code.is_none_or(|wanted| wanted == code)
            }
            _ => false,
        },
        Ports::Backends(service) => objects.backends.iter().any(|(slice, backends)| {
            slice.namespace == service.namespace
                && backends.service == service.name
                && backends.addresses.contains(&address)
                && port.is_some_and(|port| backends.ports.contains(&(protocol, port)))
        }),
        Ports::Nothing => false,
    }
}

/// 1 is IPv4's ICMP alone, 58 IPv6's.
fn right_family(protocol: u8, address: IpAddr) -> bool {
    match protocol {
        1 => address.is_ipv4(),
        58 => address.is_ipv6(),
        _ => true,
    }
}
