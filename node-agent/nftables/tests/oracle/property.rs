//! Random clusters and packets, and random sequences of changes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed, TestCaseError, TestError, TestRunner};
use selvage_nftables::diff::{cold_start, update};
use selvage_nftables::fake::{Fake, check};
use selvage_nftables::model::Ruleset;
use selvage_nftables::render::{self, LocalFacts, Origin, Rendered, Settings};
use selvage_nftables::trace::{Trace, trace};
use selvage_policy::compiled::{Action, PolicyKey};
use selvage_policy::engine::Engine;
use selvage_policy::model::Change;
use selvage_policy::oracle::always::{Connection, Outcome, Passage, Side, passage};
use selvage_policy::oracle::verdict::{Decider, Verdict};
use selvage_policy::oracle::{Objects, pool};

use crate::common::random::{self, changes, cluster};
use crate::common::world::{WorldExt, engine};
use crate::coverage::Coverage;
use crate::node::{BRIDGE, received, rendered};
use crate::passages::{case, overlay, passages, traced};
use crate::seed::{seed, setting};

const CLUSTERS: u32 = 400;
const PACKETS: usize = 64;
const SEQUENCES: u32 = 40;

/// Runs a property over `cases` clusters, and says how to repeat the run.
fn run<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let seed = seed(name);
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/regressions.txt");
    let config = ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(kept))),
        max_shrink_iters: 20_000,
        // Milliseconds.
        max_shrink_time: 120_000,
        ..ProptestConfig::default()
    };
    match TestRunner::new(config).run(strategy, test) {
        Ok(()) => {}
        Err(TestError::Fail(reason, value)) => panic!("seed {seed}: {reason}\nshrunk to {value:#?}"),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

#[test]
fn the_ruleset_does_what_the_oracle_reads_in_the_objects() {
    let clusters = setting("SELVAGE_ORACLE_CLUSTERS").unwrap_or(CLUSTERS);
    let (coverage, asked) = (RefCell::new(Coverage::default()), Cell::new(0));
    let strategy = (cluster(), vec(case(), 1..=PACKETS));
    run("clusters and packets", clusters, &strategy, |(changes, cases)| {
        let mut objects = Objects::default();
        random::seed().into_iter().chain(changes).for_each(|change| objects.apply(change));
        let engine = engine(objects.list());
        let mut nodes: BTreeMap<Arc<str>, Rendered> = BTreeMap::new();
        for node in engine.nodes() {
            let (policy, groups) = received(&engine, &node.node).unwrap();
            let rendered = rendered(&policy, &groups);
            prop_assert_eq!(check(&rendered.ruleset), Ok(()), "the kernel would refuse the ruleset");
            nodes.insert(node.node.clone(), rendered);
        }
        for case in &cases {
            let mut judged = false;
            for way in passages(&objects, case) {
                let Some(node) = nodes.get(&way.node) else { continue };
                let (outcome, masqueraded) = compare(&objects, &way, &node.ruleset, Some(node))?;
                coverage.borrow_mut().note(&objects, &way, &outcome, masqueraded);
                judged = true;
            }
            asked.set(asked.get() + usize::from(judged));
        }
        Ok(())
    });
    println!("{} cases", asked.get());
    if clusters >= CLUSTERS {
        assert!(asked.get() >= 10_000, "{} cases", asked.get());
        coverage.borrow().require(5);
    }
}

#[test]
fn after_every_change_the_table_does_what_the_oracle_reads() {
    let sequences = setting("SELVAGE_ORACLE_CLUSTERS").map_or(SEQUENCES, |clusters: u32| clusters / 8 + 1);
    let strategy = vec((changes(16), vec(case(), 1..=20)), 2..7);
    run("sequences of changes", sequences, &strategy, |batches| {
        let (mut objects, mut engine) = (Objects::default(), Engine::new());
        let mut tables: BTreeMap<Arc<str>, Fake> = BTreeMap::new();
        random::seed().into_iter().for_each(|change| apply(&mut objects, &mut engine, change));
        for (changes, cases) in batches {
            changes.into_iter().for_each(|change| apply(&mut objects, &mut engine, change));
            engine.flush();
            commit(&engine, &mut tables)?;
            for case in &cases {
                for way in passages(&objects, case) {
                    let Some(Fake { table: Some(table) }) = tables.get(&way.node) else { continue };
                    compare(&objects, &way, table, None)?;
                }
            }
        }
        let fresh = crate::common::world::engine(objects.list());
        prop_assert_eq!(engine.nodes(), fresh.nodes(), "incremental differs from fresh");
        Ok(())
    });
}

fn apply(objects: &mut Objects, engine: &mut Engine, change: Change) {
    objects.apply(change.clone());
    engine.apply(change);
}

/// What each agent commits; the strict fake refuses what the kernel would.
fn commit(engine: &Engine, tables: &mut BTreeMap<Arc<str>, Fake>) -> Result<(), TestCaseError> {
    let facts = LocalFacts { pod_interfaces: [BRIDGE.into()].into(), ..LocalFacts::default() };
    let closed = render::closed(&facts, &Settings::default());
    for node in engine.nodes() {
        let (policy, groups) = received(engine, &node.node).unwrap();
        let wanted = rendered(&policy, &groups).ruleset;
        let fake = tables.entry(node.node.clone()).or_default();
        let plan = match &fake.table {
            None => cold_start(&closed, &wanted),
            Some(standing) => update(standing, &wanted),
        };
        let done = fake.run(&plan.transactions, |_| {});
        prop_assert_eq!(done, Ok(()), "the kernel would refuse a transaction");
        prop_assert_eq!(fake.table.as_ref(), Some(&plan.after));
    }
    tables.retain(|name, _| engine.node(name).is_some());
    Ok(())
}

/// Follows the packet through one node's table; what the oracle says, and whether the packet gets the node's address.
fn compare(
    objects: &Objects,
    way: &Passage,
    ruleset: &Ruleset,
    names: Option<&Rendered>,
) -> Result<(Outcome, bool), TestCaseError> {
    let outcome = passage(objects, way);
    let trace = trace(ruleset, &traced(way));
    let trace =
        trace.map_err(|error| TestCaseError::fail(format!("the tracer refuses the ruleset: {error}")))?;
    let expected = outcome.passes() && !overlay(way);
    prop_assert_eq!(trace.accepted, expected, "{:?}\n{:?}\n{:#?}", way, outcome, trace);
    let masquerades = pool::masquerades(objects, &way.node, &way.packet);
    let leaves = way.to != Side::Node && way.connection == Connection::New;
    prop_assert_eq!(trace.masqueraded, expected && leaves && masquerades, "{:?}", way);
    if let (Some(names), Outcome::Judged { egress, ingress }, false) = (names, &outcome, overlay(way)) {
        for (verdict, direction) in
            [(egress, render::Direction::Egress), (ingress, render::Direction::Ingress)]
        {
            let seen = decided(names, &trace, direction);
            prop_assert!(
                same_decider(objects, verdict.as_ref(), seen),
                "{way:?}\n{verdict:?}\n{seen:?}\n{trace:#?}"
            );
        }
        let noted = [egress, ingress].into_iter().flatten().flat_map(|verdict| &verdict.noted);
        let noted: Vec<_> = noted.map(|(policy, index)| (policy, *index)).collect();
        prop_assert_eq!(logged(names, &trace), noted, "{:?}\n{:#?}", way, trace);
    }
    Ok((outcome, trace.masqueraded))
}

/// What the last verdict in the chains of a direction's profiles stands for.
fn decided<'a>(names: &'a Rendered, trace: &Trace, direction: render::Direction) -> Option<&'a Origin> {
    let prefix = match direction {
        render::Direction::Ingress => "in-",
        render::Direction::Egress => "out-",
    };
    let last = trace.steps.iter().rev().find(|step| step.chain.starts_with(prefix))?;
    names.origins.get(&last.rule)
}

