//! The kernel takes every plan, and holds after it what the plan says. Needs root.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use selvage_nftables::diff::{Plan, cold_start, remove, replace, update};
use selvage_nftables::model::{
    Chain, Elements, Expr, Key, KeyPart, MetaKey, PayloadBase, Reg, Rule, Ruleset, Set,
};
use selvage_nftables::netlink::{Connection, Settings};
use selvage_nftables::render::closed;

use crate::netns::Namespace;
use crate::random;

/// Commits a plan and looks at what the kernel holds then.
fn take(connection: &mut Connection, plan: &Plan) -> Result<(), TestCaseError> {
    for transaction in &plan.transactions {
        let done = connection.commit(transaction);
        done.map_err(|error| TestCaseError::fail(format!("{error}\n{transaction:?}")))?;
    }
    let seen = connection.read().unwrap().unwrap();
    prop_assert_eq!(&seen.unreadable, &Vec::<String>::new());
    prop_assert_eq!(&seen.ruleset, &plan.after);
    Ok(())
}

/// From no table to each ruleset after the other, for random sequences of them.
fn follow<S: Strategy>(cases: u32, sequences: &S, rulesets: impl Fn(S::Value) -> (Ruleset, Vec<Ruleset>)) {
    let namespace = Namespace::new();
    let connection = RefCell::new(namespace.run(|| Connection::open(&Settings::default())).unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(sequences, |sequence| {
        let mut connection = connection.borrow_mut();
        if connection.read().unwrap().is_some() {
            remove().transactions.iter().for_each(|removal| connection.commit(removal).unwrap());
        }
        let (closed, rulesets) = rulesets(sequence);
        let (first, later) = rulesets.split_first().unwrap();
        let mut plan = cold_start(&closed, first);
        take(&mut connection, &plan)?;
        for wanted in later {
            plan = update(&plan.after, wanted);
            take(&mut connection, &plan)?;
        }
        take(&mut connection, &replace(first))
    });
    result.unwrap();
}

#[test]
fn every_plan_is_taken_and_read_back() {
    follow(40, &proptest::collection::vec(random::world(), 2..6), |worlds| {
        let closed = closed(&worlds[0].facts, &worlds[0].settings);
        (closed, worlds.iter().map(|world| world.render().ruleset).collect())
    });
}

/// Interval sets whose ranges grow, shrink, join, split and move in one transaction, next to the ends of the space.
#[test]
fn interval_sets_change_in_place() {
    let edge = prop_oneof![4 => 0u16..40, 1 => (u16::MAX - 40)..=u16::MAX];
    let ranges = proptest::collection::btree_set((edge, 0u16..10), 0..8);
    follow(30, &proptest::collection::vec(ranges, 2..8), |sequence| {
        (Ruleset::default(), sequence.iter().map(intervals).collect())
    });
}

/// One interval set of ports, and a rule that keeps it in use.
fn intervals(ranges: &BTreeSet<(u16, u16)>) -> Ruleset {
    let ports: BTreeSet<u16> =
        ranges.iter().flat_map(|(first, more)| *first..=first.saturating_add(*more)).collect();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match merged.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => merged.push((port, port)),
        }
    }
    let key = |port: u16| Key::new(&port.to_be_bytes()).unwrap();
    let elements: BTreeMap<Key, Key> =
        merged.into_iter().map(|(first, last)| (key(first), key(last))).collect();
    let set = Set { key: vec![KeyPart::Port], elements: Elements::Ranges(elements), size: None };
    let expressions = vec![
        Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(0) },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: Reg(0) },
        Expr::Lookup { set: "ports".into(), sreg: Reg(0), negated: false },
    ];
    let chain = Chain { base: None, rules: vec![Rule { expressions, id: "uses".into() }] };
    Ruleset {
        chains: BTreeMap::from([("chain".into(), chain)]),
        sets: BTreeMap::from([("ports".into(), set)]),
    }
}
