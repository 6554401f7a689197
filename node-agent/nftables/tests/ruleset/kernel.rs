//! The kernel takes every plan, and holds after it what the plan says. Needs root.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig as Config, *};
use proptest::test_runner::TestRunner;
use selvage_nftables::diff::{Plan, cold_start, remove, replace, update};
use selvage_nftables::model::{
    self, Chain, Elements, Expr, Key, KeyPart, MetaKey, PayloadBase, Reg, Ruleset, Set,
};
use selvage_nftables::netlink::{Connection, Settings};
use selvage_nftables::render::closed;
use selvage_policy::compiled::{Action, Rule};
use serde_json::{Value, json};

use crate::build::{World, all, in_groups, member, ports, step};
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

/// `nft` sees the chains, hooks, sets, elements and rules that were rendered.
#[test]
fn another_reader_sees_what_was_meant() {
    let allow = Rule {
        source: vec![in_groups(&[1])],
        services: vec![vec![ports(6, &[(80, 90)])]],
        ..all(Action::Allow)
    };
    let world = World::new()
        .pod("a", &["10.244.1.10", "fd00:1::10"], 1)
        .profile(1, vec![step("default", Action::Deny, &["p"])], vec![])
        .rules("p", vec![allow], vec![])
        .group(1, [member("10.0.0.0/8"), member("255.255.255.255"), member("fd00::/64")]);
    let wanted = world.render().ruleset;
    let namespace = Namespace::new();
    let mut connection = namespace.run(|| Connection::open(&Settings::default())).unwrap();
    take(&mut connection, &cold_start(&closed(&world.facts, &world.settings), &wanted)).unwrap();

    let json: Value =
        serde_json::from_str(&namespace.command("nft", &["-j", "list", "ruleset"], "")).unwrap();
    let objects = |kind: &str| -> Vec<Value> {
        json["nftables"].as_array().unwrap().iter().filter_map(|o| o.get(kind)).cloned().collect()
    };
    let hooks: BTreeSet<(String, String, i64)> = objects("chain")
        .iter()
        .filter_map(|c| Some((c["name"].as_str()?.into(), c["hook"].as_str()?.into(), c["prio"].as_i64()?)))
        .collect();
    let expected = [
        ("guard", "prerouting", -300),
        ("from_pod", "forward", 0),
        ("to_pod", "forward", 1),
        ("from_pod_local", "input", 0),
    ];
    assert_eq!(hooks, expected.map(|(name, hook, priority)| (name.into(), hook.into(), priority)).into());
    let ids = |chain: &str| -> Vec<String> {
        let rules = objects("rule").into_iter().filter(|rule| rule["chain"] == chain);
        rules.map(|rule| rule["comment"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(objects("chain").len(), wanted.chains.len());
    for (name, chain) in &wanted.chains {
        assert_eq!(ids(name), chain.rules.iter().map(|rule| rule.id.to_string()).collect::<Vec<_>>());
    }
    let sets: BTreeMap<String, Value> = [objects("set"), objects("map")]
        .concat()
        .into_iter()
        .map(|set| (set["name"].as_str().unwrap().to_owned(), set["elem"].clone()))
        .collect();
    assert_eq!(
        sets.keys().cloned().collect::<Vec<_>>(),
        wanted.sets.keys().map(|n| n.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(sets["pod-interfaces"], json!(["cni0"]));
    assert_eq!(sets["own4"], json!(["10.244.1.10"]));
    assert_eq!(sets["own-pairs6"], json!([{ "concat": ["fd00:1::10", "fd00:1::10"] }]));
    assert_eq!(sets["ingress4"], json!([["10.244.1.10", { "jump": { "target": "in-0000000000000001-0" } }]]));
    assert_eq!(sets["egress6"], json!([["fd00:1::10", { "accept": null }]]));
    assert_eq!(
        sets["r4-000000000000000000000001"],
        json!([{ "prefix": { "addr": "10.0.0.0", "len": 8 } }, "255.255.255.255"])
    );
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
    let set = Set { key: vec![KeyPart::Port], elements: Elements::Ranges(elements.into()), size: None };
    let expressions = vec![
        Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(0) },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dreg: Reg(0) },
        Expr::Lookup { set: "ports".into(), sreg: Reg(0), negated: false },
    ];
    let chain = Chain {
        base: None,
        rules: vec![model::Rule { expressions: expressions.into(), id: "uses".into() }].into(),
    };
    Ruleset {
        chains: BTreeMap::from([("chain".into(), chain)]),
        sets: BTreeMap::from([("ports".into(), set)]),
    }
}
