//! What the engine costs: one change in a large cluster, and a cluster from nothing.
//!
//! `cargo bench -p selvage-policy`. SELVAGE_BENCH_FULL=1 compiles the full size (100,000 pods, 75,000 policies,
//! 25,000 namespaces) from nothing instead of a tenth of it. Resident memory after the first compilation is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use selvage_policy::compiled::{Action, EndpointKey, PolicyKey, PolicyKind, PortRange};
use selvage_policy::engine::Engine;
use selvage_policy::model::{
    Change, Entity, Labels, Namespace, Namespaces, Node, Order, Peer, Pod, PodSet, Policy, PortTerm, Ports,
    Rule,
};
use selvage_policy::selector::Selector;

/// How large a cluster is.
#[derive(Clone, Copy)]
struct Size {
    namespaces: u32,
    pods: u32,
    policies: u32,
}

const FULL: Size = Size { namespaces: 25_000, pods: 100_000, policies: 75_000 };
const TENTH: Size = Size { namespaces: 2_500, pods: 10_000, policies: 7_500 };
/// Two selectors a policy, of a pod and of its peer.
const SELECTORS: Size = Size { namespaces: 2_500, pods: 100_000, policies: 5_000 };

const PODS_A_NODE: u32 = 40;

fn text(prefix: &str, number: u32) -> Arc<str> {
    format!("{prefix}-{number}").into()
}

fn namespace(number: u32) -> Arc<str> {
    text("namespace", number)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| (Arc::from(*key), Arc::from(*value))).collect()
}

fn pod(size: Size, number: u32, app: u32) -> Change {
    let key = EndpointKey { namespace: namespace(number % size.namespaces), name: text("pod", number) };
    let pairs = [
        ("app", &*text("app", app)),
        ("pod-template-hash", &*text("hash", number / 3)),
        ("app.kubernetes.io/managed-by", "helm"),
        ("track", "stable"),
    ];
    let pod = Pod {
        uid: text("00000000-0000-0000-0000", number),
        created: i64::from(number),
        node: text("node", number / PODS_A_NODE),
        labels: labels(&pairs),
        service_account: "default".into(),
        addresses: BTreeSet::from([IpAddr::V4(Ipv4Addr::from((10 << 24) + number))]),
        named_ports: BTreeMap::new(),
    };
    Change::Pod(key, Some(pod))
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

fn compiled(changes: Vec<Change>) -> Engine {
    let mut engine = Engine::new();
    for change in changes {
        engine.apply(change);
    }
    black_box(engine.flush());
    engine
}

/// Resident memory in MiB; the kernel counts pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4 / 1024
}

fn from_nothing(criterion: &mut Criterion) {
    let full = std::env::var_os("SELVAGE_BENCH_FULL").is_some();
    let size = if full { FULL } else { TENTH };
    let before = resident();
    let engine = compiled(cluster(size));
    println!("{:?}, {} MiB resident, {before} before", engine.counts(), resident());
    drop(engine);
    let mut group = criterion.benchmark_group("compile_from_nothing");
    group.sample_size(10);
    let name = format!("{} namespaces, {} pods, {} policies", size.namespaces, size.pods, size.policies);
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter_batched(|| cluster(size), compiled, BatchSize::PerIteration);
    });
    group.finish();
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

criterion_group!(benches, from_nothing, one_label);
criterion_main!(benches);
