//! Random changes over a small universe, so that names, labels and addresses meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::compiled::{
    Action, End, EndpointKey, Family, NamedPort, PolicyKey, PolicyKind, PortRange,
};
use selvage_policy::model::{
    Backends, Change, Entity, Key, Labels, Namespace, Namespaces, NetworkSet, Node, Order, Peer, PeerTerm,
    Pod, PodSet, Policy, Pool, PortTerm, Ports, Rule, ServiceAccount, SetSelection, Tier, given,
};
use selvage_policy::oracle::{Packet, Transport};
use selvage_policy::selector::{Selector, TextTest};

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
        2 => (key(), gone(labels().prop_map(|labels| ServiceAccount { labels })))
            .prop_map(|(key, value)| Change::ServiceAccount(key, value)),
        3 => (set_key(), gone(network_set())).prop_map(|(key, value)| Change::NetworkSet(key, value)),
        2 => (key(), gone(backends())).prop_map(|(key, value)| Change::Backends(key, value)),
        1 => (name(&["pool-a", "pool-b"]), gone(pool())).prop_map(|(name, value)| Change::Pool(name, value)),
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

/// Service accounts, Services and EndpointSlices.
fn key() -> impl Strategy<Value = Key> {
    (namespace_name(), name(&["default", "s", "t"])).prop_map(|(namespace, name)| Key { namespace, name })
}

fn set_key() -> impl Strategy<Value = Key> {
    let namespace = prop_oneof![2 => namespace_name(), 1 => Just(Arc::from(""))];
    (namespace, name(&["m", "n"])).prop_map(|(namespace, name)| Key { namespace, name })
}

fn network_set() -> impl Strategy<Value = NetworkSet> {
    (labels(), vec(net(), 0..4)).prop_map(|(labels, nets)| NetworkSet { labels, nets })
}

fn backends() -> impl Strategy<Value = Backends> {
    let ports = btree_set((select(&[6u8, 17][..]), 80u16..83), 0..3);
    (name(&["s", "t"]), btree_set(address(), 0..3), ports).prop_map(|(service, addresses, ports)| Backends {
        service,
        addresses,
        ports,
    })
}

fn pool() -> impl Strategy<Value = Pool> {
    (net(), any::<bool>(), selector()).prop_map(|(net, nat_outgoing, nodes)| Pool {
        net: net.trunc(),
        nat_outgoing,
        nodes,
    })
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
    (btree_set(0u8..3, 0..2), labels(), btree_set(address(), 0..2)).prop_map(|(blocks, labels, addresses)| {
        Node {
            labels,
            addresses,
            blocks: blocks
                .into_iter()
                .flat_map(|n| [format!("10.0.{n}.0/24"), format!("fd00::{n}:0/112")])
                .map(|net| net.parse().unwrap())
                .collect(),
        }
    })
}

fn named_port() -> impl Strategy<Value = NamedPort> {
    (select(&[6u8, 17][..]), name(&["web", "dns"])).prop_map(|(protocol, name)| NamedPort { protocol, name })
}