fn same_decider(objects: &Objects, verdict: Option<&Verdict>, seen: Option<&Origin>) -> bool {
    match (verdict.map(|verdict| &verdict.by), seen) {
        (None, seen) => seen.is_none(),
        (Some(Decider::Rule { policy, index }), Some(Origin::Rule { policy: seen, index: place, .. })) => {
            policy == seen && usize::try_from(*place) == Ok(*index)
        }
        (Some(Decider::TierDefault(tier)), Some(Origin::TierDefault { tier: seen, .. })) => tier == seen,
        // Nothing counts, or the last that does passes on.
        (Some(Decider::NoTier), None) => true,
        (Some(Decider::NoTier), Some(Origin::TierDefault { .. })) => true,
        (Some(Decider::NoTier), Some(Origin::Rule { policy, direction, .. })) => {
            let policy = &objects.policies[policy];
            let rules = match direction {
                render::Direction::Ingress => &policy.ingress,
                render::Direction::Egress => &policy.egress,
            };
            rules.iter().flatten().any(|rule| rule.action == Action::Pass)
        }
        _ => false,
    }
}

/// The Log rules that noted the packet, in order, each once.
fn logged<'a>(names: &'a Rendered, trace: &Trace) -> Vec<(&'a PolicyKey, usize)> {
    let origins = trace.logged.iter().filter_map(|id| names.origins.get(id));
    let rules = origins.filter_map(|origin| match origin {
        Origin::Rule { policy, index, .. } => Some((policy, usize::try_from(*index).ok()?)),
        Origin::MissingPolicy(_) | Origin::TierDefault { .. } => None,
    });
    rules.collect()
}
