//! Who may change the table.

use std::collections::BTreeMap;
use std::process::Command;

use nix::errno::Errno;
use selvage_nftables::model::*;
use selvage_nftables::netlink::{Ownership, Standing};
use selvage_nftables::transaction::{Op, Transaction};

use crate::netns::Namespace;
use crate::sample::*;

fn small() -> Ruleset {
    let chain = Chain { base: base(Hook::Forward, 0), rules: vec![rule("a", vec![Expr::Counter])].into() };
    Ruleset { chains: BTreeMap::from([("from_pod".into(), chain)]), sets: BTreeMap::new() }
}

fn nft(namespace: &Namespace, arguments: &str) -> std::process::Output {
    namespace.run(|| Command::new("nft").arg(arguments).output().expect("prerequisite missing: nft"))
}

#[test]
fn an_owned_table_refuses_everybody_else() {
    let namespace = Namespace::new();
    let mut owner = connect(&namespace, Ownership::Owned);
    assert_eq!(owner.ownership(), Ownership::Owned, "prerequisite missing: Linux 6.9 or newer");
    owner.commit(&creation(&small())).unwrap();
    for attempt in [
        "add rule inet selvage from_pod accept",
        "flush chain inet selvage from_pod",
        "delete table inet selvage",
        "add table inet selvage { flags dormant; }",
    ] {
        let output = nft(&namespace, attempt);
        assert!(!output.status.success(), "{attempt}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("Operation not permitted"), "{attempt}: {text}");
    }
    // A flush of everything passes the table over.
    assert!(nft(&namespace, "flush ruleset").status.success());
    let mut other = connect(&namespace, Ownership::Owned);
    assert_eq!(other.standing().unwrap(), Some(Standing::Foreign { port: owner.port() }));
    let error = other.commit(&[Op::DeleteTable].into_iter().collect()).unwrap_err();
    assert!(error.has_errno(Errno::EPERM as i32), "{error}");
    assert_eq!(owner.read().unwrap().unwrap().ruleset, small());
}

#[test]
fn a_table_outlives_its_owner_and_is_adopted_as_it_is() {
    let namespace = Namespace::new();
    let mut first = connect(&namespace, Ownership::Owned);
    first.commit(&creation(&small())).unwrap();
    drop(first);

    let mut second = connect(&namespace, Ownership::Owned);
    let seen = second.read().unwrap().unwrap();
    assert_eq!((seen.standing, &seen.ruleset), (Standing::Orphan, &small()));
    second.commit(&[Op::AddTable].into_iter().collect()).unwrap();
    let seen = second.read().unwrap().unwrap();
    assert_eq!((seen.standing, &seen.ruleset), (Standing::Ours, &small()));
    assert!(!nft(&namespace, "delete table inet selvage").status.success());
    // Adding it again as its owner changes nothing.
    second.commit(&[Op::AddTable].into_iter().collect()).unwrap();
    assert_eq!(second.standing().unwrap(), Some(Standing::Ours));
}

#[test]
fn an_unowned_table_is_replaced_in_one_transaction() {
    let namespace = Namespace::new();
    namespace.nft("table inet selvage { chain foreign { drop; }; }");
    let mut connection = connect(&namespace, Ownership::Owned);
    assert_eq!(connection.standing().unwrap(), Some(Standing::Unowned));
    let error = connection.commit(&creation(&small())).unwrap_err();
    assert!(error.has_errno(Errno::EOPNOTSUPP as i32), "{error}");

    let mut ops = vec![Op::DeleteTable];
    ops.extend(creation(&small()).ops);
    connection.commit(&Transaction { ops }).unwrap();
    let seen = connection.read().unwrap().unwrap();
    assert_eq!((seen.standing, &seen.ruleset), (Standing::Ours, &small()));
}

#[test]
fn a_plain_table_is_anybodys_and_a_dormant_one_is_told() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Plain);
    connection.commit(&creation(&small())).unwrap();
    assert_eq!(connection.standing().unwrap(), Some(Standing::Ours));
    namespace.nft("add table inet selvage { flags dormant; }");
    let seen = connection.read().unwrap().unwrap();
    assert!(seen.dormant);
    connection.commit(&[Op::AddTable].into_iter().collect()).unwrap();
    assert!(!connection.read().unwrap().unwrap().dormant);
    namespace.nft("delete table inet selvage");
    assert_eq!(connection.read().unwrap(), None);
}

#[test]
fn other_tables_are_neither_read_nor_touched() {
    let namespace = Namespace::new();
    let others = [("inet", "kube-proxy"), ("ip", "selvage"), ("ip6", "selvage")];
    for (family, table) in others {
        namespace.nft(&format!(
            "table {family} {table} {{ set s {{ type ipv4_addr; }}; chain c {{ accept; }}; }}"
        ));
    }
    let listing = |table: &str, family: &str| namespace.command("nft", &["list", "table", family, table], "");
    let before: Vec<_> = others.iter().map(|(family, table)| listing(table, family)).collect();
    let mut connection = connect(&namespace, Ownership::Owned);
    assert_eq!(connection.read().unwrap(), None);
    connection.commit(&creation(&everything())).unwrap();
    assert_eq!(connection.read().unwrap().unwrap().ruleset, everything());
    connection.commit(&[Op::DeleteTable].into_iter().collect()).unwrap();
    let after: Vec<_> = others.iter().map(|(family, table)| listing(table, family)).collect();
    assert_eq!(after, before);
}
