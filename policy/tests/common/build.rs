//! Short ways to write clusters down and to ask them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::{Action, EndpointKey, NamedPort, PolicyKey, PolicyKind, PortRange};
use selvage_policy::engine::{Delta, Engine};
use selvage_policy::model::{
    Change, Entity, Labels, Namespace, Namespaces, Node, Order, Peer, Pod, PodSet, Policy, PortTerm, Ports,
    Rule, Tier,
};
use selvage_policy::oracle::verdict::{Direction, judge};
use selvage_policy::oracle::who::owner;
use selvage_policy::oracle::{Packet, Transport};
use selvage_policy::selector::Selector;

use super::evaluate;
use super::snapshot::Snapshot;
use super::world::World;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// A cluster, in an engine and as plain objects.
#[derive(Default)]
pub struct Cluster {
    pub world: World,
    pub engine: Engine,
}

impl Cluster {
    /// Namespaces shop (team=blue) and bank (team=red) on two nodes: shop/web (app=web, TCP port "http" 8080),
    /// shop/db (app=db) and bank/web (app=web, TCP port "http" 80), each with an address of both families.
    pub fn small() -> Self {
        let mut cluster = Self::default();
        cluster.namespace("shop", &[("team", "blue")]);
        cluster.namespace("bank", &[("team", "red")]);
        cluster.node("node-1", &["10.0.1.0/24", "fd00:1::/64"]);
        cluster.node("node-2", &["10.0.2.0/24", "fd00:2::/64"]);
        cluster.pod(
            "shop/web",
            pod("node-1", &["10.0.1.1", "fd00:1::1"], &[("app", "web")]).port(TCP, "http", 8080),
        );
        cluster.pod("shop/db", pod("node-2", &["10.0.2.1", "fd00:2::1"], &[("app", "db")]));
        cluster.pod(
            "bank/web",
            pod("node-2", &["10.0.2.2", "fd00:2::2"], &[("app", "web")]).port(TCP, "http", 80),
        );
        cluster
    }

    pub fn apply(&mut self, change: Change) -> Delta {
        self.world.apply(change.clone());
        self.engine.apply(change);
        self.engine.flush()
    }

    pub fn namespace(&mut self, name: &str, pairs: &[(&str, &str)]) -> Delta {
        self.apply(Change::Namespace(name.into(), Some(Namespace { labels: labels(pairs) })))
    }

    pub fn node(&mut self, name: &str, blocks: &[&str]) -> Delta {
        let blocks = blocks.iter().map(|block| block.parse().unwrap()).collect();
        self.apply(Change::Node(name.into(), Some(Node { blocks, ..Node::default() })))
    }

    pub fn pod(&mut self, key: &str, pod: Pod) -> Delta {
        self.apply(Change::Pod(endpoint(key), Some(pod)))
    }

    /// The pod changed.
    pub fn change(&mut self, key: &str, change: impl FnOnce(&mut Pod)) -> Delta {
        let mut pod = self.world.pods[&endpoint(key)].clone();
        change(&mut pod);
        self.pod(key, pod)
    }

    /// The pod finished or was deleted.
    pub fn finish(&mut self, key: &str) -> Delta {
        self.apply(Change::Pod(endpoint(key), None))
    }

    pub fn policy(&mut self, key: &str, policy: Policy) -> Delta {
        self.apply(Change::Policy(policy_key(key), Some(policy)))
    }

    pub fn tier(&mut self, name: &str, order: Option<f64>, default_action: Action) -> Delta {
        let order = order.and_then(Order::new);
        self.apply(Change::Tier(name.into(), Some(Tier { order, default_action })))
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.engine)
    }

    /// Whether a packet gets from one end to the other: ends are "namespace/pod" (its IPv4 address), the same with
    /// "@6" (its IPv6 address), or addresses. The naive verdict is asked too and must agree.
    pub fn allows(&self, from: &str, to: &str, protocol: u8, port: u16) -> bool {
        let (source, destination) = (self.address(from), self.address(to));
        let packet = Packet { source, destination, transport: transport(protocol, port) };
        let snapshot = self.snapshot();
        [(source, Direction::Egress), (destination, Direction::Ingress)].into_iter().all(
            |(end, direction)| {
                let Some((judged, _)) = owner(&self.world, end) else { return true };
                let seen = evaluate::allowed(&snapshot, judged, direction, &packet);
                assert_eq!(
                    seen,
                    judge(&self.world, judged, direction, &packet).allowed,
                    "{judged} {packet:?}"
                );
                seen
            },
        )
    }

    fn address(&self, end: &str) -> IpAddr {
        if let Ok(address) = end.parse() {
            return address;
        }
        let (key, v6) = end.strip_suffix("@6").map_or((end, false), |key| (key, true));
        let addresses = &self.world.pods[&endpoint(key)].addresses;
        *addresses.iter().find(|address| address.is_ipv6() == v6).unwrap()
    }
}

