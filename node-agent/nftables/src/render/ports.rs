//! Conditions on protocol and ports.

use std::collections::{BTreeMap, BTreeSet};

use selvage_policy::compiled::{End, Family, NamedPort, PortMatch, PortRange, Service};

use super::Rendered;
use super::address::merge;
use super::expr::{
    ICMP, ICMPV6, R0, compare, key, load_port, load_transport, lookup, points, protocol, short_hash,
};
use crate::model::{CmpOp, Elements, Expr, KeyPart, MetaKey, Name, Set};

/// What a packet's protocol and ports must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ServiceTest {
    /// Only this family.
    pub(super) family: Option<Family>,
    /// What must hold of the transport header.
    pub(super) expressions: Vec<Expr>,
}

/// The endpoint's own named ports.
pub(super) type NamedPorts = BTreeMap<NamedPort, BTreeSet<u16>>;

/// Services with those joined that differ in their destination ports alone, so that ten ports make one rule.
pub(super) fn join(services: &[Service]) -> Vec<Service> {
    let mut joined: Vec<Service> = Vec::with_capacity(services.len());
    for service in services {
        let same = joined.iter_mut().find_map(|other| match (plain(other), plain(service)) {
            (Some(a), Some(b)) if a == b => Some(other),
            _ => None,
        });
        match (same, service) {
            (
                Some(Service::Protocol { destination_ports: into, .. }),
                Service::Protocol { destination_ports: more, .. },
            ) => match (into.as_mut(), more) {
                (Some(into), Some(more)) => {
                    into.ranges.extend(&more.ranges);
                    into.names.extend(more.names.iter().cloned());
                }
                _ => *into = None,
            },
            _ => joined.push(service.clone()),
        }
    }
    joined
}

/// The protocol of a service whose only other condition, if any, is on positive destination ports.
fn plain(service: &Service) -> Option<u8> {
    match service {
        Service::Protocol { protocol, source_ports: None, destination_ports } => {
            destination_ports.as_ref().is_none_or(|ports| !ports.negated).then_some(*protocol)
        }
        _ => None,
    }
}

/// The tests of a service, one of which must hold; none where no packet passes it. [`Service::Group`] is not decided
/// here, as it looks at the address too.
pub(super) fn service(service: &Service, names: &NamedPorts, output: &mut Rendered) -> Vec<ServiceTest> {
    let test = |family, parts: Vec<Vec<Expr>>| ServiceTest { family, expressions: parts.concat() };
    match service {
        Service::Protocol { protocol: number, source_ports, destination_ports } => {
            let mut parts = vec![protocol(*number)];
            let sides = [(source_ports, End::Source), (destination_ports, End::Destination)];
            for (ports, side) in sides.into_iter().filter_map(|(ports, side)| Some((ports.as_ref()?, side))) {
                match port_test(ports, *number, side, names, output) {
                    Some(part) => parts.push(part),
                    None => return Vec::new(),
                }
            }
            vec![test(icmp_family(*number), parts)]
        }
        Service::NotProtocol(number) => {
            let load = Expr::Meta { key: MetaKey::L4Proto, dreg: R0 };
            let own = icmp_family(*number);
            // What has ICMP's number in the other family is not ICMP.
            let other = own.map(|own| if own == Family::V4 { Family::V6 } else { Family::V4 });
            let mut tests = vec![test(own, vec![vec![load, compare([*number], CmpOp::Neq)]])];
            tests.extend(other.map(|other| test(Some(other), Vec::new())));
            tests
        }
        Service::Icmp { protocol: number, kind, code, negated } => {
            let kind_is = |op| vec![load_transport(0, 1), compare([*kind], op)];
            let code_is = |code: u8, op| vec![load_transport(1, 1), compare([code], op)];
            let ways = match (code, negated) {
                (None, false) => vec![vec![kind_is(CmpOp::Eq)]],
                (None, true) => vec![vec![kind_is(CmpOp::Neq)]],
                (Some(code), false) => vec![vec![kind_is(CmpOp::Eq), code_is(*code, CmpOp::Eq)]],
                (Some(code), true) => {
                    vec![vec![kind_is(CmpOp::Neq)], vec![kind_is(CmpOp::Eq), code_is(*code, CmpOp::Neq)]]
                }
            };
            let start = || std::iter::once(protocol(*number));
            let ways = ways.into_iter().map(|way| start().chain(way).collect());
            ways.map(|parts| test(icmp_family(*number), parts)).collect()
        }
        Service::Group { .. } => Vec::new(),
    }
}

