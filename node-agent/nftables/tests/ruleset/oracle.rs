//! What becomes of a packet by the words of the design, straight from the compiled policy: no chains, no sets.

use std::net::IpAddr;

use selvage_nftables::render::UnknownPods;
use selvage_nftables::trace::{Packet, Transport};
use selvage_policy::compiled::{
    Action, AddressTerm, End, EndpointKey, Family, GroupId, Member, PortMatch, Profile, Rule, Service,
    TierStep,
};

use crate::build::{World, owners};

/// True where the packet passes.
pub fn passes(world: &World, packet: &Packet) -> bool {
    let closed = world.settings.unknown_pods == UnknownPods::Closed;
    let on_pod_side = |name: &Option<std::sync::Arc<str>>| {
        name.as_ref().is_some_and(|name| world.facts.pod_interfaces.contains(name))
    };
    let (from_pods, to_pods) = (on_pod_side(&packet.iif), on_pod_side(&packet.oif));
    if packet.iif.is_none() {
        return true;
    }
    if from_pods && !needed_by_links(packet, packet.hop_limit) && guarded(world, packet) {
        return false;
    }
    let routed = packet.oif.is_some() && packet.iif != packet.oif;
    let hop_limit = packet.hop_limit - u8::from(routed && packet.hop_limit > 0);
    if packet.conntrack.state & 6 != 0 || needed_by_links(packet, hop_limit) {
        return true;
    }
    let owners = owners(world);
    let (source, destination) = (owners.get(&packet.source), owners.get(&packet.destination));
    if packet.oif.is_some() && packet.conntrack.status & 32 != 0 && source.is_some() && source == destination
    {
        return true;
    }
    let leaves = match source {
        Some(pod) => allowed(world, pod, packet, false),
        None => !(from_pods && closed),
    };
    let arrives = match (destination, &packet.oif) {
        (_, None) => true,
        (Some(pod), _) => allowed(world, pod, packet, true),
        (None, _) => !(to_pods && closed),
    };
    leaves && arrives
}

/// True where the packet gets the node's address: it opens a connection that leaves the pools.
pub fn masquerades(world: &World, packet: &Packet) -> bool {
    let Some(wanted) = &world.policy.masquerade else { return false };
    let holds = |nets: &[ipnet::IpNet], address| nets.iter().any(|net| net.contains(&address));
    let sent = packet.oif.is_some() && passes(world, packet) && packet.conntrack.state == 8;
    sent && holds(&wanted.from, packet.source) && !holds(&wanted.inside, packet.destination)
}

/// Neighbour discovery and MLD.
fn needed_by_links(packet: &Packet, hop_limit: u8) -> bool {
    let (Transport::Icmp { protocol: 58, kind, .. }, IpAddr::V6(source)) = (packet.transport, packet.source)
    else {
        return false;
    };
    match kind {
        133 | 135 | 136 => hop_limit == 255,
        130..=132 | 143 => hop_limit == 1 && (source.is_unicast_link_local() || source.is_unspecified()),
        _ => false,
    }
}

/// What no pod may send.
fn guarded(world: &World, packet: &Packet) -> bool {
    let destination = packet.original_destination.unwrap_or(packet.destination);
    let to_many = packet.packet_type == 1
        || packet.packet_type == 2
        || packet.routing.destination_type == 3
        || destination.is_multicast()
        || destination == IpAddr::from([255, 255, 255, 255]);
    let router = match packet.transport {
        Transport::Icmp { protocol: 58, kind, .. } => kind == 134 || kind == 137,
        _ => false,
    };
    let overlay = match packet.transport {
        Transport::Ports { protocol: 17, destination, .. } => destination == 8472 || destination == 4789,
        Transport::Other(protocol) => protocol == 4,
        _ => false,
    };
    let link_local = matches!(packet.source, IpAddr::V6(a) if a.is_unicast_link_local());
    let stranger = !owners(world).contains_key(&packet.source)
        && match world.settings.unknown_pods {
            UnknownPods::Closed => true,
            UnknownPods::Open => link_local || !packet.routing.source_routed,
        };
    to_many || (router && packet.source.is_ipv6()) || overlay || stranger
}

fn allowed(world: &World, pod: &EndpointKey, packet: &Packet, ingress: bool) -> bool {
    let endpoint = &world.policy.endpoints[pod];
    let Some(profile) = world.policy.profiles.get(&endpoint.profile) else { return false };
    let steps = if ingress { &profile.ingress } else { &profile.egress };
    for step in steps {
        match decide(world, profile, step, packet, ingress) {
            Action::Allow => return true,
            Action::Deny => return false,
            _ => {}
        }
    }
    true
}

