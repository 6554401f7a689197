//! The chains. Every rule that stops something has an id that says what was claimed, and counts; the chain that it
//! leads to counts by port, so that the pod is known too.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_policy::compiled::{End, Family};

use super::super::expr::{
    ICMPV6, R0, compare, count_drop, equals, family_digit, load_address, lookup, padded_name, protocol, rule,
    verdict,
};
use super::{FAMILIES, claims, names, set};
use crate::model::{
    BaseChain, Chain, ChainKind, CmpOp, Expr, Hook, MetaKey, Name, PayloadBase, Reg, Rule, Verdict,
};

/// NF_BR_PRI_NAT_DST_BRIDGED: before br_netfilter hands the packet to the `inet` table, and before the bridge learns
/// which port a MAC address is behind.
const PRIORITY: i32 = -300;
/// ETH_P_IP
const IPV4: u16 = 0x0800;
/// ETH_P_IPV6
const IPV6: u16 = 0x86dd;
/// ETH_P_ARP
pub(super) const ARP: u16 = 0x0806;
/// Where the type stands in an Ethernet header; that of an outer VLAN tag where there is one.
const ETHER_TYPE_OFFSET: u32 = 12;
const ETHER_TYPE_BYTES: u32 = 2;
/// The source address.
const ETHER_SOURCE_OFFSET: u32 = 6;
pub(super) const MAC_BYTES: u32 = 6;
/// 01:80:c2:00:00:00 to :0f, which a bridge keeps to itself (IEEE 802.1D, table 7-10).
const RESERVED: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0];
const RESERVED_MASK: [u8; 6] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xf0];
/// The registers behind an interface's name.
pub(super) const BEHIND_NAME: Reg = Reg(4);

const FRAMES: &str = "frames";
const RESERVED_INPUT: &str = "reserved";
const BOUND: &str = "bound";
const UNBOUND: &str = "unbound";
/// Counts by port, and drops.
pub const POSING: &str = "posing";
/// What an unknown port did.
const NOBODY: &str = "unknown port";

/// What a counter of the table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Spoof<'a> {
    /// Packets that were stopped for one reason.
    Reason(&'static str),
    /// Packets in another's name that came in by this port; None: by one without a binding.
    Port(Option<&'a str>),
}

/// Rules that stop something, by id, with the name of what was claimed.
const REASONS: [(&str, &str); 7] = [
    ("bridge-frame", "frame"),
    ("bridge-reserved", "reserved"),
    ("posing-mac", "mac"),
    ("posing-arp", "arp"),
    ("posing-nd", "nd"),
    ("posing-ipv4", "ipv4"),
    ("posing-ipv6", "ipv6"),
];

/// What the counter of this rule counts; None for a rule that stops nothing.
pub fn spoof<'a>(chain: &str, id: &'a str) -> Option<Spoof<'a>> {
    if chain == POSING {
        return Some(Spoof::Port(Some(id).filter(|port| *port != NOBODY)));
    }
    let (_, reason) = REASONS.iter().find(|(rule, _)| *rule == id)?;
    Some(Spoof::Reason(reason))
}

pub(super) fn chains<'a>(ports: impl Iterator<Item = &'a Arc<str>>) -> BTreeMap<Name, Chain> {
    let base = |hook| Some(BaseChain { kind: ChainKind::Filter, hook, priority: PRIORITY, drop: false });
    let own = [
        (FRAMES, base(Hook::Prerouting), frames()),
        (RESERVED_INPUT, base(Hook::Input), reserved_input()),
        (BOUND, None, bound()),
        (UNBOUND, None, unbound()),
        (POSING, None, posing(ports)),
    ];
    let all = own.into_iter().chain(claims::chains().map(|(name, rules)| (name, None, rules)));
    all.map(|(name, base, rules)| (name.into(), Chain { base, rules: rules.into_iter().collect() })).collect()
}

/// Only frames of pods go on: a physical port, a tunnel, a VM's tap and another bridge's veth are none of ours.
fn not_a_pods() -> [Rule; 2] {
    let kind = vec![Expr::Meta { key: MetaKey::IifKind, dreg: R0 }, compare(padded_name("veth"), CmpOp::Neq)];
    [
        rule("not-a-veth", [kind, verdict(Verdict::Accept)]),
        rule("foreign-port", [in_port(names::FOREIGN), verdict(Verdict::Accept)]),
    ]
}

fn frames() -> Vec<Rule> {
    let not_plain = [IPV4, IPV6, ARP].map(|kind| compare(kind.to_be_bytes(), CmpOp::Neq));
    let frame: Vec<Expr> = std::iter::once(load_type()).chain(not_plain).collect();
    let mut rules = Vec::from(not_a_pods());
    rules.extend([
        rule("bridge-frame", [frame, count_drop()]),
        rule("bridge-reserved", [to_reserved(), count_drop()]),
        rule("bound", [in_port(names::PORTS), verdict(Verdict::Goto(BOUND.into()))]),
        rule("unbound", [verdict(Verdict::Goto(UNBOUND.into()))]),
    ]);
    rules
}

