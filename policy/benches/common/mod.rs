//! Objects of clusters of any size.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use selvage_policy::compiled::{Action, EndpointKey, PolicyKey, PolicyKind};
use selvage_policy::engine::Engine;
use selvage_policy::model::{Change, Entity, Labels, Order, Peer, Pod, PodSet, Policy, Rule};

pub const PODS_A_NODE: u32 = 40;

pub fn text(prefix: &str, number: u32) -> Arc<str> {
    format!("{prefix}-{number}").into()
}

pub fn namespace(number: u32) -> Arc<str> {
    text("namespace", number)
}

pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

/// A pod with four labels, three pods of which share a hash.
pub fn pod(namespaces: u32, node: u32, number: u32, app: u32) -> Change {
    let key = EndpointKey { namespace: namespace(number % namespaces), name: text("pod", number) };
    let pairs = [
        ("app", &*text("app", app)),
        ("pod-template-hash", &*text("hash", number / 3)),
        ("app.kubernetes.io/managed-by", "helm"),
        ("track", "stable"),
    ];
    let pod = Pod {
        uid: text("00000000-0000-0000-0000", number),
        created: i64::from(number),
        node: text("node", node),
        labels: labels(&pairs),
        service_account: "default".into(),
        addresses: BTreeSet::from([IpAddr::V4(Ipv4Addr::from((10 << 24) + number))]),
        named_ports: BTreeMap::new(),
    };
    Change::Pod(key, Some(pod))
}

/// A GlobalNetworkPolicy that lets these in and sends nothing.
pub fn global_policy(number: u32, subject: PodSet, from: Vec<Peer>) -> (PolicyKey, Policy) {
    let key = PolicyKey {
        kind: PolicyKind::GlobalNetworkPolicy,
        namespace: "".into(),
        name: text("global", number),
    };
    let policy = Policy {
        uid: text("22222222-0000-0000-0000", number),
        generation: 1,
        tier: "default".into(),
        order: Order::new(f64::from(number)),
        subject,
        ingress: Some(vec![Rule {
            action: Action::Allow,
            family: None,
            ports: Vec::new(),
            source: Entity::any_of(from),
            destination: Entity::default(),
        }]),
        egress: None,
    };
    (key, policy)
}

pub fn compiled(changes: Vec<Change>) -> Engine {
    let mut engine = Engine::new();
    for change in changes {
        engine.apply(change);
    }
    black_box(engine.flush());
    engine
}
