//! What one network more or less of 60,000 in a NetworkSet costs.

mod common;

use std::hint::black_box;
use std::net::Ipv4Addr;

use common::{compiled, global_policy, labels, text};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use selvage_policy::model::{Change, Key, NetworkSet, Peer, PodSet, SetSelection};
use selvage_policy::selector::Selector;
use selvage_policy::slices::SlicedGroup;

const LARGE: u32 = 60_000;

fn net(number: u32) -> IpNet {
    Ipv4Net::new_assert(Ipv4Addr::from((11 << 24) + (number << 4)), 28).into()
}

fn set(name: u32, nets: impl IntoIterator<Item = u32>) -> Change {
    let labels = labels(&[("set", &text("set", name)), ("kind", "benchmark")]);
    let nets = nets.into_iter().map(net).collect();
    Change::NetworkSet(
        Key { namespace: "".into(), name: text("set", name) },
        Some(NetworkSet { labels, nets }),
    )
}

/// Lets in what lies in one set.
fn policy(set: u32, subject: Selector) -> Change {
    let sets = SetSelection { namespaces: None, sets: Selector::equals("set", text("set", set)) };
    let subject = PodSet { pods: subject, ..PodSet::all() };
    let (key, policy) = global_policy(set, subject, vec![Peer::Sets(sets)]);
    Change::Policy(key, Some(policy))
}

/// The change of the object, whole as the API server gives it, to the slice that is written.
fn one_net(criterion: &mut Criterion) {
    let mut engine = compiled(vec![set(0, 0..LARGE), policy(0, Selector::All), common::pod(1, 0, 0, 0)]);
    let groups = engine.groups().into_iter().filter_map(|id| engine.group(id));
    let mut slices = SlicedGroup::new(1, groups.flat_map(|group| group.members));
    println!("{LARGE} networks in {} slices", slices.epoch().count);
    let mut turn = 0;
    criterion.bench_function("one_network_of_60k_in_a_set", |bencher| {
        bencher.iter_batched(
            || {
                turn += 1;
                set(0, (0..LARGE - 1).chain([LARGE + turn % 2]))
            },
            |change| {
                engine.apply(change);
                for group in black_box(engine.flush()).groups.values() {
                    let change = slices.change(&group.added, &group.removed);
                    assert!(change.changed.len() <= 2);
                }
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, one_net);
criterion_main!(benches);
