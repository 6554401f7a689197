//! From one ruleset to another: each plan touches what differs, and at no moment opens what neither side allows.

use proptest::prelude::*;
use selvage_nftables::diff::{Plan, cold_start, remove, replace, update};
use selvage_nftables::fake::Fake;
use selvage_nftables::model::{Elements, Ruleset};
use selvage_nftables::render::closed;
use selvage_nftables::trace::{Packet, trace};
use selvage_nftables::transaction::{Op, Transaction};
use selvage_policy::compiled::Action;

use crate::build::{World, all, in_groups, member, policy_key, ports, step};
use crate::random;

fn passes(ruleset: &Ruleset, packet: &Packet) -> bool {
    trace(ruleset, packet).unwrap().accepted
}

/// Applies a plan; after every transaction each packet is judged by the old rules or the new ones.
fn follow(fake: &mut Fake, plan: &Plan, before: &Ruleset, after: &Ruleset, packets: &[Packet]) {
    fake.run(&plan.transactions, |table| {
        for packet in packets {
            let now = passes(table, packet);
            let (old, new) = (passes(before, packet), passes(after, packet));
            assert!(now == old || now == new, "{packet:?}: {now} between {old} and {new}");
        }
    })
    .unwrap();
    assert_eq!(fake.table.as_ref(), Some(&plan.after));
    for packet in packets {
        assert_eq!(passes(&plan.after, packet), passes(after, packet), "{packet:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_is_the_old_or_the_new(
        worlds in proptest::collection::vec(random::world(), 2..5),
        packets in proptest::collection::vec(random::packet(), 20),
    ) {
        let rulesets: Vec<Ruleset> = worlds.iter().map(|world| world.render().ruleset).collect();
        let shut = closed(&worlds[0].facts, &worlds[0].settings);
        let start = cold_start(&shut, &rulesets[0]);
        let mut fake = Fake::default();
        follow(&mut fake, &start, &shut, &rulesets[0], &packets);
        let mut standing = start.after;
        for wanted in &rulesets[1..] {
            let plan = update(&standing, wanted);
            follow(&mut fake, &plan, &standing, wanted, &packets);
            prop_assert!(update(&plan.after, wanted).transactions.is_empty(), "a second plan has nothing to do");
            standing = plan.after;
        }
    }

    #[test]
    fn a_table_is_replaced_in_one_transaction(old in random::world(), new in random::world()) {
        let mut fake = Fake { table: Some(old.render().ruleset) };
        let wanted = new.render().ruleset;
        let plan = replace(&wanted);
        prop_assert_eq!(plan.transactions.len(), 1);
        fake.run(&plan.transactions, |_| ()).unwrap();
        prop_assert_eq!(fake.table.as_ref(), Some(&wanted));
        fake.run(&remove().transactions, |_| ()).unwrap();
        prop_assert_eq!(fake.table, None);
    }

    /// While the first ruleset is built nothing passes the pod side but what was established.
    #[test]
    fn a_cold_start_is_never_wider_than_the_wish(
        world in random::world(), packets in proptest::collection::vec(random::packet(), 20)
    ) {
        let wanted = world.render().ruleset;
        let shut = closed(&world.facts, &world.settings);
        prop_assume!(world.settings.unknown_pods == selvage_nftables::render::UnknownPods::Closed);
        Fake::default().run(&cold_start(&shut, &wanted).transactions, |table| {
            for packet in packets.iter().filter(|p| p.conntrack.state == 8 && p.iif.is_some()) {
                let on_pod_side = [&packet.iif, &packet.oif].into_iter().flatten().any(|i| &**i == "cni0");
                let discovery = passes(&shut, packet);
                assert!(!passes(table, packet) || passes(&wanted, packet) || !on_pod_side || discovery);
            }
        }).unwrap();
    }
}

/// Two pods under one policy that allows a group on one port.
fn world() -> World {
    let mut rule = all(Action::Allow);
    rule.source = vec![in_groups(&[7])];
    rule.services = vec![vec![ports(6, &[(80, 80)])]];
    World::new()
        .pod("a", &["10.244.1.10"], 1)
        .pod("b", &["10.244.1.11"], 2)
        .profile(1, vec![step("default", Action::Deny, &["p"])], vec![])
        .rules("p", vec![rule], vec![])
        .group(7, [member("10.244.2.10")])
}

fn plan(old: &World, new: &World) -> Vec<Transaction> {
    let standing = old.render().ruleset;
    let plan = update(&standing, &new.render().ruleset);
    let mut fake = Fake { table: Some(standing) };
    fake.run(&plan.transactions, |_| ()).unwrap();
    plan.transactions
}

fn summary(transactions: &[Transaction]) -> Vec<Vec<String>> {
    transactions.iter().map(|t| t.ops.iter().map(|op| op.to_string()).collect()).collect()
}

#[test]
fn nothing_differs_nothing_is_done() {
    assert_eq!(plan(&world(), &world()), vec![]);
}

#[test]
fn a_group_that_gains_a_member_is_one_element() {
    let transactions = plan(&world(), &world().group(7, [member("10.244.2.10"), member("10.244.2.11")]));
    let [Transaction { ops }] = transactions.as_slice() else { panic!("{transactions:?}") };
    let [Op::AddElements { elements: Elements::Points(points), .. }] = ops.as_slice() else {
        panic!("{ops:?}")
    };
    assert_eq!(points.iter().map(|key| key.as_bytes().to_vec()).collect::<Vec<_>>(), [[10, 244, 2, 11]]);
}

#[test]
fn a_pod_that_comes_under_a_standing_profile_touches_no_rule() {
    let new = world().pod("c", &["10.244.1.12"], 1);
    assert_eq!(
        summary(&plan(&world(), &new)),
        [[
            "add 1 elements to set egress4",
            "add 1 elements to set ingress4",
            "add 1 elements to set own-pairs4",
            "add 1 elements to set own4",
        ]]
    );
}

#[test]
fn a_policy_that_changes_refills_its_chain_alone() {
    let mut new = world();
    let policy = std::sync::Arc::make_mut(new.policy.policies.get_mut(&policy_key("p")).unwrap());
    policy.ingress.push(all(Action::Allow));
    let summary = summary(&plan(&world(), &new));
    let [switch] = summary.as_slice() else { panic!("{summary:?}") };
    assert_eq!(switch[0], "flush chain in-0000000000000001-0");
    assert!(switch[1..].iter().all(|op| op.ends_with("to chain in-0000000000000001-0")), "{switch:?}");
}

/// The chain first, the elements that lead to it later.
#[test]
fn a_new_profile_is_made_before_it_is_switched_to() {
    let new =
        world().pod("b", &["10.244.1.11"], 3).profile(3, vec![step("default", Action::Deny, &["p"])], vec![]);
    let summary = summary(&plan(&world(), &new));
    let [prepare, switch] = summary.as_slice() else { panic!("{summary:?}") };
    assert_eq!(prepare[0], "add chain in-0000000000000003-0");
    assert_eq!(*switch, ["delete 1 elements from set ingress4", "add 1 elements to set ingress4"]);
}

#[test]
fn a_profile_nobody_has_goes_in_the_switch() {
    let summary = summary(&plan(&world(), &world().pod("a", &["10.244.1.10"], 2)));
    let [switch] = summary.as_slice() else { panic!("{summary:?}") };
    assert!(switch.contains(&"delete chain in-0000000000000001-0".to_owned()));
    assert!(switch.iter().any(|op| op.starts_with("delete set g4-")));
}

/// A set's size is a hard limit: a full one is made anew, with room, and its rules are switched to it.
#[test]
fn a_full_set_is_renewed_and_a_roomy_one_kept() {
    let members = |n: u16| (0..n).map(|i| member(&format!("10.244.{}.{}", i / 256, i % 256)));
    let few = world().group(7, members(60)).render().ruleset;
    let fits = update(&few, &world().group(7, members(100)).render().ruleset);
    assert_eq!(fits.transactions.len(), 1, "128 fit");
    let grown = update(&fits.after, &world().group(7, members(400)).render().ruleset);
    let [prepare, switch] = grown.transactions.as_slice() else { panic!("{:?}", grown.transactions) };
    assert!(
        matches!(&prepare.ops[0], Op::AddSet { name, spec } if name.ends_with(".1") && spec.size == Some(1024))
    );
    assert!(switch.ops.iter().any(|op| matches!(op, Op::DeleteSet { .. })));
    let mut fake = Fake { table: Some(fits.after) };
    fake.run(&grown.transactions, |_| ()).unwrap();
    let shrunk = update(&grown.after, &world().group(7, members(200)).render().ruleset);
    assert_eq!(shrunk.transactions.len(), 1, "half empty is no reason to renew");
    let back = update(&shrunk.after, &world().group(7, members(5)).render().ruleset);
    assert!(back.after.sets.keys().any(|name| name.starts_with("g4-") && !name.contains('.')));
    let mut fake = Fake { table: Some(shrunk.after) };
    fake.run(&back.transactions, |_| ()).unwrap();
}

/// A large group goes in pieces, so that no transaction holds it all; a base chain is never among the preparations.
#[test]
fn preparations_are_bounded() {
    let members =
        (0..50_000u32).map(|i| member(&format!("10.{}.{}.{}", 100 + i / 65_536, i / 256 % 256, i % 256)));
    let wanted = world().group(7, members).render().ruleset;
    let world = world();
    let plan = cold_start(&closed(&world.facts, &world.settings), &wanted);
    let elements = |t: &Transaction| -> usize {
        let added = t.ops.iter().map(|op| match op {
            Op::AddElements { elements, .. } => elements.len(),
            _ => 0,
        });
        added.sum()
    };
    assert!(plan.transactions.len() >= 4);
    assert!(plan.transactions.iter().all(|t| elements(t) <= 16_384));
    let (_, preparations) = plan.transactions.split_last().unwrap();
    for op in preparations[1..].iter().flat_map(|t| &t.ops) {
        assert!(!matches!(op, Op::AddChain { base: Some(_), .. }), "{op}");
    }
}