/// A tier's word: Allow, Deny or Pass.
fn decide(world: &World, profile: &Profile, step: &TierStep, packet: &Packet, ingress: bool) -> Action {
    for key in &step.policies {
        let Some(policy) = world.policy.policies.get(key) else { return Action::Deny };
        let rules = if ingress { &policy.ingress } else { &policy.egress };
        for rule in rules {
            let closed = named_groups(rule).into_iter().any(|(group, ports)| !usable(world, group, ports));
            if !matches(world, profile, rule, packet) {
                continue;
            }
            match (rule.action, closed) {
                (Action::Log, _) | (Action::Allow, true) => {}
                (_, true) => return Action::Deny,
                (action, false) => return action,
            }
        }
    }
    step.default_action
}

fn named_groups(rule: &Rule) -> Vec<(GroupId, bool)> {
    let terms =
        rule.source.iter().chain(&rule.destination).flat_map(|t| t.groups.iter().map(|g| (*g, false)));
    let services = rule.services.iter().flatten().filter_map(|s| match s {
        Service::Group { group, .. } => Some((*group, true)),
        _ => None,
    });
    terms.chain(services).collect()
}

fn usable(world: &World, group: GroupId, ports: bool) -> bool {
    world
        .groups
        .get(&group)
        .is_some_and(|members| members.iter().all(|m| matches!(m, Member::Port(..)) == ports))
}

/// Where a group can't be used, whatever it might say is taken to hold.
fn matches(world: &World, profile: &Profile, rule: &Rule, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    rule.family.is_none_or(|wanted| wanted == family)
        && rule.services.iter().all(|any| any.iter().any(|s| service(world, profile, s, packet)))
        && rule.source.iter().all(|term| holds(world, term, packet.source))
        && rule.destination.iter().all(|term| holds(world, term, packet.destination))
}

fn holds(world: &World, term: &AddressTerm, address: IpAddr) -> bool {
    if term.groups.iter().any(|group| !usable(world, *group, false)) {
        return true;
    }
    let in_nets = term.nets.iter().any(|net| net.contains(&address));
    let in_groups = term.groups.iter().any(|group| {
        world.groups[group].iter().any(|m| matches!(m, Member::Net(net) if net.contains(&address)))
    });
    (in_nets || in_groups) != term.negated
}

fn service(world: &World, profile: &Profile, service: &Service, packet: &Packet) -> bool {
    let number = match packet.transport {
        Transport::Ports { protocol, .. } | Transport::Icmp { protocol, .. } | Transport::Other(protocol) => {
            protocol
        }
    };
    let right_family = |protocol: u8| match protocol {
        1 => packet.source.is_ipv4(),
        58 => packet.source.is_ipv6(),
        _ => true,
    };
    match service {
        Service::Protocol { protocol, source_ports, destination_ports } => {
            let ports = match packet.transport {
                Transport::Ports { source, destination, .. } => Some((source, destination)),
                _ => None,
            };
            let fits = |wanted: &Option<PortMatch>, port: Option<u16>| match (wanted, port) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(wanted), Some(port)) => port_in(profile, wanted, *protocol, port),
            };
            number == *protocol
                && right_family(*protocol)
                && fits(source_ports, ports.map(|p| p.0))
                && fits(destination_ports, ports.map(|p| p.1))
        }
        Service::NotProtocol(protocol) => number != *protocol || !right_family(number),
        Service::Icmp { protocol, kind, code, negated } => match packet.transport {
            Transport::Icmp { protocol: p, kind: k, code: c } => {
                let same = k == *kind && code.is_none_or(|code| code == c);
                p == *protocol && right_family(p) && same != *negated
            }
            _ => false,
        },
        Service::Group { group, .. } if !usable(world, *group, true) => true,
        Service::Group { group, end, negated } => {
            let member = match (packet.transport, end) {
                (Transport::Ports { protocol, source, .. }, End::Source) => {
                    world.groups[group].contains(&Member::Port(packet.source, protocol, source))
                }
                (Transport::Ports { protocol, destination, .. }, End::Destination) => {
                    world.groups[group].contains(&Member::Port(packet.destination, protocol, destination))
                }
                _ => false,
            };
            member != *negated
        }
    }
}

fn port_in(profile: &Profile, wanted: &PortMatch, protocol: u8, port: u16) -> bool {
    let in_ranges = wanted.ranges.iter().any(|r| r.first <= port && port <= r.last);
    let named = wanted.names.iter().filter(|name| name.protocol == protocol);
    let in_names = named.filter_map(|name| profile.named_ports.get(name)).any(|ports| ports.contains(&port));
    (in_ranges || in_names) != wanted.negated
}
