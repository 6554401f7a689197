//! What one change costs where there are many selectors.

mod common;

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use common::{PODS_A_NODE, compiled, global_policy, labels, namespace, text};
use criterion::{Criterion, criterion_group, criterion_main};
use selvage_policy::compiled::{Action, PolicyKey, PolicyKind, PortRange};
use selvage_policy::model::{
    Change, Entity, Namespace, Namespaces, Node, Order, Peer, PodSet, Policy, PortTerm, Ports, Rule,
};
use selvage_policy::selector::Selector;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    namespaces: u32,
    pods: u32,
    policies: u32,
}

/// Two selectors a policy, of a pod and of its peer.
const SELECTORS: Size = Size { namespaces: 2_500, pods: 100_000, policies: 5_000 };

fn pod(size: Size, number: u32, app: u32) -> Change {
    common::pod(size.namespaces, number / PODS_A_NODE, number, app)
}

/// Each in its namespace: pods of one app let in another app's, and pods of a team, and send to a block.
fn policy(size: Size, number: u32) -> Change {
    let home = namespace(number % size.namespaces);
    let app = |app: u32| Selector::equals("app", text("app", app));
    let turn = number / size.namespaces;
    let peers = [
        Peer::Pods(PodSet {
            namespaces: Namespaces::Named(home.clone()),
            accounts: Selector::All,
            pods: app((turn + 1) % 3),
        }),
        Peer::Pods(PodSet {
            accounts: Selector::All,
            namespaces: Namespaces::Matching(Selector::equals("team", text("team", number % 500))),
            pods: app(turn % 3),
        }),
    ];
    let block = Peer::Block {
        net: ipnet::Ipv4Net::new_assert(Ipv4Addr::from(number << 8), 24).into(),
        except: Vec::new(),
    };
    let rule = |source, destination, port| Rule {
        action: Action::Allow,
        family: None,
        ports: vec![PortTerm::any_of(vec![Ports::Range(6, PortRange { first: port, last: port })])],
        source,
        destination,
    };
    let policy = Policy {
        uid: text("11111111-0000-0000-0000", number),
        generation: 1,
        tier: "default".into(),
        order: Order::new(1_000.0),
        subject: PodSet {
            namespaces: Namespaces::Named(home.clone()),
            accounts: Selector::All,
            pods: app(turn % 3),
        },
        ingress: Some(vec![rule(Entity::any_of(peers.into()), Entity::default(), 8080)]),
        egress: Some(vec![rule(Entity::default(), Entity::any_of(vec![block]), 443)]),
    };
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: home, name: text("policy", number) };
    Change::Policy(key, Some(policy))
}

fn cluster(size: Size) -> Vec<Change> {
    let namespaces = (0..size.namespaces).map(|number| {
        let labels = labels(&[("team", &text("team", number % 500))]);
        Change::Namespace(namespace(number), Some(Namespace { labels }))
    });
    let nodes = (0..size.pods.div_ceil(PODS_A_NODE))
        .map(|number| Change::Node(text("node", number), Some(Node::default())));
    let policies = (0..size.policies).map(|number| policy(size, number));
    let pods = (0..size.pods).map(|number| pod(size, number, number / size.namespaces % 3));
    namespaces.chain(nodes).chain(policies).chain(pods).collect()
}

fn one_label(criterion: &mut Criterion) {
    let size = SELECTORS;
    let mut engine = compiled(cluster(size));
    let mut turn = 0;
    criterion.bench_function("one_pod_label_among_100k_pods_10k_selectors", |bencher| {
        bencher.iter(|| {
            turn += 1;
            engine.apply(pod(size, 77_777, turn % 3));
            black_box(engine.flush())
        });
    });
}

/// A selector that no policy had, by how many of 100,000 pods it matches; the group that it makes is published with all
/// its members. That the policy goes again is not measured.
fn new_selector(criterion: &mut Criterion) {
    let size = SELECTORS;
    let mut engine = compiled(cluster(size));
    let one_pod = PodSet {
        namespaces: Namespaces::Named(namespace(0)),
        accounts: Selector::All,
        pods: Selector::equals("pod-template-hash", text("hash", 0)),
    };
    let any =
        |pods| PodSet { namespaces: Namespaces::Matching(Selector::All), accounts: Selector::All, pods };
    let mut group = criterion.benchmark_group("new_selector_over_100k_pods");
    group.sample_size(10);
    for (name, selector) in [
        ("of three pods by value", Selector::equals("pod-template-hash", text("hash", 7))),
        ("of none by value", Selector::equals("app", "none")),
        ("of three pods by value and another label", {
            Selector::all_of([
                Selector::exists("track"),
                Selector::equals("pod-template-hash", text("hash", 9)),
            ])
        }),
        ("of none by label", Selector::exists("none")),
        ("of a third by value", Selector::equals("app", text("app", 1))),
        ("of two thirds by other value", Selector::without("app", [text("app", 2)])),
    ] {
        let (key, policy) = global_policy(0, one_pod.clone(), vec![Peer::Pods(any(selector))]);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|turns| {
                let mut spent = Duration::ZERO;
                for _ in 0..turns {
                    let change = Change::Policy(key.clone(), Some(policy.clone()));
                    let start = Instant::now();
                    engine.apply(change);
                    let delta = engine.flush();
                    spent += start.elapsed();
                    assert_eq!(black_box(delta).groups.len(), 1);
                    engine.apply(Change::Policy(key.clone(), None));
                    engine.flush();
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_label, new_selector);
criterion_main!(benches);
