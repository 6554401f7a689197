//! The fixed part: the guard and the base chains that dispatch by address.
//!
//! Every rule that closes a hole has an id of its own, so that tests can take it out and show the hole.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use selvage_policy::compiled::{End, Family};

use super::expr::{
    ICMPV6, IPIP, R0, UDP, address_registers, compare, count_drop, equals, family, in_net, interface_names,
    is_interface_name, load_address, load_port, load_transport, lookup, protocol, rule, verdict,
};
use super::{Direction, LocalFacts, Problem, Rendered, Settings, UnknownPods};
use crate::model::{
    BaseChain, Chain, ChainKind, CmpOp, CtKey, Expr, Hook, MetaKey, Name, PayloadBase, Reg, Rule, Verdict,
};

/// Names of the fixed chains and sets.
pub(super) mod names {
    use selvage_policy::compiled::Family;

    use super::super::Direction;
    use super::super::expr::family_digit;
    use crate::model::Name;

    pub(in super::super) fn own(family: Family) -> Name {
        format!("own{}", family_digit(family)).into()
    }

    pub(in super::super) fn pairs(family: Family) -> Name {
        format!("own-pairs{}", family_digit(family)).into()
    }

    pub(in super::super) fn owners(family: Family) -> Name {
        format!("owners{}", family_digit(family)).into()
    }

    pub(in super::super) fn map(direction: Direction, family: Family) -> Name {
        format!("{direction}{}", family_digit(family)).into()
    }

    pub(super) const PODS: &str = "pod-interfaces";
    pub(super) const GUARD: &str = "guard";
    pub(super) const NEIGHBOUR: &str = "neighbour";
    pub(super) const FROM_POD: &str = "from_pod";
    pub(super) const TO_POD: &str = "to_pod";
    pub(super) const FROM_POD_LOCAL: &str = "from_pod_local";
}

/// NF_IP_PRI_RAW: before conntrack, after defragmentation.
const RAW: i32 = -300;
/// IPv6 neighbour discovery is only true from the link itself (RFC 4861, 6.1 and 7.1).
const ND_HOP_LIMIT: u8 = 255;
/// MLD never leaves the link (RFC 3810, 5).
const MLD_HOP_LIMIT: u8 = 1;
/// Destination ports of VXLAN: Linux's own, which flannel uses, and IANA's.
const VXLAN_PORTS: [(u16, &str); 2] = [(8472, "guard-vxlan-linux"), (4789, "guard-vxlan-iana")];
/// RTN_BROADCAST.
const RTN_BROADCAST: u32 = 3;
/// NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF, and NFTA_FIB_F_DADDR.
const FIB_SOURCE_IIF: u32 = 1 | 8;
const FIB_DESTINATION: u32 = 2;
/// NFT_FIB_RESULT_OIF and NFT_FIB_RESULT_ADDRTYPE.
const FIB_OIF: u32 = 1;
const FIB_TYPE: u32 = 3;
/// NF_CT_STATE_BIT of established and related.
const ESTABLISHED_RELATED: u32 = 2 | 4;
/// IPS_DST_NAT.
const DST_NAT: u32 = 32;

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The guard, the base chains and the set of pod-side interfaces.
pub(super) fn render(facts: &LocalFacts, settings: &Settings, output: &mut Rendered) {
    interfaces(facts, output);
    neighbour(output);
    guard(settings, output);
    for way in WAYS {
        chain(&way, true, settings, output);
    }
}

/// The base chains as they stand before anything is known: only what is established passes the pod side.
pub(super) fn closed(facts: &LocalFacts, settings: &Settings, output: &mut Rendered) {
    interfaces(facts, output);
    neighbour(output);
    for way in WAYS {
        chain(&way, false, settings, output);
    }
}

/// One of the base chains that judge.
struct Way {
    name: &'static str,
    hook: Hook,
    priority: i32,
    direction: Direction,
    /// A pod may reach itself through a Service; only forwarded packets do.
    hairpin: bool,
}

