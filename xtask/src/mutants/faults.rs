//! The faults: what is changed where, and which tests must notice.

use std::fmt;

/// A fault: one text of one file becomes another. The old one is in the file exactly once.
#[derive(Debug)]
pub struct Fault {
    /// What is wrong then.
    pub name: &'static str,
    /// The file, from the root of the tree.
    pub file: &'static str,
    /// What is there.
    pub old: &'static str,
    /// What stands there instead.
    pub new: &'static str,
    /// The tests that must notice.
    pub suite: Suite,
}

/// Tests of one half of the way from objects to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// From objects to compiled policies.
    Policy,
    /// From compiled policies to rules, and what they do to packets.
    Ruleset,
}

const RULES: &str = "policy/src/compile/rules.rs";
const SERVICES: &str = "policy/src/compile/services.rs";
const PROFILE: &str = "policy/src/compile/profile.rs";
const BASE: &str = "node-agent/nftables/src/render/base.rs";
const RENDERED_RULE: &str = "node-agent/nftables/src/render/rule.rs";
const RENDERED_PROFILE: &str = "node-agent/nftables/src/render/profile.rs";
const ADDRESS: &str = "node-agent/nftables/src/render/address.rs";
const PORTS: &str = "node-agent/nftables/src/render/ports.rs";

