//! The helpers of the other tests are strict themselves: what the kernel would refuse or misread is an error.

use std::collections::BTreeMap;

use rstest::rstest;
use selvage_nftables::fake::{Fake, FakeError, Reason, check};
use selvage_nftables::model::{
    BaseChain, Chain, ChainKind, CmpOp, CtKey, Elements, Expr, Hook, Key, KeyPart, MetaKey, Name,
    PayloadBase, Reg, Rule, Ruleset, Verdict,
};
use selvage_nftables::trace::{Packet, TraceError, trace};
use selvage_nftables::transaction::{Op, SetKind, SetSpec, Transaction};

use crate::build::{ip, tcp};

const R0: Reg = Reg(0);

fn key(bytes: &[u8]) -> Key {
    Key::new(bytes).unwrap()
}

fn rule(expressions: Vec<Expr>) -> Rule {
    Rule { expressions: expressions.into(), id: "test".into() }
}

fn go(verdict: fn(Name) -> Verdict, to: &str) -> Rule {
    rule(vec![Expr::Verdict(verdict(to.into()))])
}

fn add_chain(name: &str) -> Op {
    Op::AddChain { name: name.into(), base: None }
}

fn add_rule(chain: &str, rule: Rule) -> Op {
    Op::AddRule { chain: chain.into(), rule }
}

fn add_set(name: &str, kind: SetKind, size: Option<u32>) -> Op {
    Op::AddSet { name: name.into(), spec: SetSpec { key: vec![KeyPart::Ipv4], kind, size } }
}

fn points(addresses: &[[u8; 4]]) -> Elements {
    Elements::Points(addresses.iter().map(|a| key(a)).collect())
}

fn ranges(ranges: &[([u8; 4], [u8; 4])]) -> Elements {
    Elements::Ranges(ranges.iter().map(|(a, b)| (key(a), key(b))).collect())
}

fn leads(to: &str) -> Elements {
    Elements::Verdicts(BTreeMap::from([(key(&[10, 0, 0, 1]), Verdict::Jump(to.into()))]))
}

fn add(set: &str, elements: Elements) -> Op {
    Op::AddElements { set: set.into(), elements }
}

fn delete(set: &str, elements: Elements) -> Op {
    Op::DeleteElements { set: set.into(), elements }
}

fn lookup(set: &str) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::NfProto, dreg: R0 },
        Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: vec![2] },
        Expr::Payload { base: PayloadBase::Network, offset: 12, len: 4, dreg: R0 },
        Expr::Lookup { set: set.into(), sreg: R0, negated: false },
    ]
}

/// A table with one chain that looks a set up, a map that leads to another chain, and an interval set.
fn standing() -> Fake {
    let mut fake = Fake::default();
    let ops = [
        Op::AddTable,
        add_chain("judge"),
        add_chain("led"),
        add_set("s", SetKind::Points, Some(2)),
        add("s", points(&[[10, 0, 0, 1]])),
        add_set("m", SetKind::Verdicts, Some(64)),
        add("m", leads("led")),
        add_set("r", SetKind::Ranges, None),
        add("r", ranges(&[([10, 0, 0, 0], [10, 0, 0, 9])])),
        add_rule("judge", rule(lookup("s"))),
    ];
    fake.apply(&ops.into_iter().collect()).unwrap();
    fake
}

fn reason(error: FakeError) -> Reason {
    match error {
        FakeError::Refused { reason, .. } | FakeError::Inconsistent(reason) => reason,
        FakeError::NoTable { op } => panic!("{op}"),
    }
}

