//! What is refused is named, and changes nothing.

use std::collections::BTreeMap;

use nix::errno::Errno;
use selvage_nftables::model::*;
use selvage_nftables::netlink::{
    CommitError, Connection, InvalidOp, Ownership, Rejection, Settings, UNREADABLE,
};
use selvage_nftables::transaction::{Op, SetKind, SetSpec, Transaction};

use crate::netns::Namespace;
use crate::sample::*;

fn rejections(error: CommitError) -> Vec<Rejection> {
    match error {
        CommitError::Refused { rejections, incomplete: false } => rejections,
        other => panic!("{other:?}"),
    }
}

fn elements(set: &str, points: &[Key]) -> Op {
    let elements = Elements::Points(points.iter().copied().collect());
    Op::AddElements { set: set.into(), elements }
}

#[test]
fn one_bad_operation_among_good_ones_is_named_and_nothing_changes() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let wish = everything();
    connection.commit(&creation(&wish)).unwrap();
    let jump = vec![Expr::Verdict(Verdict::Jump("nowhere".into()))];
    let ops = vec![
        elements("v4", &[v4(10, 1, 1, 1)]),
        Op::FlushChain { name: "other".into() },
        Op::AddRule { chain: "other".into(), rule: rule("lost", jump) },
        Op::AddChain { name: "new".into(), base: None },
    ];
    let error = connection.commit(&Transaction { ops }).unwrap_err();
    assert!(!error.outcome_unknown());
    assert!(error.to_string().contains("add rule \"lost\" to chain other"), "{error}");
    let rejections = rejections(error);
    assert_eq!(rejections.len(), 1, "{rejections:?}");
    assert_eq!(rejections[0].index, Some(2));
    assert_eq!(rejections[0].errno, Errno::ENOENT as i32);
    assert_eq!(connection.read().unwrap().unwrap().ruleset, wish);
}

#[test]
fn every_bad_operation_is_named() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    connection.commit(&creation(&everything())).unwrap();
    let ops = vec![
        Op::DeleteChain { name: "nowhere".into() },
        elements("v4", &[v4(10, 1, 1, 1)]),
        Op::DeleteSet { name: "nothing".into() },
        elements("v4", &[v6(9)]),
        Op::DeleteSet { name: "pod_side".into() },
        Op::DeleteChain { name: "profile".into() },
        Op::AddChain { name: "new".into(), base: None },
    ];
    let rejections = rejections(connection.commit(&Transaction { ops }).unwrap_err());
    let seen: Vec<_> =
        rejections.iter().map(|r| (r.index.unwrap(), Errno::from_raw(r.errno), &*r.op)).collect();
    assert_eq!(
        seen,
        [
            (0, Errno::ENOENT, "delete chain nowhere"),
            (2, Errno::ENOENT, "delete set nothing"),
            (3, Errno::EINVAL, "add 1 elements to set v4"),
            (4, Errno::EBUSY, "delete set pod_side"),
            (5, Errno::EBUSY, "delete chain profile"),
        ]
    );
}

#[test]
fn errors_of_thousands_of_operations_are_all_collected() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    connection.commit(&[Op::AddTable].into_iter().collect()).unwrap();
    let ops = (0..3_000).map(|n| Op::DeleteChain { name: format!("c{n}").into() });
    let rejections = rejections(connection.commit(&ops.collect()).unwrap_err());
    assert_eq!(rejections.len(), 3_000);
    assert!(rejections.iter().enumerate().all(|(n, rejection)| rejection.index == Some(n)));
}

#[test]
fn the_last_operation_may_be_the_bad_one() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let ops = vec![Op::AddTable, elements("nothing", &[v4(10, 1, 1, 1)])];
    let rejections = rejections(connection.commit(&Transaction { ops }).unwrap_err());
    assert_eq!(rejections[0].index, Some(1));
    assert_eq!(connection.read().unwrap(), None);
}

#[test]
fn overlapping_ranges_and_a_changed_verdict_are_refused() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let wish = everything();
    connection.commit(&creation(&wish)).unwrap();
    let overlap = Elements::Ranges([(v4(10, 0, 5, 0), v4(10, 0, 5, 255))].into_iter().collect());
    let verdict = Elements::Verdicts(BTreeMap::from([(v4(10, 0, 0, 3), Verdict::Accept)]));
    for (set, elements) in [("cidr4", overlap), ("dispatch4", verdict)] {
        let op = Op::AddElements { set: set.into(), elements };
        let error = connection.commit(&[op].into_iter().collect()).unwrap_err();
        assert_eq!(rejections(error)[0].index, Some(0), "{set}");
    }
    let absent = Op::DeleteElements {
        set: "v4".into(),
        elements: Elements::Points([v4(10, 0, 0, 1), v4(10, 7, 7, 7)].into()),
    };
    let error = connection.commit(&[absent].into_iter().collect()).unwrap_err();
    assert_eq!(rejections(error)[0].errno, Errno::ENOENT as i32);
    assert_eq!(connection.read().unwrap().unwrap().ruleset, wish);
}

