//! What a cluster costs as a whole, in time and in memory, at a tenth of the size that is promised, at that size, and at
//! double: compiled from nothing, and changed a little once it stands.
//!
//! `cargo bench -p selvage-policy --bench scale`, with words behind `--` only the benchmarks whose names hold one of them.
//! Each sample is a process of its own, so that memory is what the kernel says of it; the median of three counts. Objects
//! are made in small lots between what is timed, as they come from a watch: they are part of neither figure.

mod clusters;
#[path = "../common/mod.rs"]
mod common;
mod measure;

use std::process::ExitCode;

use clusters::{Isolated, NetworkSets, OneNamespace, Tenants};
use measure::Run;

/// What is compiled from nothing, by name.
type Scenario = (&'static str, fn(Scale) -> Run);

/// By how much a cluster is smaller or larger than the promised one.
#[derive(Clone, Copy)]
struct Scale {
    name: &'static str,
    tenths: u32,
}

const SCALES: [Scale; 3] = [
    Scale { name: "tenth", tenths: 1 },
    Scale { name: "full", tenths: 10 },
    Scale { name: "double", tenths: 20 },
];

const SCENARIOS: [Scenario; 4] = [
    ("25k namespaces, 100k pods, 75k policies, 1k nodes", |scale| {
        let size = Tenants { namespaces: scale.of(25_000), nodes: scale.of(1_000) };
        let mut run = Run::compile(size.objects());
        run.change("one pod's label", |turn| size.relabelled_pod(turn));
        run.change("one policy", |turn| size.edited_policy(turn));
        run.change("one namespace of 4 pods", |turn| size.relabelled_namespace(turn));
        for pods in [40, 400] {
            run.grow(size.large_namespace(pods));
            run.change(&format!("one namespace of {pods} pods"), |turn| size.relabelled_large(pods, turn));
        }
        run
    }),
    ("10k pods in one namespace, 10k policies that all match", |scale| {
        Run::compile(one_namespace(scale).objects())
    }),
    ("100k isolated namespaces, a policy each", |scale| {
        Run::compile(Isolated { namespaces: scale.of(100_000), nodes: scale.of(1_000) }.objects())
    }),
    ("10k policies, 10k sets, 200 endpoints", |scale| {
        Run::compile(NetworkSets { sets: scale.of(10_000), endpoints: 200 }.objects())
    }),
];

fn one_namespace(scale: Scale) -> OneNamespace {
    let (pods, policies, nodes) = (scale.of(10_000), scale.of(10_000), scale.of(1_000));
    OneNamespace { pods, policies, nodes }
}

impl Scale {
    fn of(self, full: u32) -> u32 {
        full / 10 * self.tenths
    }
}

fn main() -> ExitCode {
    measure::main(&SCENARIOS, &SCALES)
}
