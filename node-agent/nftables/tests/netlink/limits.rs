//! Sizes far beyond every default buffer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use selvage_nftables::model::*;
use selvage_nftables::netlink::{Connection, Ownership, Settings};
use selvage_nftables::transaction::{Op, Transaction};

use crate::netns::Namespace;
use crate::sample::*;

const ELEMENTS: u32 = 300_000;

#[test]
fn three_hundred_thousand_elements_go_in_one_transaction() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let set = points(vec![KeyPart::Ipv4], (0..ELEMENTS).map(nth), Some(2 * ELEMENTS));
    let wish = Ruleset { chains: BTreeMap::new(), sets: BTreeMap::from([("all".into(), set)]) };
    connection.commit(&creation(&wish)).unwrap();
    let seen = connection.read().unwrap().unwrap().ruleset;
    assert!(seen == wish, "{} of {ELEMENTS} elements", seen.sets["all"].elements.len());

    let all = wish.sets["all"].elements.clone();
    connection
        .commit(&[Op::DeleteElements { set: "all".into(), elements: all }].into_iter().collect())
        .unwrap();
    assert!(connection.read().unwrap().unwrap().ruleset.sets["all"].elements.is_empty());
}

#[test]
fn large_interval_sets_and_verdict_maps_are_read_back_equal() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let ranges = (0..20_000_u16).map(|n| {
        let prefix = |end: u8| {
            let mut bytes = [end; 16];
            bytes[0] = 0xfd;
            bytes[1..3].copy_from_slice(&n.to_be_bytes());
            key(&bytes)
        };
        (prefix(0), prefix(0xff))
    });
    // Adjacent ranges are no two ranges in the model, so every second one is left out.
    let ranges = Elements::Ranges(ranges.step_by(2).collect());
    let verdicts = (0..20_000).map(|n| (nth(n), Verdict::Jump("profile".into()))).collect();
    let dispatch =
        Set { key: vec![KeyPart::Ipv4], elements: Elements::Verdicts(verdicts), size: Some(40_000) };
    let wish = Ruleset {
        chains: BTreeMap::from([("profile".into(), chain(vec![]))]),
        sets: BTreeMap::from([
            ("cidr6".into(), Set { key: vec![KeyPart::Ipv6], elements: ranges, size: None }),
            ("dispatch".into(), dispatch),
        ]),
    };
    connection.commit(&creation(&wish)).unwrap();
    assert!(connection.read().unwrap().unwrap().ruleset == wish);
}

#[test]
fn five_thousand_rules_go_in_one_transaction() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let mut chains = BTreeMap::new();
    for c in 0..1_000_u32 {
        let rules = (0..5_u32).map(|r| {
            let mut expressions = family(2).to_vec();
            expressions.push(payload(PayloadBase::Network, 12, 4, 0));
            let data = nth(c * 8 + r).as_bytes().to_vec();
            expressions.push(Expr::Cmp { sreg: Reg(0), op: CmpOp::Eq, data });
            expressions.push(Expr::Verdict(Verdict::Accept));
            rule(&format!("{c}-{r}"), expressions)
        });
        chains.insert(format!("c{c}").into(), chain(rules.collect()));
    }
    let wish = Ruleset { chains, sets: BTreeMap::new() };
    connection.commit(&creation(&wish)).unwrap();
    assert!(connection.read().unwrap().unwrap().ruleset == wish);
}

#[test]
fn a_full_set_refuses_more_and_keeps_what_it_has() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let set = points(vec![KeyPart::Ipv4], [nth(1), nth(2)], Some(2));
    let wish = Ruleset { chains: BTreeMap::new(), sets: BTreeMap::from([("two".into(), set)]) };
    connection.commit(&creation(&wish)).unwrap();
    let third = Elements::Points([nth(3)].into());
    let more: Transaction = [Op::AddElements { set: "two".into(), elements: third }].into_iter().collect();
    let error = connection.commit(&more).unwrap_err();
    assert!(error.has_errno(nix::errno::Errno::ENFILE as i32), "{error}");
    assert_eq!(connection.read().unwrap().unwrap().ruleset, wish);
}

#[test]
fn a_table_is_read_whole_while_others_change_theirs() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let set = points(vec![KeyPart::Ipv4], (0..20_000).map(nth), Some(40_000));
    let wish = Ruleset { chains: chains_of_fifty_rules(50), sets: BTreeMap::from([("all".into(), set)]) };
    connection.commit(&creation(&wish)).unwrap();

    let settings =
        Settings { table: "kube-proxy".into(), ownership: Ownership::Plain, ..Settings::default() };
    let mut other = namespace.run(|| Connection::open(&settings)).unwrap();
    let start = connection.generation().unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let add: Transaction = [Op::AddTable].into_iter().collect();
            let delete: Transaction = [Op::DeleteTable].into_iter().collect();
            while !done.load(Ordering::Relaxed) {
                other.commit(&add).unwrap();
                std::thread::sleep(Duration::from_millis(100));
                other.commit(&delete).unwrap();
            }
        });
        let equal = (0..10).all(|_| connection.read().unwrap().unwrap().ruleset == wish);
        done.store(true, Ordering::Relaxed);
        assert!(equal);
    });
    assert!(connection.generation().unwrap() > start, "the other did change something");
}

fn chains_of_fifty_rules(count: u32) -> BTreeMap<Name, Chain> {
    let rules = || (0..50).map(|n| rule(&n.to_string(), vec![Expr::Counter])).collect();
    (0..count).map(|n| (format!("c{n}").into(), chain(rules()))).collect()
}
