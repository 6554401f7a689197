//! Writing and reading agree on everything that can be written; no kernel needed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use selvage_nftables::model::*;
use selvage_nftables::netlink::{encoded, recorded};

use crate::sample::{creation, everything};

fn name() -> impl Strategy<Value = Name> {
    "[a-z][a-z0-9_.-]{0,30}".prop_map(Name::from)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

/// Registers that leave room for 16 bytes.
fn reg() -> impl Strategy<Value = Reg> {
    (0..13_u8).prop_map(Reg)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..17)
}

fn expression() -> impl Strategy<Value = Expr> {
    let meta = select(vec![
        MetaKey::IifName,
        MetaKey::OifName,
        MetaKey::NfProto,
        MetaKey::L4Proto,
        MetaKey::PktType,
        MetaKey::IifKind,
    ]);
    let base = select(vec![PayloadBase::LinkLayer, PayloadBase::Network, PayloadBase::Transport]);
    let ct = select(vec![CtKey::State, CtKey::Direction, CtKey::Status]);
    let op = select(vec![CmpOp::Eq, CmpOp::Neq, CmpOp::Lt, CmpOp::Lte, CmpOp::Gt, CmpOp::Gte]);
    let pair = (1..17_usize).prop_flat_map(|n| (vec(any::<u8>(), n), vec(any::<u8>(), n)));
    prop_oneof![
        (meta, reg()).prop_map(|(key, dreg)| Expr::Meta { key, dreg }),
        (base, 0..256_u32, 1..17_u32, reg()).prop_map(|(base, offset, len, dreg)| Expr::Payload {
            base,
            offset,
            len,
            dreg
        }),
        (ct, reg()).prop_map(|(key, dreg)| Expr::Ct { key, dreg }),
        (0..16_u32, 1..4_u32, reg()).prop_map(|(flags, result, dreg)| Expr::Fib { flags, result, dreg }),
        (reg(), reg(), pair.clone()).prop_map(|(sreg, dreg, (mask, xor))| Expr::Bitwise {
            sreg,
            dreg,
            mask,
            xor
        }),
        (reg(), op, bytes()).prop_map(|(sreg, op, data)| Expr::Cmp { sreg, op, data }),
        (reg(), any::<bool>(), pair).prop_map(|(sreg, negated, (from, to))| Expr::Range {
            sreg,
            negated,
            from,
            to
        }),
        (name(), reg(), any::<bool>()).prop_map(|(set, sreg, negated)| Expr::Lookup { set, sreg, negated }),
        (name(), reg()).prop_map(|(map, sreg)| Expr::VerdictMap { map, sreg }),
        verdict().prop_map(Expr::Verdict),
        Just(Expr::Counter),
        (1..u64::MAX, 1..u64::MAX, 1..u32::MAX).prop_map(|(rate, unit, burst)| Expr::Limit {
            rate,
            unit,
            burst
        }),
        (any::<u16>(), "[ -~]{0,127}", any::<u32>()).prop_map(|(group, prefix, snaplen)| Expr::Log {
            group,
            prefix: prefix.into(),
            snaplen
        }),
        Just(Expr::Masquerade),
    ]
}

fn some_chain() -> impl Strategy<Value = Chain> {
    let hooks = select(vec![Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]);
    let kinds = select(vec![ChainKind::Filter, ChainKind::Nat]);
    let base = (kinds, hooks, any::<i32>(), any::<bool>())
        .prop_map(|(kind, hook, priority, drop)| BaseChain { kind, hook, priority, drop });
    let rule = (vec(expression(), 0..6), "[a-zA-Z0-9 ./-]{0,64}")
        .prop_map(|(expressions, id)| Rule { expressions: expressions.into(), id: id.into() });
    (proptest::option::of(base), vec(rule, 0..5))
        .prop_map(|(base, rules)| Chain { base, rules: rules.into() })
}

fn length(parts: &[KeyPart]) -> usize {
    let part = |part: &KeyPart| match part {
        KeyPart::Ipv4 => 4,
        KeyPart::Ipv6 | KeyPart::InterfaceName => 16,
        KeyPart::Protocol => 1,
        KeyPart::Port => 2,
        KeyPart::Mac => 6,
    };
    match parts {
        [one] => part(one),
        parts => parts.iter().map(|p| part(p).next_multiple_of(4)).sum(),
    }
}

fn keys(length: usize) -> impl Strategy<Value = Key> {
    vec(any::<u8>(), length).prop_map(|bytes| Key::new(&bytes).unwrap())
}

fn part() -> impl Strategy<Value = KeyPart> {
    use KeyPart::*;
    select(vec![Ipv4, Ipv6, Protocol, Port, InterfaceName])
}

fn set() -> impl Strategy<Value = Set> {
    let parts = vec(part(), 1..5).prop_filter("32 bytes", |parts| length(parts) <= 32);
    let hashed = (parts, proptest::option::of(1..u32::MAX)).prop_flat_map(|(key, size)| {
        let keys = || keys(length(&key));
        let elements = prop_oneof![
            btree_set(keys(), 0..20).prop_map(|keys| Elements::Points(keys.into())),
            btree_map(keys(), verdict(), 0..20).prop_map(Elements::Verdicts),
        ];
        elements.prop_map(move |elements| Set { key: key.clone(), elements, size })
    });
    let intervals = part().prop_flat_map(|part| {
        btree_set(keys(length(&[part])), 0..20).prop_map(move |bounds| Set {
            key: vec![part],
            elements: ranges(bounds),
            size: None,
        })
    });
    prop_oneof![hashed, intervals]
}

/// Ranges between every second pair of bounds, so that none touches the next.
fn ranges(bounds: BTreeSet<Key>) -> Elements {
    let bounds: Vec<Key> = bounds.into_iter().collect();
    let adjacent = |a: &Key, b: &Key| {
        let number = |key: &Key| key.as_bytes().iter().fold(0_u128, |n, byte| n << 8 | u128::from(*byte));
        number(b) - number(a) == 1
    };
    let mut ranges = BTreeMap::new();
    let mut last: Option<Key> = None;
    for pair in bounds.chunks_exact(2) {
        if last.is_none_or(|last| !adjacent(&last, &pair[0])) {
            ranges.insert(pair[0], pair[1]);
            last = Some(pair[1]);
        }
    }
    Elements::Ranges(ranges.into())
}

#[test]
fn everything_the_model_has_is_read_as_it_was_written() {
    let wish = everything();
    let bytes = encoded("selvage", &creation(&wish)).unwrap();
    assert_eq!(recorded("selvage", &bytes).unwrap(), (wish, Vec::new()));
    assert_eq!(recorded("another", &bytes).unwrap(), (Ruleset::default(), Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn every_ruleset_is_read_as_it_was_written(
        chains in btree_map(name(), some_chain(), 0..5),
        sets in btree_map(name(), set(), 0..5),
    ) {
        let wish = Ruleset { chains, sets };
        let bytes = encoded("selvage", &creation(&wish)).unwrap();
        prop_assert_eq!(recorded("selvage", &bytes).unwrap(), (wish, Vec::new()));
    }
}