/// A packet to a port, from some port; for ICMP an echo request.
pub fn transport(protocol: u8, port: u16) -> Transport {
    match protocol {
        1 => Transport::Icmp { protocol, kind: 8, code: 0 },
        58 => Transport::Icmp { protocol, kind: 128, code: 0 },
        6 | 17 | 132 => Transport::Ports { protocol, source: 40_000, destination: port },
        other => Transport::Other(other),
    }
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

pub fn endpoint(key: &str) -> EndpointKey {
    let (namespace, name) = key.split_once('/').unwrap();
    EndpointKey { namespace: namespace.into(), name: name.into() }
}

/// "namespace/name" is a NetworkPolicy, "name" a GlobalNetworkPolicy.
pub fn policy_key(key: &str) -> PolicyKey {
    let (kind, namespace, name) = match key.split_once('/') {
        Some((namespace, name)) => (PolicyKind::NetworkPolicy, namespace, name),
        None => (PolicyKind::GlobalNetworkPolicy, "", key),
    };
    PolicyKey { kind, namespace: namespace.into(), name: name.into() }
}

pub fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

/// A pod with uid "uid" made at second 0.
pub fn pod(node: &str, list: &[&str], pairs: &[(&str, &str)]) -> Pod {
    Pod {
        uid: "uid".into(),
        created: 0,
        node: node.into(),
        labels: labels(pairs),
        service_account: "default".into(),
        addresses: addresses(list),
        named_ports: [].into(),
    }
}

pub trait PodExt {
    fn port(self, protocol: u8, name: &str, port: u16) -> Self;
    fn uid(self, uid: &str, created: i64) -> Self;
}

impl PodExt for Pod {
    fn port(mut self, protocol: u8, name: &str, port: u16) -> Self {
        let name = NamedPort { protocol, name: name.into() };
        self.named_ports.entry(name).or_default().insert(port);
        self
    }

    fn uid(self, uid: &str, created: i64) -> Self {
        Self { uid: uid.into(), created, ..self }
    }
}

/// A policy of the default tier for these pods that says nothing yet.
pub fn policy(subject: PodSet) -> Policy {
    Policy {
        uid: "uid".into(),
        generation: 1,
        tier: "default".into(),
        order: Order::new(1_000.0),
        subject,
        ingress: None,
        egress: None,
    }
}

pub trait PolicyExt {
    fn tier(self, tier: &str) -> Self;
    fn order(self, order: Option<f64>) -> Self;
    fn ingress(self, rules: impl IntoIterator<Item = Rule>) -> Self;
    fn egress(self, rules: impl IntoIterator<Item = Rule>) -> Self;
}

impl PolicyExt for Policy {
    fn tier(self, tier: &str) -> Self {
        Self { tier: tier.into(), ..self }
    }

    fn order(self, order: Option<f64>) -> Self {
        Self { order: order.and_then(Order::new), ..self }
    }

    fn ingress(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { ingress: Some(rules.into_iter().collect()), ..self }
    }

    fn egress(self, rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { egress: Some(rules.into_iter().collect()), ..self }
    }
}

/// A rule for every packet.
pub fn rule(action: Action) -> Rule {
    Rule {
        action,
        family: None,
        ports: Vec::new(),
        source: Entity::default(),
        destination: Entity::default(),
    }
}

pub trait RuleExt {
    fn from(self, peers: impl IntoIterator<Item = Peer>) -> Self;
    fn to(self, peers: impl IntoIterator<Item = Peer>) -> Self;
    fn ports(self, ports: impl IntoIterator<Item = Ports>) -> Self;
}

impl RuleExt for Rule {
    fn from(self, peers: impl IntoIterator<Item = Peer>) -> Self {
        Self { source: Entity::any_of(peers.into_iter().collect()), ..self }
    }

    fn to(self, peers: impl IntoIterator<Item = Peer>) -> Self {
        Self { destination: Entity::any_of(peers.into_iter().collect()), ..self }
    }

    fn ports(self, ports: impl IntoIterator<Item = Ports>) -> Self {
        Self { ports: vec![PortTerm::any_of(ports.into_iter().collect())], ..self }
    }
}

pub fn all_pods() -> PodSet {
    PodSet::all()
}

/// Pods of one namespace.
pub fn pods_in(namespace: &str, pods: Selector) -> PodSet {
    PodSet { namespaces: Namespaces::Named(namespace.into()), accounts: Selector::All, pods }
}

/// Pods of the namespaces that a selector matches.
pub fn pods_where(namespaces: Selector, pods: Selector) -> PodSet {
    PodSet { namespaces: Namespaces::Matching(namespaces), accounts: Selector::All, pods }
}

pub fn block(net: &str, except: &[&str]) -> Peer {
    Peer::Block { net: net.parse().unwrap(), except: except.iter().map(|net| net.parse().unwrap()).collect() }
}

pub fn named(protocol: u8, name: &str) -> Ports {
    Ports::Named(NamedPort { protocol, name: name.into() })
}

pub fn range(protocol: u8, first: u16, last: u16) -> Ports {
    Ports::Range(protocol, PortRange { first, last })
}