#[rstest]
#[case::chain_twice(vec![add_chain("led")], "Exists")]
#[case::set_twice(vec![add_set("s", SetKind::Points, Some(2))], "Exists")]
#[case::chain_led_to(vec![Op::DeleteChain { name: "led".into() }], "Busy")]
#[case::set_in_use(vec![Op::DeleteSet { name: "s".into() }], "Busy")]
#[case::no_such_chain(vec![Op::FlushChain { name: "none".into() }], "Missing")]
#[case::no_such_set(vec![add("none", points(&[]))], "Missing")]
#[case::point_twice(vec![add("s", points(&[[10, 0, 0, 1]]))], "ElementExists")]
#[case::point_missing(vec![delete("s", points(&[[10, 0, 0, 2]]))], "ElementMissing")]
#[case::range_missing(
    vec![delete("r", ranges(&[([10, 0, 0, 0], [10, 0, 0, 8])]))], "ElementMissing"
)]
#[case::other_kind(vec![add("s", ranges(&[]))], "ElementKind")]
#[case::overlap(
    vec![add("r", ranges(&[([10, 0, 0, 5], [10, 0, 0, 20])]))], "Overlap"
)]
#[case::touching(
    vec![add("r", ranges(&[([10, 0, 0, 10], [10, 0, 0, 20])]))], "Overlap"
)]
#[case::full(
    vec![add("s", points(&[[10, 0, 0, 2], [10, 0, 0, 3]]))], "SetFull"
)]
#[case::no_size(vec![add_set("t", SetKind::Points, None)], "SizeMissing")]
#[case::key_length(
    vec![add("s", Elements::Points([key(&[10, 0])].into()))], "KeyShape"
)]
#[case::map_to_nowhere(vec![delete("m", leads("led")), add("m", leads("none"))], "DanglingChain")]
#[case::map_to_a_newborn(
    vec![add_chain("new"), delete("m", leads("led")), add("m", leads("new"))],
    "ChainBornHere"
)]
#[case::jump_to_nowhere(vec![add_rule("judge", go(Verdict::Jump, "none"))], "DanglingChain")]
#[case::unknown_set(vec![add_rule("judge", rule(lookup("none")))], "DanglingSet")]
#[case::map_as_set(vec![add_rule("judge", rule(lookup("m")))], "Rule")]
#[case::no_family(
    vec![add_rule("judge", rule(lookup("s")[2..].to_vec()))], "Rule"
)]
#[case::unloaded(
    vec![add_rule("judge", rule(vec![Expr::Cmp { sreg: R0, op: CmpOp::Eq, data: vec![1] }]))],
    "Rule"
)]
#[case::after_a_verdict(
    vec![add_rule("judge", rule(vec![Expr::Verdict(Verdict::Drop), Expr::Counter]))],
    "Rule"
)]
#[case::circle(
    vec![add_rule("judge", go(Verdict::Goto, "led")), add_rule("led", go(Verdict::Jump, "judge"))],
    "Loop"
)]
#[case::long_name(vec![add_chain("a-name-of-more-than-31-characters")], "Name")]
#[case::name_with_a_space(vec![add_chain("a b")], "Name")]
fn the_fake_refuses(#[case] ops: Vec<Op>, #[case] expected: &str) {
    let mut fake = standing();
    let before = fake.clone();
    let got = reason(fake.apply(&Transaction { ops }).unwrap_err());
    assert_eq!(format!("{got:?}").split([' ', '(']).next(), Some(expected), "{got}");
    assert_eq!(fake, before, "a refused transaction changes nothing");
}

#[test]
fn the_fake_needs_a_table() {
    let mut fake = Fake::default();
    let error = fake.apply(&Transaction { ops: vec![add_chain("c")] }).unwrap_err();
    assert!(matches!(error, FakeError::NoTable { .. }), "{error}");
}

/// 15 jumps are allowed, 16 are not.
#[rstest]
#[case(16, true)]
#[case(17, false)]
fn the_fake_knows_how_deep_chains_nest(#[case] chains: usize, #[case] good: bool) {
    let mut table = Ruleset::default();
    for i in 0..chains {
        let rules = (i + 1 < chains).then(|| go(Verdict::Goto, &format!("c{}", i + 1)));
        table.chains.insert(format!("c{i}").into(), Chain { base: None, rules: rules.into_iter().collect() });
    }
    assert_eq!(check(&table).is_ok(), good);
}

