//! A verdict as a node reaches it: from its node policy and the members of the groups.

use std::net::IpAddr;

use selvage_policy::compiled::{
    Action, AddressTerm, End, EndpointKey, Family, Member, NodePolicy, PortMatch, Profile, Rule, Service,
};
use selvage_policy::oracle::verdict::Direction;
use selvage_policy::oracle::{Packet, Transport};

use super::snapshot::Snapshot;

/// Whether an endpoint's profile in one direction lets a packet through. Panics where no node has the endpoint.
pub fn allowed(snapshot: &Snapshot, judged: &EndpointKey, direction: Direction, packet: &Packet) -> bool {
    let node = snapshot.nodes.values().find(|node| node.endpoints.contains_key(judged)).unwrap();
    let profile = &node.profiles[&node.endpoints[judged].profile];
    let steps = match direction {
        Direction::Ingress => &profile.ingress,
        Direction::Egress => &profile.egress,
    };
    for step in steps {
        let rules = step.policies.iter().flat_map(|key| rules(node, key, direction));
        let decision = rules
            .filter(|rule| rule.action != Action::Log && matches(snapshot, profile, rule, packet))
            .map(|rule| rule.action)
            .next();
        match decision.unwrap_or(step.default_action) {
            Action::Allow => return true,
            Action::Deny => return false,
            Action::Pass | Action::Log => {}
        }
    }
    true
}

fn rules<'a>(
    node: &'a NodePolicy,
    key: &selvage_policy::compiled::PolicyKey,
    direction: Direction,
) -> &'a [Rule] {
    let policy = &node.policies[key];
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

fn matches(snapshot: &Snapshot, profile: &Profile, rule: &Rule, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    rule.family.is_none_or(|wanted| wanted == family)
        && rule.source.iter().all(|term| lies_in(snapshot, term, packet.source))
        && rule.destination.iter().all(|term| lies_in(snapshot, term, packet.destination))
        && rule
            .services
            .iter()
            .all(|any| any.iter().any(|service| serves(snapshot, profile, service, packet)))
}

fn lies_in(snapshot: &Snapshot, term: &AddressTerm, address: IpAddr) -> bool {
    let in_group = |id| {
        snapshot.groups[id].members.iter().any(|member| match member {
            Member::Net(net) => net.contains(&address),
            Member::Port(..) => panic!("a port in a group of addresses"),
        })
    };
    let lies = term.nets.iter().any(|net| net.contains(&address)) || term.groups.iter().any(in_group);
    lies != term.negated
}

fn serves(snapshot: &Snapshot, profile: &Profile, service: &Service, packet: &Packet) -> bool {
    let right_family = |protocol: u8| match protocol {
        1 => packet.source.is_ipv4(),
        58 => packet.source.is_ipv6(),
        _ => true,
    };
    let number = packet.transport.protocol();
    let port = |end| match (packet.transport, end) {
        (Transport::Ports { source, .. }, End::Source) => Some(source),
        (Transport::Ports { destination, .. }, End::Destination) => Some(destination),
        _ => None,
    };
    let fits = |wanted: &Option<PortMatch>, end| {
        wanted
            .as_ref()
            .is_none_or(|ports| port(end).is_some_and(|port| in_ports(profile, ports, number, port)))
    };
    match service {
        Service::Protocol { protocol, source_ports, destination_ports } => {
            *protocol == number
                && right_family(number)
                && fits(source_ports, End::Source)
                && fits(destination_ports, End::Destination)
        }
        Service::NotProtocol(protocol) => *protocol != number || !right_family(number),
        Service::Icmp { protocol, kind, code, negated } => match packet.transport {
            Transport::Icmp { protocol: p, kind: k, code: c } => {
                let same = k == *kind && code.is_none_or(|code| code == c);
                p == *protocol && right_family(p) && same != *negated
            }
            _ => false,
        },
        Service::Group { group, end, negated } => {
            let address = match end {
                End::Source => packet.source,
                End::Destination => packet.destination,
            };
            let listed = port(*end).is_some_and(|port| {
                snapshot.groups[group].members.contains(&Member::Port(address, number, port))
            });
            listed != *negated
        }
    }
}

fn in_ports(profile: &Profile, ports: &PortMatch, protocol: u8, port: u16) -> bool {
    let in_range = ports.ranges.iter().any(|r| r.first <= port && port <= r.last);
    let named = ports.names.iter().filter(|name| name.protocol == protocol);
    let by_name = named.filter_map(|name| profile.named_ports.get(name)).any(|p| p.contains(&port));
    (in_range || by_name) != ports.negated
}