#[test]
fn a_chain_that_the_kernel_does_not_know_is_named() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let nat = BaseChain { kind: ChainKind::Nat, hook: Hook::Forward, priority: 0, drop: false };
    let ops = vec![Op::AddTable, Op::AddChain { name: "wrong".into(), base: Some(nat) }];
    let rejections = rejections(connection.commit(&Transaction { ops }).unwrap_err());
    assert_eq!((rejections[0].index, rejections[0].errno), (Some(1), Errno::EOPNOTSUPP as i32));
}

#[test]
fn the_kernels_own_words_are_passed_on() {
    let namespace = Namespace::new();
    let settings =
        Settings { table: "x".repeat(300).into(), ownership: Ownership::Plain, ..Settings::default() };
    let mut connection = namespace.run(|| Connection::open(&settings)).unwrap();
    let error = connection.commit(&[Op::AddTable].into_iter().collect()).unwrap_err();
    assert!(error.to_string().ends_with("Attribute failed policy validation"), "{error}");
}

#[test]
fn what_cannot_be_expressed_is_named_and_never_sent() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Owned);
    let add = |id: &str, expression| Op::AddRule { chain: "c".into(), rule: rule(id, vec![expression]) };
    let set = |key, kind, size| Op::AddSet { name: "s".into(), spec: SetSpec { key, kind, size } };
    let long = Expr::Cmp { sreg: Reg(15), op: CmpOp::Eq, data: vec![0; 5] };
    let bitwise = Expr::Bitwise { sreg: Reg(0), dreg: Reg(0), mask: vec![1], xor: vec![] };
    type Expected = fn(&InvalidOp) -> bool;
    let bad: Vec<(Op, Expected)> = vec![
        (Op::AddChain { name: "".into(), base: None }, |e| matches!(e, InvalidOp::Name(_))),
        (Op::AddChain { name: "x".repeat(32).into(), base: None }, |e| matches!(e, InvalidOp::Name(_))),
        (Op::DeleteSet { name: "a\0b".into() }, |e| matches!(e, InvalidOp::Name(_))),
        (add(&"x".repeat(65), Expr::Counter), |e| matches!(e, InvalidOp::RuleId(_))),
        (add(&format!("{UNREADABLE}x"), Expr::Counter), |e| matches!(e, InvalidOp::RuleId(_))),
        (add("r", long), |e| *e == InvalidOp::Register(15)),
        (add("r", Expr::Meta { key: MetaKey::NfProto, dreg: Reg(16) }), |e| *e == InvalidOp::Register(16)),
        (add("r", bitwise), |e| matches!(e, InvalidOp::Value(_))),
        (add("r", Expr::Limit { rate: 1, unit: 1, burst: 0 }), |e| matches!(e, InvalidOp::Value(_))),
        (add("r", Expr::Log { group: 1, prefix: "x".repeat(128).into(), snaplen: 1 }), |e| {
            matches!(e, InvalidOp::Value(_))
        }),
        (set(vec![], SetKind::Points, None), |e| matches!(e, InvalidOp::Value(_))),
        (set(vec![KeyPart::Ipv6; 3], SetKind::Points, None), |e| matches!(e, InvalidOp::Value(_))),
        (set(vec![KeyPart::Protocol; 6], SetKind::Points, None), |e| matches!(e, InvalidOp::Value(_))),
        (set(vec![KeyPart::Ipv4; 2], SetKind::Ranges, None), |e| matches!(e, InvalidOp::Value(_))),
        (set(vec![KeyPart::Ipv4], SetKind::Points, Some(0)), |e| matches!(e, InvalidOp::Value(_))),
    ];
    let generation = connection.generation().unwrap();
    for (op, expected) in bad {
        let name = op.to_string();
        match connection.commit(&[Op::AddTable, op].into_iter().collect()).unwrap_err() {
            CommitError::Invalid { index: 1, op, reason } => {
                assert_eq!(op, name);
                assert!(expected(&reason), "{name}: {reason:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let huge = rule("huge", vec![payload(PayloadBase::Network, 0, 4, 0); 2_000]);
    let ops = vec![Op::AddTable, Op::AddRule { chain: "c".into(), rule: huge }];
    let error = connection.commit(&Transaction { ops }).unwrap_err();
    assert!(matches!(error, CommitError::Invalid { index: 1, reason: InvalidOp::Size(_), .. }), "{error:?}");
    assert_eq!(connection.generation().unwrap(), generation);
}
