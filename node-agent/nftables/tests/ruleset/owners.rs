//! The record of owners: what is written is read, through growth and beside the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use selvage_nftables::diff::update;
use selvage_nftables::fake::Fake;
use selvage_nftables::model::Ruleset;
use selvage_nftables::render::owners::{Owner, close, record, recorded};

use crate::build::{World, ip};

/// This many pods, each with an address of both families and one owner.
fn pods(count: u8) -> (Ruleset, BTreeMap<IpAddr, Owner>) {
    let mut world = World::new();
    let mut owners = BTreeMap::new();
    for n in 1..=count {
        let addresses = [format!("10.244.1.{n}"), format!("fd00:1::{n:x}")];
        world = world.pod(&format!("pod-{n}"), &addresses.each_ref().map(String::as_str), 1);
        owners.extend(addresses.map(|address| (ip(&address), Owner::of(&format!("uid-{n}")))));
    }
    let mut ruleset = world.render().ruleset;
    record(&mut ruleset, &owners);
    (ruleset, owners)
}

#[test]
fn what_is_recorded_is_read_also_when_sets_have_grown() {
    let (first, owners) = pods(3);
    let mut fake = Fake { table: Some(first.clone()) };
    assert_eq!(recorded(&first), owners);
    let (second, owners) = pods(200);
    let plan = update(&first, &second);
    fake.run(&plan.transactions, |_| {}).unwrap();
    let table = fake.table.unwrap();
    assert!(table.sets.contains_key("owners4.1") && table.sets.contains_key("own6.1"), "they have grown");
    assert_eq!(recorded(&table), owners);
}

#[test]
fn an_address_without_a_record_has_an_unknown_owner_which_may_be_any() {
    let (mut table, owners) = pods(2);
    table.sets.retain(|name, _| !name.starts_with("owners"));
    assert_eq!(recorded(&table), owners.keys().map(|address| (*address, Owner::UNKNOWN)).collect());
    let (one, other) = (Owner::of("1"), Owner::of("2"));
    assert!(one.may_be(one) && one.may_be(Owner::UNKNOWN) && Owner::UNKNOWN.may_be(one));
    assert!(!one.may_be(other));
}

#[test]
fn a_closed_address_is_in_nothing_but_the_record() {
    let (mut table, owners) = pods(2);
    let closed: BTreeSet<IpAddr> = [ip("10.244.1.2"), ip("fd00:1::2")].into();
    close(&mut table, &closed);
    assert_eq!(recorded(&table), owners);
    let (mut kept, _) = pods(1);
    for name in ["owners4", "owners6"] {
        kept.sets.insert(name.into(), table.sets[name].clone());
    }
    assert_eq!(table.sets, kept.sets);
}