/// A reserved address that can't be forwarded comes here instead of prerouting.
fn reserved_input() -> Vec<Rule> {
    let mut rules = Vec::from(not_a_pods());
    rules.push(rule("bridge-reserved", [to_reserved(), count_drop()]));
    rules
}

/// A port whose pod is known says what it is, and nothing else.
fn bound() -> Vec<Rule> {
    let own = |family| {
        let pair =
            port_and(load_address(End::Source, family, BEHIND_NAME), &set(names::BOUND, family), false);
        let id = format!("own-ipv{}", family_digit(family));
        rule(id, [frame_of(family), pair, verdict(Verdict::Accept)])
    };
    let posing = |family| rule(posing_ip(family), [frame_of(family), posed()]);
    let v6 = || frame_of(Family::V6);
    let source = || load_address(End::Source, Family::V6, R0);
    let strange_mac = port_and(source_mac(BEHIND_NAME), names::MACS, true);
    vec![
        rule("posing-mac", [strange_mac, posed()]),
        own(Family::V4),
        posing(Family::V4),
        rule("neighbour", [v6(), protocol(ICMPV6), verdict(Verdict::Jump(claims::NEIGHBOUR.into()))]),
        own(Family::V6),
        // What such packets may be, the guard of the `inet` table says.
        rule("link-local", [v6(), claims::link_local_of_nobody(source()), verdict(Verdict::Accept)]),
        rule("unspecified", [v6(), vec![source(), equals([0; 16])], verdict(Verdict::Accept)]),
        posing(Family::V6),
        rule("arp", [is_type(ARP), verdict(Verdict::Goto(claims::ARP_CLAIMS.into()))]),
    ]
}

/// A port of which nothing is known claims nothing that is another's. Whether its packets pass, the `inet` table says.
fn unbound() -> Vec<Rule> {
    let known_mac = vec![source_mac(R0), lookup(&names::KNOWN_MACS.into(), false)];
    let known = |family| {
        let source = vec![load_address(End::Source, family, R0), lookup(&set(names::KNOWN, family), false)];
        rule(posing_ip(family), [frame_of(family), source, posed()])
    };
    let mut rules = vec![rule("posing-mac", [known_mac, posed()])];
    rules.extend(FAMILIES.map(known));
    rules.extend(claims::of_an_unbound_port());
    rules
}

fn posing<'a>(ports: impl Iterator<Item = &'a Arc<str>>) -> Vec<Rule> {
    let by_port = ports.map(|port| {
        let test = vec![Expr::Meta { key: MetaKey::IifName, dreg: R0 }, equals(padded_name(port))];
        rule(port.clone(), [test, count_drop()])
    });
    by_port.chain([rule(NOBODY, [count_drop()])]).collect()
}

/// The id of rules that stop a source address.
fn posing_ip(family: Family) -> &'static str {
    match family {
        Family::V4 => "posing-ipv4",
        Family::V6 => "posing-ipv6",
    }
}

/// Counts the reason, then the port.
pub(super) fn posed() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Goto(POSING.into()))]
}

fn in_port(set: &str) -> Vec<Expr> {
    vec![Expr::Meta { key: MetaKey::IifName, dreg: R0 }, lookup(&set.into(), false)]
}

/// Whether the pair of the port and what `load` puts behind its name is in the set.
pub(super) fn port_and(load: Expr, set: &str, negated: bool) -> Vec<Expr> {
    vec![Expr::Meta { key: MetaKey::IifName, dreg: R0 }, load, lookup(&set.into(), negated)]
}

fn load_type() -> Expr {
    Expr::Payload { base: PayloadBase::LinkLayer, offset: ETHER_TYPE_OFFSET, len: ETHER_TYPE_BYTES, dreg: R0 }
}

pub(super) fn is_type(kind: u16) -> Vec<Expr> {
    vec![load_type(), equals(kind.to_be_bytes())]
}

pub(super) fn frame_of(family: Family) -> Vec<Expr> {
    is_type(match family {
        Family::V4 => IPV4,
        Family::V6 => IPV6,
    })
}

fn source_mac(dreg: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::LinkLayer, offset: ETHER_SOURCE_OFFSET, len: MAC_BYTES, dreg }
}

fn to_reserved() -> Vec<Expr> {
    vec![
        Expr::Payload { base: PayloadBase::LinkLayer, offset: 0, len: MAC_BYTES, dreg: R0 },
        Expr::Bitwise { sreg: R0, dreg: R0, mask: RESERVED_MASK.to_vec(), xor: vec![0; 6] },
        equals(RESERVED),
    ]
}