fn pod() -> impl Strategy<Value = Pod> {
    let addresses = btree_set(address(), 0..3);
    let named_ports = btree_map(named_port(), btree_set(80u16..83, 1..3), 0..3);
    let account = name(&["default", "s"]);
    (name(&["u1", "u2"]), 0i64..3, node_name(), labels(), account, addresses, named_ports).prop_map(
        |(uid, created, node, labels, service_account, addresses, named_ports)| Pod {
            uid,
            created,
            node,
            labels,
            service_account,
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

fn text_test() -> impl Strategy<Value = TextTest> {
    select(&[TextTest::Contains, TextTest::StartsWith, TextTest::EndsWith][..])
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
        (key(), text_test(), name(&["x", "y", ""]))
            .prop_map(|(key, test, text)| Selector::Text(key, test, text)),
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
    let accounts = prop_oneof![
        3 => Just(Selector::All),
        1 => selector(),
        1 => Just(Selector::equals(given::NAME, "s")),
    ];
    let pods = prop_oneof![
        4 => selector(),
        1 => Just(Selector::equals(given::NAMESPACE, "ns-a")),
        1 => Just(Selector::equals(given::SERVICE_ACCOUNT, "s").negate()),
    ];
    let any = (namespaces, accounts, pods).prop_map(|(namespaces, accounts, pods)| PodSet {
        namespaces,
        accounts,
        pods,
    });
    // Often enough everybody, so that policies meet.
    prop_oneof![3 => any, 1 => Just(PodSet::all())]
}

fn set_selection() -> impl Strategy<Value = SetSelection> {
    let namespaces = prop_oneof![
        2 => Just(None),
        1 => namespace_name().prop_map(|name| Some(Namespaces::Named(name))),
        2 => selector().prop_map(|selector| Some(Namespaces::Matching(selector))),
    ];
    let sets = prop_oneof![3 => selector(), 1 => Just(Selector::equals(given::NAMESPACE, "ns-b"))];
    (namespaces, sets).prop_map(|(namespaces, sets)| SetSelection { namespaces, sets })
}

fn peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        6 => pod_set().prop_map(Peer::Pods),
        4 => (net(), vec(net(), 0..3)).prop_map(|(net, except)| Peer::Block { net, except }),
        4 => set_selection().prop_map(Peer::Sets),
        1 => key().prop_map(Peer::Backends),
        1 => selector().prop_map(Peer::Nodes),
        1 => Just(Peer::Nothing),
    ]
}

fn entity() -> impl Strategy<Value = Entity> {
    let term = (any::<bool>(), vec(peer(), 0..3)).prop_map(|(negated, peers)| PeerTerm { negated, peers });
    prop_oneof![
        2 => Just(Entity::default()),
        4 => vec(peer(), 0..3).prop_map(Entity::any_of),
        2 => vec(term, 1..3).prop_map(|terms| Entity { terms }),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    let protocol = || select(&[6u8, 17, 132][..]);
    prop_oneof![
        1 => protocol().prop_map(Ports::Protocol),
        3 => (protocol(), 80u16..83, 80u16..83)
            .prop_map(|(protocol, first, last)| Ports::Range(protocol, PortRange { first, last })),
        3 => named_port().prop_map(Ports::Named),
        1 => (select(&[1u8, 58][..]), 8u8..10, option::of(0u8..2))
            .prop_map(|(protocol, kind, code)| Ports::Icmp(protocol, kind, code)),
        1 => key().prop_map(Ports::Backends),
        1 => Just(Ports::Nothing),
    ]
}

fn port_terms() -> impl Strategy<Value = Vec<PortTerm>> {
    let term = (select(&[End::Source, End::Destination][..]), any::<bool>(), vec(ports(), 0..3))
        .prop_map(|(end, negated, ports)| PortTerm { end, negated, ports });
    prop_oneof![
        3 => Just(Vec::new()),
        4 => vec(ports(), 1..3).prop_map(|ports| vec![PortTerm::any_of(ports)]),
        3 => vec(term, 1..4),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let actions = [Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log];
    let family = option::weighted(0.1, select(&[Family::V4, Family::V6][..]));
    (select(actions.to_vec()), family, port_terms(), entity(), entity()).prop_map(
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

fn transport() -> impl Strategy<Value = Transport> {
    let ports = (select(&[6u8, 17, 132][..]), 80u16..83, 80u16..83);
    prop_oneof![
        5 => ports.prop_map(|(protocol, source, destination)| Transport::Ports { protocol, source, destination }),
        2 => (select(&[1u8, 58][..]), 8u8..10, 0u8..2)
            .prop_map(|(protocol, kind, code)| Transport::Icmp { protocol, kind, code }),
        1 => Just(Transport::Other(47)),
    ]
}

/// A packet between any two addresses, pods' or not.
pub fn packet() -> impl Strategy<Value = Packet> {
    let outside = || select(&["8.8.8.8", "fd99::1", "10.0.200.1"][..]).prop_map(|a| a.parse().unwrap());
    let any_address = || prop_oneof![5 => address(), 1 => outside()];
    (any_address(), any_address(), transport())
        .prop_map(|(source, destination, transport)| Packet { source, destination, transport })
        .prop_filter("one family", |packet| packet.source.is_ipv4() == packet.destination.is_ipv4())
        .prop_filter("ICMP of the family", |packet| {
            packet.transport.protocol() != if packet.source.is_ipv4() { 58 } else { 1 }
        })
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
