//! Rulesets for the tests, and the plain way to commit one.

use std::collections::BTreeMap;

use selvage_nftables::model::*;
use selvage_nftables::netlink::{Connection, Ownership, Settings};
use selvage_nftables::transaction::{Op, SetSpec, Transaction};

use crate::netns::Namespace;

/// A connection inside the namespace.
pub fn connect(namespace: &Namespace, ownership: Ownership) -> Connection {
    namespace.run(|| {
        Connection::open(&Settings { ownership, ..Settings::default() })
            .expect("prerequisite missing: a kernel with nftables")
    })
}

/// Everything a table needs, in one transaction: sets, chains, rules, then elements.
pub fn creation(ruleset: &Ruleset) -> Transaction {
    let mut ops = vec![Op::AddTable];
    for (name, set) in &ruleset.sets {
        ops.push(Op::AddSet { name: name.clone(), spec: SetSpec::of(set) });
    }
    for (name, chain) in &ruleset.chains {
        ops.push(Op::AddChain { name: name.clone(), base: chain.base });
    }
    for (name, chain) in &ruleset.chains {
        for rule in &chain.rules {
            ops.push(Op::AddRule { chain: name.clone(), rule: rule.clone() });
        }
    }
    for (name, set) in &ruleset.sets {
        ops.push(Op::AddElements { set: name.clone(), elements: set.elements.clone() });
    }
    Transaction { ops }
}

pub fn key(bytes: &[u8]) -> Key {
    Key::new(bytes).unwrap()
}

pub fn v4(a: u8, b: u8, c: u8, d: u8) -> Key {
    key(&[a, b, c, d])
}

/// The nth address of 10.0.0.0/8.
pub fn nth(n: u32) -> Key {
    key(&(0x0a00_0000 + n).to_be_bytes())
}

pub fn v6(last: u16) -> Key {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&[0xfd, 0x00]);
    bytes[14..].copy_from_slice(&last.to_be_bytes());
    key(&bytes)
}

pub fn rule(id: &str, expressions: Vec<Expr>) -> Rule {
    Rule { expressions: expressions.into(), id: id.into() }
}

pub fn base(hook: Hook, priority: i32) -> Option<BaseChain> {
    Some(BaseChain { kind: ChainKind::Filter, hook, priority, drop: false })
}

pub fn chain(rules: Vec<Rule>) -> Chain {
    Chain { base: None, rules: rules.into() }
}

pub fn points(key: Vec<KeyPart>, points: impl IntoIterator<Item = Key>, size: Option<u32>) -> Set {
    Set { key, elements: Elements::Points(points.into_iter().collect()), size }
}

fn concat(parts: &[&[u8]]) -> Key {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    key(&bytes)
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// `meta nfproto` of the family, the check that every look into an IP header needs first.
pub fn family(number: u8) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::NfProto, dreg: Reg(0) },
        Expr::Cmp { sreg: Reg(0), op: CmpOp::Eq, data: vec![number] },
    ]
}

pub fn payload(base: PayloadBase, offset: u32, len: u32, dreg: u8) -> Expr {
    Expr::Payload { base, offset, len, dreg: Reg(dreg) }
}

