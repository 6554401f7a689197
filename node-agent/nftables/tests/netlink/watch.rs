//! Hearing of others' changes.

use selvage_nftables::model::*;
use selvage_nftables::netlink::{Change, Ownership};
use selvage_nftables::transaction::{Op, Transaction};

use crate::netns::Namespace;
use crate::sample::*;

#[test]
fn changes_by_others_are_heard_and_our_own_are_not() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Plain);
    let mut watch = namespace.run(|| connection.subscribe()).unwrap();
    assert_eq!(watch.poll().unwrap(), None);
    connection.commit(&creation(&everything())).unwrap();
    connection.commit(&[Op::FlushChain { name: "other".into() }].into_iter().collect()).unwrap();
    assert_eq!(watch.poll().unwrap(), None, "our own");

    for change in [
        "add rule inet selvage other drop",
        "add element inet selvage v4 { 10.1.1.1 }",
        "delete element inet selvage v4 { 10.1.1.1 }",
        "flush chain inet selvage other",
        "add chain inet selvage foreign",
        "add set inet selvage foreign_set { type ipv4_addr; }",
        "add counter inet selvage foreign_counter",
        "add table inet selvage { flags dormant; }",
        "delete table inet selvage",
    ] {
        namespace.nft(change);
        match watch.poll().unwrap() {
            Some(Change::Foreign { by }) => {
                assert!(by.len() == 1 && by.iter().all(|by| by.starts_with("nft (")), "{change}: {by:?}");
            }
            other => panic!("{change}: {other:?}"),
        }
        assert_eq!(watch.poll().unwrap(), None, "{change} is heard once");
    }
}

#[test]
fn changes_of_other_tables_are_no_change() {
    let namespace = Namespace::new();
    let connection = connect(&namespace, Ownership::Owned);
    let mut watch = namespace.run(|| connection.subscribe()).unwrap();
    namespace.nft("table ip selvage { chain c { accept; }; }");
    namespace.nft("table inet kube-proxy { chain c { accept; }; }");
    namespace.nft("delete table inet kube-proxy");
    assert_eq!(watch.poll().unwrap(), None);
}

#[test]
fn more_notices_than_there_is_room_for_mean_that_the_table_must_be_read() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let mut watch = namespace.run(|| connection.subscribe()).unwrap();
    let set = points(vec![KeyPart::Ipv4], [], Some(400_000));
    let wish = Ruleset { chains: Default::default(), sets: [("all".into(), set)].into() };
    connection.commit(&creation(&wish)).unwrap();
    let elements = Elements::Points((0..200_000).map(nth).collect());
    for _ in 0..2 {
        let add = Op::AddElements { set: "all".into(), elements: elements.clone() };
        let delete = Op::DeleteElements { set: "all".into(), elements: elements.clone() };
        connection.commit(&Transaction { ops: vec![add] }).unwrap();
        connection.commit(&Transaction { ops: vec![delete] }).unwrap();
    }
    assert_eq!(watch.poll().unwrap(), Some(Change::Unknown));
    assert_eq!(watch.poll().unwrap(), None);
}