const WAYS: [Way; 3] = [
    Way {
        name: names::FROM_POD,
        hook: Hook::Forward,
        priority: 0,
        direction: Direction::Egress,
        hairpin: true,
    },
    Way {
        name: names::TO_POD,
        hook: Hook::Forward,
        priority: 1,
        direction: Direction::Ingress,
        hairpin: true,
    },
    Way {
        name: names::FROM_POD_LOCAL,
        hook: Hook::Input,
        priority: 0,
        direction: Direction::Egress,
        hairpin: false,
    },
];

fn interfaces(facts: &LocalFacts, output: &mut Rendered) {
    let (good, bad): (Vec<_>, Vec<_>) = facts.pod_interfaces.iter().partition(|name| is_interface_name(name));
    output.problems.extend(bad.into_iter().map(|name| Problem::InterfaceName { name: name.clone() }));
    output.add_set(&names::PODS.into(), interface_names(good));
}

fn on_pod_side(key: MetaKey, negated: bool) -> Vec<Expr> {
    vec![Expr::Meta { key, dreg: R0 }, lookup(&names::PODS.into(), negated)]
}

fn icmpv6_types(from: u8, to: u8) -> Vec<Expr> {
    let test = match from == to {
        true => equals([from]),
        false => Expr::Range { sreg: R0, negated: false, from: vec![from], to: vec![to] },
    };
    vec![load_transport(0, 1), test]
}

fn hop_limit(value: u8) -> Vec<Expr> {
    vec![Expr::Payload { base: PayloadBase::Network, offset: 7, len: 1, dreg: R0 }, equals([value])]
}

/// Neighbour discovery and MLD, which every link needs; falls through for anything else.
fn neighbour(output: &mut Rendered) {
    let chain: Name = names::NEIGHBOUR.into();
    output.add_chain(&chain, Chain::default());
    let start = || [family(Family::V6), protocol(ICMPV6)];
    // Router solicitation; neighbour solicitation and advertisement.
    for (from, to) in [(133, 133), (135, 136)] {
        let parts = start().into_iter().chain([
            icmpv6_types(from, to),
            hop_limit(ND_HOP_LIMIT),
            verdict(Verdict::Accept),
        ]);
        output.add_rule(&chain, rule("neighbour-discovery", parts));
    }
    // MLD queries, reports and done; version 2 reports. A host that has no address yet reports from `::`.
    let link_local = (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
    for (from, to) in [(130, 132), (143, 143)] {
        for (net, prefix) in [link_local, (Ipv6Addr::UNSPECIFIED, 128)] {
            let parts = start().into_iter().chain([
                icmpv6_types(from, to),
                hop_limit(MLD_HOP_LIMIT),
                in_net(End::Source, net.into(), prefix, CmpOp::Eq),
                verdict(Verdict::Accept),
            ]);
            output.add_rule(&chain, rule("multicast-listener", parts));
        }
    }
}

fn jump_neighbour() -> Rule {
    let parts = [family(Family::V6), protocol(ICMPV6), verdict(Verdict::Jump(names::NEIGHBOUR.into()))];
    rule("neighbour", parts)
}

/// What no pod may send, whatever policies say, and before conntrack sees it.
fn guard(settings: &Settings, output: &mut Rendered) {
    let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: RAW, drop: false };
    let mut rules = vec![
        rule("not-from-pod", [on_pod_side(MetaKey::IifName, true), verdict(Verdict::Accept)]),
        jump_neighbour(),
    ];
    // Router advertisement and redirect.
    for (kind, id) in [(134, "guard-router"), (137, "guard-redirect")] {
        rules.push(rule(id, [family(Family::V6), protocol(ICMPV6), icmpv6_types(kind, kind), count_drop()]));
    }
    rules.extend(guard_destination());
    rules.extend(guard_source(settings));
    for (port, id) in VXLAN_PORTS {
        let port = vec![load_port(End::Destination, R0), equals(port.to_be_bytes())];
        rules.push(rule(id, [protocol(UDP), port, count_drop()]));
    }
    rules.push(rule("guard-ipip", [protocol(IPIP), count_drop()]));
    output.add_chain(&names::GUARD.into(), Chain { base: Some(base), rules: rules.into() });
}