/// A ruleset with every expression, verdict, sort of set and sort of chain that the model has.
pub fn everything() -> Ruleset {
    use KeyPart::*;
    let mut sets = BTreeMap::new();
    sets.insert("v4".into(), points(vec![Ipv4], [v4(10, 0, 0, 1), v4(10, 0, 0, 2)], Some(64)));
    sets.insert("v6".into(), points(vec![Ipv6], [v6(1), v6(2), v6(3)], Some(64)));
    sets.insert("proto".into(), points(vec![Protocol], [key(&[6]), key(&[17])], Some(8)));
    sets.insert("port".into(), points(vec![Port], [key(&[0, 80]), key(&[1, 187])], Some(8)));
    sets.insert("pod_side".into(), points(vec![InterfaceName], [key(&name("cni0"))], Some(8)));
    sets.insert("unsized".into(), points(vec![Ipv4], [v4(192, 0, 2, 1)], None));
    sets.insert("empty".into(), points(vec![Ipv6], [], Some(16)));
    sets.insert(
        "named_ports".into(),
        points(
            vec![Ipv4, Protocol, Port],
            [concat(&[&[10, 0, 0, 1], &[6], &[0, 80]]), concat(&[&[10, 0, 0, 2], &[17], &[0, 53]])],
            Some(16),
        ),
    );
    sets.insert(
        "pairs6".into(),
        points(vec![Ipv6, Ipv6], [concat(&[v6(1).as_bytes(), v6(2).as_bytes()])], Some(16)),
    );
    let ranges4 = BTreeMap::from([
        (v4(0, 0, 0, 0), v4(0, 255, 255, 255)),
        (v4(10, 0, 0, 0), v4(10, 0, 255, 255)),
        (v4(10, 2, 0, 7), v4(10, 2, 0, 7)),
        (v4(240, 0, 0, 0), v4(255, 255, 255, 255)),
    ]);
    sets.insert(
        "cidr4".into(),
        Set { key: vec![Ipv4], elements: Elements::Ranges(ranges4.into()), size: None },
    );
    let mut top = [0xff; 16];
    top[15] = 0;
    let ranges6 = BTreeMap::from([(v6(16), v6(31)), (key(&top), key(&[0xff; 16]))]);
    sets.insert(
        "cidr6".into(),
        Set { key: vec![Ipv6], elements: Elements::Ranges(ranges6.into()), size: None },
    );
    let ports = BTreeMap::from([(key(&[0, 0]), key(&[0, 79])), (key(&[31, 64]), key(&[255, 255]))]);
    sets.insert(
        "ports".into(),
        Set { key: vec![Port], elements: Elements::Ranges(ports.into()), size: None },
    );
    let verdicts = BTreeMap::from([
        (v4(10, 0, 0, 1), Verdict::Jump("profile".into())),
        (v4(10, 0, 0, 2), Verdict::Goto("other".into())),
        (v4(10, 0, 0, 3), Verdict::Drop),
        (v4(10, 0, 0, 4), Verdict::Accept),
        (v4(10, 0, 0, 5), Verdict::Return),
    ]);
    sets.insert(
        "dispatch4".into(),
        Set { key: vec![Ipv4], elements: Elements::Verdicts(verdicts), size: Some(64) },
    );
    let local = BTreeMap::from([(concat(&[&name("cni0"), &[10, 0, 0, 1]]), Verdict::Jump("profile".into()))]);
    sets.insert(
        "dispatch_if".into(),
        Set { key: vec![InterfaceName, Ipv4], elements: Elements::Verdicts(local), size: Some(8) },
    );
    Ruleset { chains: every_chain(), sets }
}

