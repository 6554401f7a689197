//! Random changes over a small universe, so that names, labels and addresses meet.
//!
//! Three nodes with a pod block each and three hosts in every block, addressed as the beds with real packets address
//! theirs, so that a cluster made here can be put on one.

pub mod packet;
pub mod policy;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::compiled::{Action, EndpointKey, NamedPort, PolicyKey, PolicyKind};
use selvage_policy::model::{
    Backends, Change, Key, Labels, Namespace, NetworkSet, Node, Order, Pod, Pool, ServiceAccount, Tier,
};
use selvage_policy::selector::Selector;

pub use policy::{policy, selector};

/// How many nodes there are, and hosts in the block of each.
pub const NODES: u8 = 3;
pub const HOSTS: u8 = 3;
/// Addresses outside the cluster.
pub const OUTSIDE: [&str; 3] = ["192.0.2.10", "2001:db8::10", "10.244.200.1"];

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
        8 => (policy_key(), gone(policy())).prop_map(|(key, value)| Change::Policy(key, value)),
        2 => (key(), gone(labels().prop_map(|labels| ServiceAccount { labels })))
            .prop_map(|(key, value)| Change::ServiceAccount(key, value)),
        3 => (set_key(), gone(network_set())).prop_map(|(key, value)| Change::NetworkSet(key, value)),
        3 => (key(), gone(backends())).prop_map(|(key, value)| Change::Backends(key, value)),
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

/// Of every kind, with a namespace where the kind has one.
fn policy_key() -> impl Strategy<Value = PolicyKey> {
    let kinds = [
        PolicyKind::NetworkPolicy,
        PolicyKind::ClusterNetworkPolicy,
        PolicyKind::GlobalNetworkPolicy,
        PolicyKind::SelvageNetworkPolicy,
    ];
    (select(kinds.to_vec()), namespace_name(), name(&["k", "l"])).prop_map(|(kind, namespace, name)| {
        let namespace = match kind {
            PolicyKind::NetworkPolicy | PolicyKind::SelvageNetworkPolicy => namespace,
            PolicyKind::ClusterNetworkPolicy | PolicyKind::GlobalNetworkPolicy => "".into(),
        };
        PolicyKey { kind, namespace, name }
    })
}

/// Service accounts, Services and EndpointSlices.
pub fn key() -> impl Strategy<Value = Key> {
    (namespace_name(), name(&["default", "s", "t"])).prop_map(|(namespace, name)| Key { namespace, name })
}

fn set_key() -> impl Strategy<Value = Key> {
    let namespace = prop_oneof![2 => namespace_name(), 1 => Just(Arc::from(""))];
    (namespace, name(&["m", "n"])).prop_map(|(namespace, name)| Key { namespace, name })
}

fn network_set() -> impl Strategy<Value = NetworkSet> {
    (labels(), vec(net(), 0..4)).prop_map(|(labels, nets)| NetworkSet {
        labels,
        nets: nets.into_iter().map(|net| net.trunc()).collect(),
    })
}

fn backends() -> impl Strategy<Value = Backends> {
    let ports = btree_set((select(&[6u8, 17][..]), 80u16..83), 0..3);
    let whole = prop_oneof![3 => Just(BTreeSet::new()), 1 => btree_set(select(&[6u8, 17][..]), 1..3)];
    (name(&["s", "t"]), btree_set(address(), 0..5), ports, whole)
        .prop_map(|(service, addresses, ports, whole)| Backends { service, addresses, ports, whole })
}

fn pool() -> impl Strategy<Value = Pool> {
    (net(), any::<bool>(), selector()).prop_map(|(net, nat_outgoing, nodes)| Pool {
        net: net.trunc(),
        nat_outgoing,
        nodes,
    })
}

pub fn labels() -> impl Strategy<Value = Labels> {
    btree_map(name(&["app", "tier", "env"]), name(&["x", "y", "z"]), 0..3)
}

/// A host's addresses in the block of a node.
pub fn host(node: u8, host: u8) -> [IpAddr; 2] {
    let v4 = format!("10.244.{node}.{}", 16 + host);
    let v6 = format!("fd00:10:244:{node}::1{host}");
    [v4.parse().unwrap(), v6.parse().unwrap()]
}

/// A node's own addresses.
pub fn node_addresses(node: u8) -> [IpAddr; 2] {
    let last = if node == 0 { NODES } else { node };
    [format!("192.168.50.{last}").parse().unwrap(), format!("fd00:50::{last}").parse().unwrap()]
}