fn base(hook: Hook, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain {
        base: Some(BaseChain { kind: ChainKind::Filter, hook, priority, drop: false }),
        rules: rules.into(),
    }
}

fn packet() -> Packet {
    Packet::new("cni0", "eth0", ip("10.244.1.10"), ip("10.244.2.10"), tcp(80))
}

fn table(chains: Vec<(&str, Chain)>) -> Ruleset {
    let chains = chains.into_iter().map(|(name, chain)| (name.into(), chain)).collect();
    Ruleset { chains, ..Ruleset::default() }
}

#[test]
fn the_tracer_refuses_what_the_kernel_would_misread() {
    let conntrack = rule(vec![Expr::Ct { key: CtKey::State, dreg: R0 }]);
    let early = table(vec![("c", base(Hook::Prerouting, -300, vec![conntrack.clone()]))]);
    assert!(matches!(trace(&early, &packet()), Err(TraceError::NoConntrack { .. })));
    let late = table(vec![("c", base(Hook::Forward, 0, vec![conntrack]))]);
    assert!(trace(&late, &packet()).is_ok());
    let unloaded = rule(vec![Expr::Cmp { sreg: Reg(3), op: CmpOp::Eq, data: vec![0] }]);
    let unloaded = table(vec![("c", base(Hook::Forward, 0, vec![unloaded]))]);
    assert!(matches!(trace(&unloaded, &packet()), Err(TraceError::Unloaded { register: 3, .. })));
    let out = rule(vec![Expr::Meta { key: MetaKey::OifName, dreg: R0 }]);
    let out = table(vec![("c", base(Hook::Prerouting, -300, vec![out]))]);
    assert!(matches!(trace(&out, &packet()), Err(TraceError::NoInterface { .. })));
    let missing = table(vec![("c", base(Hook::Forward, 0, vec![rule(lookup("none"))]))]);
    assert!(matches!(trace(&missing, &packet()), Err(TraceError::Missing { .. })));
    let circle = table(vec![
        ("c", base(Hook::Forward, 0, vec![go(Verdict::Jump, "d")])),
        ("d", Chain { base: None, rules: vec![go(Verdict::Goto, "d")].into() }),
    ]);
    assert!(matches!(trace(&circle, &packet()), Err(TraceError::TooDeep(_))));
}

/// A jump comes back, a goto does not; accept ends its base chain alone, drop everything.
#[test]
fn the_tracer_follows_verdicts_as_the_kernel_does() {
    let verdict = |v| rule(vec![Expr::Verdict(v)]);
    let with = |first: Rule, second: i32| {
        table(vec![
            ("c", base(Hook::Forward, 0, vec![first, verdict(Verdict::Drop)])),
            ("d", base(Hook::Forward, second, vec![verdict(Verdict::Accept)])),
            ("empty", Chain::default()),
            (
                "returns",
                Chain { base: None, rules: vec![verdict(Verdict::Return), verdict(Verdict::Accept)].into() },
            ),
            ("accepts", Chain { base: None, rules: vec![verdict(Verdict::Accept)].into() }),
        ])
    };
    let passes = |first: Rule| trace(&with(first, 1), &packet()).unwrap().accepted;
    assert!(!passes(go(Verdict::Jump, "empty")));
    assert!(!passes(go(Verdict::Jump, "returns")));
    assert!(passes(go(Verdict::Goto, "empty")), "falls out to the base chain's policy");
    assert!(passes(go(Verdict::Goto, "returns")));
    assert!(passes(go(Verdict::Jump, "accepts")));
    let dropped = trace(&with(go(Verdict::Jump, "empty"), -1), &packet()).unwrap();
    assert!(!dropped.accepted, "an accept in an earlier base chain does not save it");
}