/// Protocols whose headers have ports: TCP, UDP, SCTP.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Whether only packets of a protocol with ports pass a service.
pub(super) fn has_ports(service: &Service) -> bool {
    match service {
        Service::Protocol { protocol, .. } => WITH_PORTS.contains(protocol),
        Service::Group { negated, .. } => !negated,
        Service::NotProtocol(_) | Service::Icmp { .. } => false,
    }
}

/// The test that only packets of protocols without ports pass.
pub(super) fn without_ports() -> ServiceTest {
    let load = Expr::Meta { key: MetaKey::L4Proto, dreg: R0 };
    let others = WITH_PORTS.iter().map(|number| compare([*number], CmpOp::Neq));
    ServiceTest { family: None, expressions: std::iter::once(load).chain(others).collect() }
}

fn icmp_family(protocol: u8) -> Option<Family> {
    match protocol {
        ICMP => Some(Family::V4),
        ICMPV6 => Some(Family::V6),
        _ => None,
    }
}

/// The test of a port; None where no port passes it.
fn port_test(
    ports: &PortMatch,
    protocol: u8,
    side: End,
    names: &NamedPorts,
    output: &mut Rendered,
) -> Option<Vec<Expr>> {
    let named = ports.names.iter().filter(|name| name.protocol == protocol);
    let numbers =
        named.filter_map(|name| names.get(name)).flatten().map(|n| PortRange { first: *n, last: *n });
    let ranges = ports.ranges.iter().copied().chain(numbers);
    let ranges = merge(ranges.map(|range| (range.first.into(), range.last.into())).collect());
    let ranges: Vec<(u16, u16)> = ranges.into_iter().map(|(a, b)| (a as u16, b as u16)).collect();
    let load = load_port(side, R0);
    match (ranges.as_slice(), ports.negated) {
        ([], false) | ([(0, u16::MAX)], true) => None,
        // The port need not be looked at, but there must be one.
        ([], true) | ([(0, u16::MAX)], false) => Some(vec![load]),
        ([(first, last)], negated) if first == last => {
            let op = if negated { CmpOp::Neq } else { CmpOp::Eq };
            Some(vec![load, compare(first.to_be_bytes(), op)])
        }
        ([(first, last)], negated) => Some(vec![
            load,
            Expr::Range {
                sreg: R0,
                negated,
                from: first.to_be_bytes().to_vec(),
                to: last.to_be_bytes().to_vec(),
            },
        ]),
        (ranges, negated) => Some(vec![load, lookup(&port_set(ranges, output), negated)]),
    }
}

fn port_set(ranges: &[(u16, u16)], output: &mut Rendered) -> Name {
    let text: String = ranges.iter().map(|(first, last)| format!("{first}-{last}\n")).collect();
    let name: Name = format!("ports-{}", short_hash(text.as_bytes())).into();
    let as_key = |port: &u16| key(&[&port.to_be_bytes()]);
    let set = if ranges.iter().all(|(first, last)| first == last) {
        points(vec![KeyPart::Port], ranges.iter().filter_map(|(first, _)| as_key(first)))
    } else {
        let ranges = ranges.iter().filter_map(|(first, last)| Some((as_key(first)?, as_key(last)?)));
        Set { key: vec![KeyPart::Port], elements: Elements::Ranges(ranges.collect()), size: None }
    };
    output.add_set(&name, set);
    name
}
