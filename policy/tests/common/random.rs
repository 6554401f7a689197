//! Random changes over a small universe, so that names, labels and addresses meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::compiled::{Action, EndpointKey, Family, NamedPort, PolicyKey, PolicyKind, PortRange};
use selvage_policy::model::{
    Change, Entity, Labels, Namespace, Namespaces, Node, Order, Peer, Pod, PodSet, Policy, PortTerm, Ports,
    Rule, Tier,
};
use selvage_policy::selector::Selector;

use super::oracle::Packet;

pub fn changes(most: usize) -> impl Strategy<Value = Vec<Change>> {
    vec(change(), 1..most)
}

pub fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        2 => (namespace_name(), gone(labels().prop_map(|labels| Namespace { labels })))
            .prop_map(|(name, value)| Change::Namespace(name, value)),
        2 => (node_name(), gone(node())).prop_map(|(name, value)| Change::Node(name, value)),
        8 => (endpoint_key(), gone(pod())).prop_map(|(key, value)| Change::Pod(key, value)),
        1 => (tier_name(), gone(tier())).prop_map(|(name, value)| Change::Tier(name, value)),
        6 => (policy_key(), gone(policy())).prop_map(|(key, value)| Change::Policy(key, value)),
    ]
}

/// Sometimes the object goes.
fn gone<T: std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
    option::weighted(0.8, value)
}

fn name(names: &'static [&'static str]) -> impl Strategy<Value = Arc<str>> {
    select(names).prop_map(Arc::from)
}

fn namespace_name() -> impl Strategy<Value = Arc<str>> {
    name(&["ns-a", "ns-b", "ns-c"])
}

fn node_name() -> impl Strategy<Value = Arc<str>> {
    name(&["node-0", "node-1", "node-2"])
}

fn tier_name() -> impl Strategy<Value = Arc<str>> {
    name(&["first", "second", "default", "kube-admin", "kube-baseline"])
}

pub fn endpoint_key() -> impl Strategy<Value = EndpointKey> {
    (namespace_name(), name(&["p", "q", "r"])).prop_map(|(namespace, name)| EndpointKey { namespace, name })
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    let kinds =
        [PolicyKind::NetworkPolicy, PolicyKind::GlobalNetworkPolicy, PolicyKind::SelvageNetworkPolicy];
    (select(kinds.to_vec()), namespace_name(), name(&["k", "l"]))
        .prop_map(|(kind, namespace, name)| PolicyKey { kind, namespace, name })
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(name(&["app", "tier", "env"]), name(&["x", "y", "z"]), 0..3)
}

pub fn address() -> impl Strategy<Value = IpAddr> {
    (0u8..3, 1u8..4, any::<bool>()).prop_map(|(node, host, v4)| {
        let text = if v4 { format!("10.0.{node}.{host}") } else { format!("fd00::{node}:{host}") };
        text.parse().unwrap()
    })
}

fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (address(), 24u8..=32).prop_map(|(address, length)| {
            let length = if address.is_ipv4() { length } else { length * 4 };
            IpNet::new(address, length).unwrap()
        }),
        select(&["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.0.0.0/23"][..]).prop_map(|net| net.parse().unwrap()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    btree_set(0u8..3, 0..2).prop_map(|blocks| Node {
        blocks: blocks
            .into_iter()
            .flat_map(|n| [format!("10.0.{n}.0/24"), format!("fd00::{n}:0/112")])
            .map(|net| net.parse().unwrap())
            .collect(),
        ..Node::default()
    })
}

fn named_port() -> impl Strategy<Value = NamedPort> {
    (select(&[6u8, 17][..]), name(&["web", "dns"])).prop_map(|(protocol, name)| NamedPort { protocol, name })
}

fn pod() -> impl Strategy<Value = Pod> {
    let addresses = btree_set(address(), 0..3);
    let named_ports = btree_map(named_port(), btree_set(80u16..83, 1..3), 0..3);
    (name(&["u1", "u2"]), 0i64..3, node_name(), labels(), addresses, named_ports).prop_map(
        |(uid, created, node, labels, addresses, named_ports)| Pod {
            uid,
            created,
            node,
            labels,
            service_account: "default".into(),
            addresses,
            named_ports,
        },
    )
}

fn order() -> impl Strategy<Value = Option<Order>> {
    select(&[None, Some(-1.0), Some(0.0), Some(1_000.0), Some(1_000_000.0), Some(2e7)][..])
        .prop_map(|order: Option<f64>| order.and_then(Order::new))
}

fn tier() -> impl Strategy<Value = Tier> {
    (order(), select(&[Action::Deny, Action::Pass][..]))
        .prop_map(|(order, default_action)| Tier { order, default_action })
}