/// Broadcast and multicast, by frame and by address: a frame to one neighbour can carry a packet to all.
fn guard_destination() -> Vec<Rule> {
    let frame = vec![
        Expr::Meta { key: MetaKey::PktType, dreg: R0 },
        Expr::Range { sreg: R0, negated: false, from: vec![1], to: vec![2] },
    ];
    let to = |address: IpAddr, prefix| in_net(End::Destination, address, prefix, CmpOp::Eq);
    let fib = vec![
        Expr::Fib { flags: FIB_DESTINATION, result: FIB_TYPE, dreg: R0 },
        equals(RTN_BROADCAST.to_ne_bytes()),
    ];
    let multicast4 = to(Ipv4Addr::new(224, 0, 0, 0).into(), 4);
    let multicast6 = to(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8);
    vec![
        rule("guard-frame", [frame, count_drop()]),
        rule("guard-multicast", [family(Family::V4), multicast4, count_drop()]),
        rule("guard-multicast", [family(Family::V6), multicast6, count_drop()]),
        rule("guard-broadcast", [family(Family::V4), to(Ipv4Addr::BROADCAST.into(), 32), count_drop()]),
        rule("guard-broadcast", [fib, count_drop()]),
    ]
}

/// Sources that are no endpoint's. Where unknown pods are open, a source must at least be routed to where it comes
/// from, which link-local addresses always are.
fn guard_source(settings: &Settings) -> Vec<Rule> {
    let unrouted = vec![Expr::Fib { flags: FIB_SOURCE_IIF, result: FIB_OIF, dreg: R0 }, equals([0; 4])];
    let mut rules = Vec::new();
    if settings.unknown_pods == UnknownPods::Open {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);
        let test = in_net(End::Source, link_local.into(), 10, CmpOp::Eq);
        rules.push(rule("guard-source", [family(Family::V6), test, count_drop()]));
    }
    for which in FAMILIES {
        let stranger = vec![load_address(End::Source, which, R0), lookup(&names::own(which), true)];
        let routed = match settings.unknown_pods {
            UnknownPods::Closed => Vec::new(),
            UnknownPods::Open => unrouted.clone(),
        };
        rules.push(rule("guard-source", [family(which), stranger, routed, count_drop()]));
    }
    rules
}

fn chain(way: &Way, dispatch: bool, settings: &Settings, output: &mut Rendered) {
    let base = BaseChain { kind: ChainKind::Filter, hook: way.hook, priority: way.priority, drop: false };
    let mut rules = vec![
        rule("established", [ct_bits(CtKey::State, ESTABLISHED_RELATED), verdict(Verdict::Accept)]),
        jump_neighbour(),
    ];
    if dispatch {
        if way.hairpin {
            rules.extend(FAMILIES.map(hairpin));
        }
        let side = match way.direction {
            Direction::Egress => End::Source,
            Direction::Ingress => End::Destination,
        };
        rules.extend(FAMILIES.map(|which| {
            let map = Expr::VerdictMap { map: names::map(way.direction, which), sreg: R0 };
            rule("dispatch", [family(which), vec![load_address(side, which, R0), map]])
        }));
    }
    if settings.unknown_pods == UnknownPods::Closed {
        let key = match way.direction {
            Direction::Egress => MetaKey::IifName,
            Direction::Ingress => MetaKey::OifName,
        };
        rules.push(rule("unknown-pod", [on_pod_side(key, false), count_drop()]));
    }
    output.add_chain(&way.name.into(), Chain { base: Some(base), rules: rules.into() });
}

fn ct_bits(key: CtKey, bits: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key, dreg: R0 },
        Expr::Bitwise { sreg: R0, dreg: R0, mask: bits.to_ne_bytes().to_vec(), xor: vec![0; 4] },
        compare([0; 4], CmpOp::Neq),
    ]
}

/// A pod that reaches itself through a Service. Without the NAT bit a neighbour could forge the pair.
fn hairpin(which: Family) -> Rule {
    let pair = vec![
        load_address(End::Source, which, R0),
        load_address(End::Destination, which, Reg(address_registers(which))),
        lookup(&names::pairs(which), false),
    ];
    let parts = [family(which), ct_bits(CtKey::Status, DST_NAT), pair, verdict(Verdict::Accept)];
    rule("hairpin", parts)
}
