//! What a frame says of addresses in ARP and neighbour discovery: whoever believes it sends what is meant for the address
//! to the MAC address that it names.

use std::net::{IpAddr, Ipv6Addr};

use selvage_policy::compiled::{End, Family};

use super::super::expr::{
    ICMPV6, R0, compare, equals, in_register_net, load_address, load_transport, lookup, protocol, rule,
    verdict,
};
use super::rules::{ARP, BEHIND_NAME, MAC_BYTES, frame_of, is_type, port_and, posed};
use super::{names, set};
use crate::model::{CmpOp, Expr, PayloadBase, Reg, Rule, Verdict};

/// Neighbour discovery of a bound port; falls through for whatever claims nothing that is another's.
pub(super) const NEIGHBOUR: &str = "neighbour";
/// The target of an advertisement, or of a question whether the address is taken.
const TARGET: &str = "target";
/// ARP of a bound port.
pub(super) const ARP_CLAIMS: &str = "arp";

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Where the target stands in both (RFC 4861, 4.3 and 4.4), and where their first option begins.
const TARGET_OFFSET: u32 = 8;
const OPTION_OFFSET: u32 = 24;
/// Source and target link-layer address, and where an option has it.
const LINK_LAYER_OPTIONS: (u8, u8) = (1, 2);
const OPTION_MAC: u32 = 2;
/// An ARP packet between Ethernet and IPv4 (RFC 826): hardware and protocol type and the lengths of their addresses.
const ARP_SHAPE: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_SENDER_MAC: u32 = 8;
const ARP_SENDER: u32 = 14;

pub(super) fn chains() -> [(&'static str, Vec<Rule>); 3] {
    [(NEIGHBOUR, neighbour()), (TARGET, target()), (ARP_CLAIMS, arp())]
}

fn neighbour() -> Vec<Rule> {
    let either = Expr::Range { sreg: R0, negated: false, from: vec![SOLICITATION], to: vec![ADVERTISEMENT] };
    let (first, last) = LINK_LAYER_OPTIONS;
    let option = vec![
        load_transport(OPTION_OFFSET, 1),
        Expr::Range { sreg: R0, negated: false, from: vec![first], to: vec![last] },
    ];
    let mac = Expr::Payload {
        base: PayloadBase::Transport,
        offset: OPTION_OFFSET + OPTION_MAC,
        len: MAC_BYTES,
        dreg: BEHIND_NAME,
    };
    let strange_mac = port_and(mac, names::MACS, true);
    let claims = || verdict(Verdict::Jump(TARGET.into()));
    let nobody = vec![load_address(End::Source, Family::V6, R0), equals([0; 16])];
    vec![
        rule("posing-nd", [icmpv6(), vec![load_transport(0, 1), either], option, strange_mac, posed()]),
        rule("advertises", [of_type(ADVERTISEMENT), claims()]),
        // From no address: whoever has it or is about to must give way (RFC 4862, 5.4).
        rule("asks-for-duplicates", [of_type(SOLICITATION), nobody, claims()]),
    ]
}

fn target() -> Vec<Rule> {
    let own = port_and(load_target(BEHIND_NAME), &set(names::BOUND, Family::V6), false);
    vec![
        rule("own-target", [icmpv6(), own, verdict(Verdict::Return)]),
        rule(
            "link-local-target",
            [icmpv6(), link_local_of_nobody(load_target(R0)), verdict(Verdict::Return)],
        ),
        rule("posing-nd", [posed()]),
    ]
}

fn arp() -> Vec<Rule> {
    let start = || is_type(ARP);
    let shape = vec![load_arp(0, 6, R0), compare(ARP_SHAPE, CmpOp::Neq)];
    let strange_mac = port_and(load_arp(ARP_SENDER_MAC, MAC_BYTES, BEHIND_NAME), names::MACS, true);
    let own = port_and(load_arp(ARP_SENDER, 4, BEHIND_NAME), &set(names::BOUND, Family::V4), false);
    let probe = vec![load_arp(ARP_SENDER, 4, R0), equals([0; 4])];
    vec![
        rule("posing-arp", [start(), shape, posed()]),
        rule("posing-arp", [start(), strange_mac, posed()]),
        rule("own-arp", [start(), own, verdict(Verdict::Accept)]),
        // Asks whether an address is taken, and claims none (RFC 5227, 1.1).
        rule("arp-probe", [start(), probe, verdict(Verdict::Accept)]),
        rule("posing-arp", [posed()]),
    ]
}

/// A port without a binding may ask whether an address is taken: a starting pod does.
pub(super) fn of_an_unbound_port() -> Vec<Rule> {
    let sender = vec![load_arp(ARP_SENDER, 4, R0), lookup(&set(names::KNOWN, Family::V4), false)];
    let target = vec![load_target(R0), lookup(&set(names::KNOWN, Family::V6), false)];
    vec![
        rule("posing-arp", [is_type(ARP), sender, posed()]),
        rule("posing-nd", [of_type(ADVERTISEMENT), target, posed()]),
    ]
}

/// The loaded address is link-local, and not one that follows from another's MAC address. A pod may make its own up,
/// so nobody can tell which are its.
pub(super) fn link_local_of_nobody(load: Expr) -> Vec<Expr> {
    let known = lookup(&set(names::KNOWN, Family::V6), true);
    let mut test = vec![load.clone(), known, load];
    test.extend(in_register_net(IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10, CmpOp::Eq));
    test
}

fn icmpv6() -> Vec<Expr> {
    [frame_of(Family::V6), protocol(ICMPV6)].concat()
}

fn of_type(kind: u8) -> Vec<Expr> {
    [icmpv6(), vec![load_transport(0, 1), equals([kind])]].concat()
}

fn load_target(dreg: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::Transport, offset: TARGET_OFFSET, len: 16, dreg }
}

fn load_arp(offset: u32, len: u32, dreg: Reg) -> Expr {
    Expr::Payload { base: PayloadBase::Network, offset, len, dreg }
}
