//! What a large address group costs on its way into the kernel. Needs root; works in a network namespace of its own.
#![allow(clippy::expect_used, missing_docs, reason = "a benchmark stops where it can't go on")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use nix::sched::{CloneFlags, unshare};
use selvage_nftables::model::{Elements, Key, KeyPart};
use selvage_nftables::netlink::{Connection, Settings, encoded};
use selvage_nftables::transaction::{Op, SetKind, SetSpec, Transaction};

const ELEMENTS: u32 = 200_000;

fn group() -> Transaction {
    let keys = (0..ELEMENTS).filter_map(|n| Key::new(&(0x0a00_0000 + n).to_be_bytes()));
    let spec = SetSpec { key: vec![KeyPart::Ipv4], kind: SetKind::Points, size: Some(2 * ELEMENTS) };
    let elements = Elements::Points(keys.collect());
    let ops = [
        Op::AddTable,
        Op::AddSet { name: "group".into(), spec },
        Op::AddElements { set: "group".into(), elements },
    ];
    ops.into_iter().collect()
}

fn benches(criterion: &mut Criterion) {
    unshare(CloneFlags::CLONE_NEWNET).expect("prerequisite missing: root, to make a network namespace");
    let mut connection = Connection::open(&Settings::default()).expect("a kernel with nftables");
    let add = group();
    let delete: Transaction = [Op::DeleteTable].into_iter().collect();

    let mut benchmarks = criterion.benchmark_group("200,000 elements");
    benchmarks.sample_size(10);
    benchmarks.bench_function("encode", |bencher| {
        bencher.iter(|| encoded("selvage", &add).expect("valid operations"));
    });
    connection.commit(&add).expect("commit");
    benchmarks.bench_function("encode and commit", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                connection.commit(&delete).expect("delete");
                let start = Instant::now();
                connection.commit(&add).expect("commit");
                spent += start.elapsed();
            }
            spent
        });
    });
    benchmarks.bench_function("read", |bencher| {
        bencher.iter(|| connection.read().expect("read"));
    });
    benchmarks.finish();
}

criterion_group!(netlink, benches);
criterion_main!(netlink);