fn every_chain() -> BTreeMap<Name, Chain> {
    use PayloadBase::*;
    let mut chains = BTreeMap::new();
    let guard = vec![
        rule(
            "guard",
            vec![
                Expr::Meta { key: MetaKey::IifName, dreg: Reg(0) },
                Expr::Lookup { set: "pod_side".into(), sreg: Reg(0), negated: false },
                Expr::Fib { flags: 1, result: 3, dreg: Reg(0) },
                Expr::Cmp { sreg: Reg(0), op: CmpOp::Neq, data: 2_u32.to_ne_bytes().to_vec() },
                Expr::Counter,
                Expr::Verdict(Verdict::Drop),
            ],
        ),
        rule("link", vec![payload(LinkLayer, 6, 6, 1), Expr::Verdict(Verdict::Return)]),
    ];
    chains.insert("guard".into(), Chain { base: base(Hook::Prerouting, -300), rules: guard.into() });
    let mut map = vec![];
    map.extend(family(2));
    map.extend([payload(Network, 12, 4, 0), Expr::VerdictMap { map: "dispatch4".into(), sreg: Reg(0) }]);
    let mut by_interface = vec![Expr::Meta { key: MetaKey::IifName, dreg: Reg(0) }];
    by_interface
        .extend([payload(Network, 12, 4, 4), Expr::VerdictMap { map: "dispatch_if".into(), sreg: Reg(0) }]);
    let state = vec![
        Expr::Ct { key: CtKey::State, dreg: Reg(0) },
        Expr::Bitwise { sreg: Reg(0), dreg: Reg(0), mask: 6_u32.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        Expr::Cmp { sreg: Reg(0), op: CmpOp::Neq, data: vec![0; 4] },
        Expr::Verdict(Verdict::Accept),
    ];
    let hairpin = vec![
        Expr::Ct { key: CtKey::Status, dreg: Reg(2) },
        Expr::Bitwise { sreg: Reg(2), dreg: Reg(3), mask: vec![0xff; 4], xor: vec![1, 2, 3, 4] },
        Expr::Ct { key: CtKey::Direction, dreg: Reg(15) },
        Expr::Cmp { sreg: Reg(15), op: CmpOp::Eq, data: vec![0] },
        payload(Network, 8, 16, 0),
        payload(Network, 24, 16, 4),
        Expr::Lookup { set: "pairs6".into(), sreg: Reg(0), negated: true },
        Expr::Verdict(Verdict::Accept),
    ];
    let rules = vec![
        rule("state", state),
        rule("hairpin", hairpin),
        rule("dispatch", map),
        rule("interface", by_interface),
        rule("", vec![Expr::Counter]),
    ];
    chains.insert("from_pod".into(), Chain { base: base(Hook::Forward, 0), rules: rules.into() });
    let closed = BaseChain { kind: ChainKind::Filter, hook: Hook::Input, priority: 0, drop: true };
    chains.insert("closed".into(), Chain { base: Some(closed), rules: vec![].into() });
    chains.insert("out".into(), Chain { base: base(Hook::Output, 10), rules: vec![].into() });
    let nat = BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100, drop: false };
    chains.insert(
        "postrouting".into(),
        Chain {
            base: Some(nat),
            rules: vec![rule("masquerade", vec![Expr::Counter, Expr::Masquerade])].into(),
        },
    );
    let compare = |op, data: &[u8]| Expr::Cmp { sreg: Reg(0), op, data: data.to_vec() };
    let mut profile = vec![rule(
        "every comparison",
        vec![
            Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(0) },
            compare(CmpOp::Eq, &[6]),
            payload(Transport, 2, 2, 0),
            compare(CmpOp::Lt, &[1, 0]),
            compare(CmpOp::Lte, &[1, 0]),
            compare(CmpOp::Gt, &[0, 1]),
            compare(CmpOp::Gte, &[0, 1]),
            compare(CmpOp::Neq, &[0, 22]),
            Expr::Range { sreg: Reg(0), negated: false, from: vec![0, 80], to: vec![0, 90] },
            Expr::Range { sreg: Reg(0), negated: true, from: vec![0, 85], to: vec![0, 86] },
            Expr::Lookup { set: "ports".into(), sreg: Reg(0), negated: true },
            Expr::Verdict(Verdict::Jump("other".into())),
        ],
    )];
    profile.push(rule(
        "named port",
        vec![
            Expr::Meta { key: MetaKey::PktType, dreg: Reg(0) },
            compare(CmpOp::Eq, &[0]),
            payload(Network, 16, 4, 0),
            Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(1) },
            payload(Transport, 2, 2, 2),
            Expr::Lookup { set: "named_ports".into(), sreg: Reg(0), negated: false },
            Expr::Verdict(Verdict::Goto("other".into())),
        ],
    ));
    chains.insert("profile".into(), chain(profile));
    let mut cidr = family(10).to_vec();
    cidr.extend([
        payload(Network, 24, 16, 0),
        Expr::Lookup { set: "cidr6".into(), sreg: Reg(0), negated: false },
        compare(CmpOp::Eq, &[0xfd; 16]),
        Expr::Meta { key: MetaKey::OifName, dreg: Reg(4) },
        Expr::Cmp { sreg: Reg(4), op: CmpOp::Eq, data: name("eth0") },
    ]);
    let log = |prefix: &str| Expr::Log { group: 7, prefix: prefix.into(), snaplen: 128 };
    let other = vec![
        rule(&"x".repeat(64), cidr),
        rule("log", vec![Expr::Limit { rate: 10, unit: 60, burst: 20 }, log("selvage "), Expr::Counter]),
        rule("no prefix", vec![log("")]),
        rule("last", vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]),
    ];
    chains.insert("other".into(), chain(other));
    chains
}