/// Trees as nobody would write them: not in canonical form.
pub fn selector() -> impl Strategy<Value = Selector> {
    let values = || btree_set(name(&["x", "y", "z"]), 0..3);
    let key = || name(&["app", "tier", "env"]);
    let leaf = prop_oneof![
        Just(Selector::All),
        key().prop_map(Selector::Has),
        (key(), values()).prop_map(|(key, values)| Selector::In(key, values)),
        (key(), values()).prop_map(|(key, values)| Selector::In(key, values)),
        (key(), values()).prop_map(|(key, values)| Selector::NotIn(key, values)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Selector::Not(Box::new(inner))),
            vec(inner.clone(), 0..3).prop_map(Selector::And),
            vec(inner, 0..3).prop_map(Selector::Or),
        ]
    })
}

fn pod_set() -> impl Strategy<Value = PodSet> {
    let by_name = namespace_name()
        .prop_map(|name| Selector::equals("kubernetes.io/metadata.name", name))
        .prop_map(Namespaces::Matching);
    let namespaces = prop_oneof![
        4 => namespace_name().prop_map(Namespaces::Named),
        3 => selector().prop_map(Namespaces::Matching),
        1 => by_name,
    ];
    let any = (namespaces, selector()).prop_map(|(namespaces, pods)| PodSet {
        namespaces,
        accounts: Selector::All,
        pods,
    });
    // Often enough everybody, so that policies meet.
    prop_oneof![3 => any, 1 => Just(PodSet::all())]
}

fn entity() -> impl Strategy<Value = Entity> {
    let peer = prop_oneof![
        3 => pod_set().prop_map(Peer::Pods),
        2 => (net(), vec(net(), 0..3)).prop_map(|(net, except)| Peer::Block { net, except }),
        1 => Just(Peer::Nothing),
    ];
    option::weighted(0.7, vec(peer, 0..3)).prop_map(|peers| peers.map(Entity::any_of).unwrap_or_default())
}

fn ports() -> impl Strategy<Value = Ports> {
    let protocol = || select(&[6u8, 17, 132][..]);
    prop_oneof![
        1 => protocol().prop_map(Ports::Protocol),
        3 => (protocol(), 80u16..83, 80u16..83)
            .prop_map(|(protocol, first, last)| Ports::Range(protocol, PortRange { first, last })),
        3 => named_port().prop_map(Ports::Named),
        1 => Just(Ports::Nothing),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let actions = [Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log];
    let family = option::weighted(0.1, select(&[Family::V4, Family::V6][..]));
    let ports = option::weighted(0.7, vec(ports(), 1..3))
        .prop_map(|ports| ports.map(PortTerm::any_of).into_iter().collect());
    (select(actions.to_vec()), family, ports, entity(), entity()).prop_map(
        |(action, family, ports, source, destination)| Rule { action, family, ports, source, destination },
    )
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let rules = || option::weighted(0.7, vec(rule(), 0..3));
    let tier = prop_oneof![4 => Just(Arc::from("default")), 3 => tier_name()];
    (0i64..3, tier, order(), pod_set(), rules(), rules()).prop_map(
        |(generation, tier, order, subject, ingress, egress)| Policy {
            uid: "uid".into(),
            generation,
            tier,
            order,
            subject,
            ingress,
            egress,
        },
    )
}

/// A packet between any two addresses, pods' or not.
pub fn packet() -> impl Strategy<Value = Packet> {
    let outside = || select(&["8.8.8.8", "fd99::1", "10.0.200.1"][..]).prop_map(|a| a.parse().unwrap());
    let any_address = || prop_oneof![5 => address(), 1 => outside()];
    (any_address(), any_address(), select(&[1u8, 6, 17, 132][..]), 80u16..83)
        .prop_map(|(source, destination, protocol, port)| Packet { source, destination, protocol, port })
        .prop_filter("one family", |packet| packet.source.is_ipv4() == packet.destination.is_ipv4())
}

/// Objects that every random cluster starts with, so that most sequences have pods that meet policies.
pub fn seed() -> Vec<Change> {
    let names = ["ns-a", "ns-b", "ns-c"];
    let label = |index: usize| BTreeMap::from([(Arc::from("app"), Arc::from(["x", "y", "z"][index]))]);
    let mut seed = Vec::new();
    for (index, namespace) in names.into_iter().enumerate() {
        let labels = label(index);
        seed.push(Change::Namespace(namespace.into(), Some(Namespace { labels })));
        let key = EndpointKey { namespace: namespace.into(), name: "p".into() };
        let addresses = [format!("10.0.{index}.1"), format!("fd00::{index}:1")];
        let pod = Pod {
            uid: "u1".into(),
            created: 0,
            node: format!("node-{index}").into(),
            labels: label(index),
            service_account: "default".into(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            named_ports: BTreeMap::from([(
                NamedPort { protocol: 6, name: "web".into() },
                BTreeSet::from([80]),
            )]),
        };
        seed.push(Change::Pod(key, Some(pod)));
    }
    seed
}