/// Every fault.
pub const FAULTS: &[Fault] = &[
    compiler(
        "a policy's first rule is dropped",
        RULES,
        "for (index, rule) in (0..).zip(rules) {",
        "for (index, rule) in (0..).zip(rules).skip(1) {",
    ),
    compiler(
        "tiers are asked in the wrong order",
        PROFILE,
        "((tier.order.is_none(), tier.order, &policy.tier), place)",
        "((tier.order.is_none(), std::cmp::Reverse(tier.order), &policy.tier), place)",
    ),
    compiler(
        "a policy's order in its tier is ignored",
        PROFILE,
        "let place = (order.is_none(), *order, &key.name,",
        "let place = (order.is_none(), &key.name,",
    ),
    compiler(
        "policies that only log make their tier count",
        PROFILE,
        "if says == Says::Decides {",
        "if says != Says::Nothing {",
    ),
    compiler(
        "ranges of ports that nearly touch become one",
        SERVICES,
        "<= u32::from(last.last) + 1 =>",
        "<= u32::from(last.last) + 2 =>",
    ),
    compiler(
        "a source port is taken for a destination port",
        SERVICES,
        "End::Source => source_ports = Some(ports),",
        "End::Source => destination_ports = Some(ports),",
    ),
    compiler(
        "of several exceptions of a block only the first counts",
        RULES,
        "nets.extend(subtract(*net, except));",
        "nets.extend(subtract(*net, except.get(..1).unwrap_or_default()));",
    ),
    compiler(
        "notNets and notSelector are read as nets and selector",
        RULES,
        "Self { negated: term.negated, nets: merge(nets), pods, others }",
        "Self { negated: false, nets: merge(nets), pods, others }",
    ),
    compiler(
        "notPorts and notProtocol are read as ports and protocol",
        RULES,
        "true => conditions.extend(services.iter().map(services::negation)),",
        "true => conditions.push(services),",
    ),
    compiler(
        "peers that can't be read become any peer",
        RULES,
        "(true, false) => return None,",
        "(true, false) => {}",
    ),
    compiler(
        "a rule's IP version is forgotten",
        RULES,
        "(rule.action, rule.family, source.clone())",
        "(rule.action, None, source.clone())",
    ),
    compiler(
        "a named port means every pod that has the name, not the peer's",
        RULES,
        "push(with(self.named(&positive.pods, &names, End::Destination)), negated.clone());",
        "push(with(self.named(&everywhere, &names, End::Destination)), negated.clone());",
    ),
    compiler(
        "service accounts are not looked at",
        "policy/src/index/accounts.rs",
        "if *accounts == Selector::All {",
        "if *accounts == Selector::All || !endpoint.account.is_empty() {",
    ),
    compiler(
        "`not in` does not match where the label is absent",
        "policy/src/selector/mod.rs",
        "!labels.label(key).is_some_and(|value| values.contains(value))",
        "labels.label(key).is_some_and(|value| !values.contains(value))",
    ),
    renderer(
        "Pass is treated as Allow",
        RENDERED_RULE,
        "(Action::Pass, false) => Some(pass(place.pass.clone())),",
        "(Action::Pass, false) => Some(pass(Verdict::Accept)),",
    ),
    renderer(
        "Allow from a group that is not complete matches anything",
        RENDERED_RULE,
        "(Action::Allow | Action::Log, true) => None,",
        "(Action::Allow | Action::Log, true) => Some(pass(Verdict::Accept)),",
    ),
    renderer(
        "a rule of IPv4 judges IPv6 too",
        RENDERED_RULE,
        "if excluded { Vec::new() }",
        "if excluded && family == Family::V4 { Vec::new() }",
    ),
    renderer(
        "a tier's default action is Pass, whatever it says",
        RENDERED_PROFILE,
        "_ => count_drop(),",
        "_ => vec![Expr::Counter, Expr::Verdict(pass.clone())],",
    ),
    renderer(
        "an address that two pods claim is open",
        RENDERED_PROFILE,
        "verdicts.insert(address, [Verdict::Drop, Verdict::Drop]);",
        "verdicts.insert(address, [Verdict::Accept, Verdict::Accept]);",
    ),
    renderer(
        "\"in none of these groups\" becomes \"not in one of them\"",
        ADDRESS,
        "true => vec![tests.concat()],",
        "true => tests,",
    ),
    renderer(
        "a single port's negation is ignored",
        PORTS,
        "let op = if negated { CmpOp::Neq } else { CmpOp::Eq };",
        "let op = if negated { CmpOp::Eq } else { CmpOp::Eq };",
    ),
    renderer(
        "an ICMP code is not looked at",
        PORTS,
        "(Some(code), false) => vec![vec![kind_is(CmpOp::Eq), code_is(*code, CmpOp::Eq)]],",
        "(Some(_), false) => vec![vec![kind_is(CmpOp::Eq)]],",
    ),
    renderer(
        "hairpin passes without destination NAT",
        BASE,
        "[family(which), ct_bits(CtKey::Status, DST_NAT), pair, verdict(Verdict::Accept)]",
        "[family(which), pair, verdict(Verdict::Accept)]",
    ),
    renderer(
        "the guard lets every source pass",
        BASE,
        "rules.extend(guard_source(settings));",
        "rules.extend(guard_source(settings).drain(..0));",
    ),
    renderer(
        "a pod that is not known is open",
        BASE,
        "rules.push(rule(\"unknown-pod\", [on_pod_side(key, false), count_drop()]));",
        "rules.push(rule(\"unknown-pod\", [on_pod_side(key, false), verdict(Verdict::Accept)]));",
    ),
    renderer(
        "first packets pass as established",
        BASE,
        "const ESTABLISHED_RELATED: u32 = 2 | 4;",
        "const ESTABLISHED_RELATED: u32 = 2 | 4 | 8;",
    ),
    renderer(
        "a change takes no element out of a set",
        "node-agent/nftables/src/diff/mod.rs",
        "push_elements(&mut ops, Op::delete_elements, name, subtract(&old.elements, &new.elements));",
        "let _ = (old, new, name, Op::delete_elements);",
    ),
];

const fn compiler(name: &'static str, file: &'static str, old: &'static str, new: &'static str) -> Fault {
    Fault { name, file, old, new, suite: Suite::Policy }
}

const fn renderer(name: &'static str, file: &'static str, old: &'static str, new: &'static str) -> Fault {
    Fault { name, file, old, new, suite: Suite::Ruleset }
}

impl Suite {
    /// What cargo is told of the test programs.
    pub fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &[
                "--package=selvage-policy",
                "--test=semantics_networkpolicy",
                "--test=semantics_verdict",
                "--test=semantics_who",
                "--test=rules",
                "--test=selector_language",
                "--test=verdict",
            ],
            Self::Ruleset => &["--package=selvage-nftables", "--test=ruleset"],
        }
    }

    /// What the test programs are told.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Self::Policy => &[],
            Self::Ruleset => &["--skip=golden"],
        }
    }
}

/// The command.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo test {}", self.targets().join(" "))?;
        match self.options() {
            [] => Ok(()),
            options => write!(f, " -- {}", options.join(" ")),
        }
    }
}
