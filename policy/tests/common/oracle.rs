//! The naive truth: a verdict straight from the objects, as the semantics are written, without index or groups.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::{Action, EndpointKey, Family, NamedPort};
use selvage_policy::model::{
    Entity, Labels, Namespaces, Order, Peer, Pod, PodSet, Policy, Ports, Rule, Tier,
};
use selvage_policy::selector::Selector;

use super::world::World;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

#[derive(Debug, Clone, Copy)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// The destination port.
    pub port: u16,
}

/// Whether an endpoint's policies in one direction let a packet through.
pub fn allowed(world: &World, judged: &EndpointKey, direction: Direction, packet: &Packet) -> bool {
    for (tier, content) in tiers(world) {
        let mut policies: Vec<_> = world
            .policies
            .iter()
            .filter(|(_, policy)| policy.tier == tier)
            .filter(|(_, policy)| contains(world, &policy.subject, judged))
            .filter_map(|(key, policy)| Some((key, policy, rules(policy, direction)?)))
            .collect();
        if policies.is_empty() {
            continue;
        }
        policies.sort_by_key(|(key, policy, _)| {
            (last(policy.order), key.name.clone(), key.namespace.clone(), key.kind)
        });
        let rules = policies.iter().flat_map(|(_, _, rules)| rules.iter());
        let decision = rules
            .filter(|rule| rule.action != Action::Log && matches(world, judged, direction, rule, packet))
            .map(|rule| rule.action)
            .next();
        match decision.unwrap_or(content.default_action) {
            Action::Allow => return true,
            Action::Deny => return false,
            Action::Pass | Action::Log => {}
        }
    }
    true
}

fn tiers(world: &World) -> Vec<(Arc<str>, Tier)> {
    let mut tiers: BTreeMap<Arc<str>, Tier> = world.tiers.clone();
    let built_in = [
        ("kube-admin", 1_000.0, Action::Pass),
        ("default", 1_000_000.0, Action::Deny),
        ("kube-baseline", 10_000_000.0, Action::Pass),
    ];
    for (name, order, default_action) in built_in {
        tiers.insert(name.into(), Tier { order: Order::new(order), default_action });
    }
    let mut tiers: Vec<_> = tiers.into_iter().collect();
    tiers.sort_by_key(|(name, tier)| (last(tier.order), name.clone()));
    tiers
}

/// Orders by number, those without one last.
fn last(order: Option<Order>) -> (bool, Option<Order>) {
    (order.is_none(), order)
}

fn rules(policy: &Policy, direction: Direction) -> Option<&Vec<Rule>> {
    match direction {
        Direction::Ingress => policy.ingress.as_ref(),
        Direction::Egress => policy.egress.as_ref(),
    }
}

fn matches(world: &World, judged: &EndpointKey, direction: Direction, rule: &Rule, packet: &Packet) -> bool {
    let family = if packet.source.is_ipv4() { Family::V4 } else { Family::V6 };
    let resolver = match direction {
        Direction::Ingress => world.pods.get(judged),
        Direction::Egress => owner(world, packet.destination).map(|(_, pod)| pod),
    };
    rule.family.is_none_or(|wanted| wanted == family)
        && end(world, &rule.source, packet.source)
        && end(world, &rule.destination, packet.destination)
        && rule
            .ports
            .iter()
            .all(|term| term.ports.iter().any(|ports| service(ports, resolver, packet)) != term.negated)
}

fn service(ports: &Ports, resolver: Option<&Pod>, packet: &Packet) -> bool {
    match ports {
        Ports::Protocol(protocol) => packet.protocol == *protocol,
        Ports::Range(protocol, range) => {
            packet.protocol == *protocol && range.first <= packet.port && packet.port <= range.last
        }
        Ports::Named(NamedPort { protocol, name }) => {
            let wanted = NamedPort { protocol: *protocol, name: name.clone() };
            packet.protocol == *protocol
                && resolver
                    .and_then(|pod| pod.named_ports.get(&wanted))
                    .is_some_and(|ports| ports.contains(&packet.port))
        }
        Ports::Icmp(..) | Ports::Backends(_) => panic!("nothing here makes {ports:?}"),
        Ports::Nothing => false,
    }
}

fn end(world: &World, entity: &Entity, address: IpAddr) -> bool {
    entity.terms.iter().all(|term| {
        let contained = term.peers.iter().any(|peer| match peer {
            Peer::Block { net, except } => {
                net.contains(&address) && !except.iter().any(|net| net.contains(&address))
            }
            Peer::Pods(set) => owner(world, address).is_some_and(|(key, _)| contains(world, set, key)),
            Peer::Sets(_) | Peer::Backends(_) | Peer::Nodes(_) => panic!("nothing here makes {peer:?}"),
            Peer::Nothing => false,
        });
        contained != term.negated
    })
}

/// The pod that owns an address: the one whose node owns the block, then the newest.
pub fn owner(world: &World, address: IpAddr) -> Option<(&EndpointKey, &Pod)> {
    world.pods.iter().filter(|(_, pod)| pod.addresses.contains(&address)).max_by_key(|(key, pod)| {
        let node = world.nodes.get(&pod.node);
        let owns = node.is_some_and(|node| node.blocks.iter().any(|block| block.contains(&address)));
        (owns, pod.created, pod.uid.clone(), (*key).clone())
    })
}

/// Whether a pod lies in a set.
pub fn contains(world: &World, set: &PodSet, key: &EndpointKey) -> bool {
    let Some(pod) = world.pods.get(key) else { return false };
    let namespace = match &set.namespaces {
        Namespaces::Named(name) => *name == key.namespace,
        Namespaces::Matching(selector) => {
            let mut labels =
                world.namespaces.get(&key.namespace).map(|ns| ns.labels.clone()).unwrap_or_default();
            labels.insert("kubernetes.io/metadata.name".into(), key.namespace.clone());
            selects(selector, &labels)
        }
    };
    namespace && selects(&set.pods, &pod.labels)
}

pub fn selects(selector: &Selector, labels: &Labels) -> bool {
    match selector {
        Selector::All => true,
        Selector::Has(key) => labels.contains_key(key),
        Selector::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
        Selector::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        Selector::Not(inner) => !selects(inner, labels),
        Selector::And(parts) => parts.iter().all(|part| selects(part, labels)),
        Selector::Or(parts) => parts.iter().any(|part| selects(part, labels)),
    }
}