/// The pod block of a node.
pub fn blocks(node: u8) -> [IpNet; 2] {
    [format!("10.244.{node}.0/24").parse().unwrap(), format!("fd00:10:244:{node}::/64").parse().unwrap()]
}

/// An address in some node's block.
pub fn address() -> impl Strategy<Value = IpAddr> {
    (0..NODES, 0..HOSTS, 0usize..2).prop_map(|(node, index, family)| host(node, index)[family])
}

/// A pod's, a node's, or one outside, of one family.
pub fn address_of(v4: bool) -> impl Strategy<Value = IpAddr> {
    let outside: Vec<IpAddr> = OUTSIDE.iter().map(|address| address.parse().unwrap()).collect();
    let outside: Vec<IpAddr> = outside.into_iter().filter(|address| address.is_ipv4() == v4).collect();
    let family = usize::from(!v4);
    prop_oneof![
        10 => (0..NODES, 0..HOSTS).prop_map(move |(node, index)| host(node, index)[family]),
        1 => (0..NODES).prop_map(move |node| node_addresses(node)[family]),
        2 => select(outside),
    ]
}

/// A pod's, a node's, or one outside.
pub fn any_address() -> impl Strategy<Value = IpAddr> {
    any::<bool>().prop_flat_map(address_of)
}

/// Around some address, with host bits, or wide.
pub fn net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        3 => (any_address(), 0u8..=8).prop_map(|(address, wider)| {
            let length = if address.is_ipv4() { 32 - wider } else { 128 - 10 * wider };
            IpNet::new(address, length).unwrap()
        }),
        1 => select(&["10.0.0.0/8", "0.0.0.0/0", "::/0", "10.244.0.0/23", "fd00:10:244::/47"][..])
            .prop_map(|net| net.parse().unwrap()),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    (btree_set(0..NODES, 0..2), labels(), btree_set((0..NODES, 0usize..2), 0..3)).prop_map(
        |(owned, labels, addresses)| Node {
            labels,
            addresses: addresses.into_iter().map(|(node, family)| node_addresses(node)[family]).collect(),
            blocks: owned.into_iter().flat_map(blocks).collect(),
        },
    )
}

pub fn named_port() -> impl Strategy<Value = NamedPort> {
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

/// Changes that make a cluster with many policies, on top of [`seed`].
pub fn cluster() -> impl Strategy<Value = Vec<Change>> {
    let policies = vec((policy_key(), policy()), 4..16);
    (changes(24), policies).prop_map(|(mut changes, policies)| {
        changes.extend(policies.into_iter().map(|(key, policy)| Change::Policy(key, Some(policy))));
        changes
    })
}

/// Objects that every random cluster starts with, so that most sequences have pods that meet policies: three nodes, and in
/// each of three namespaces a pod on every one of them; two tiers and two pools.
pub fn seed() -> Vec<Change> {
    let label = |index: u8| {
        let value = ["x", "y", "z"][usize::from(index)];
        BTreeMap::from([(Arc::from("app"), Arc::from(value))])
    };
    let mut seed = Vec::new();
    for (index, namespace) in (0..NODES).zip(["ns-a", "ns-b", "ns-c"]) {
        let labels = label(index);
        seed.push(Change::Namespace(namespace.into(), Some(Namespace { labels })));
        let node = Node {
            labels: label(index),
            addresses: node_addresses(index).into(),
            blocks: blocks(index).into(),
        };
        seed.push(Change::Node(format!("node-{index}").into(), Some(node)));
        for (step, name) in (0..HOSTS).zip(["p", "q", "r"]) {
            let node = (index + step) % NODES;
            let pod = Pod {
                uid: "u1".into(),
                created: 0,
                node: format!("node-{node}").into(),
                labels: label((index + 2 * step) % 3),
                service_account: "default".into(),
                addresses: host(node, step).into(),
                named_ports: BTreeMap::from([(
                    NamedPort { protocol: 6, name: "web".into() },
                    BTreeSet::from([80 + u16::from(step)]),
                )]),
            };
            let key = EndpointKey { namespace: namespace.into(), name: name.into() };
            seed.push(Change::Pod(key, Some(pod)));
        }
    }
    for (name, net) in [("pool-a", "10.244.0.0/16"), ("pool-b", "fd00:10:244::/48")] {
        let pool = Pool { net: net.parse().unwrap(), nat_outgoing: true, nodes: Selector::All };
        seed.push(Change::Pool(name.into(), Some(pool)));
    }
    for (name, order, default_action) in
        [("first", Order::new(1.0), Action::Deny), ("second", None, Action::Pass)]
    {
        seed.push(Change::Tier(name.into(), Some(Tier { order, default_action })));
    }
    seed
}
