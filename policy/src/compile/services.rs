//! Ports of a rule, merged by protocol.

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::{End, NamedPort, PortMatch, PortRange, Service};
use crate::model::{Key, PortTerm, Ports};

/// Which packets of the judged endpoints a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To them: they are the destination, whose own profile resolves its named ports.
    Ingress,
    /// From them.
    Egress,
}

/// What the entries of one condition mean.
pub(crate) struct Entries {
    /// Those that need no group, by protocol.
    pub(crate) plain: Vec<Service>,
    /// Names that a group of ports resolves.
    pub(crate) names: BTreeSet<NamedPort>,
    /// Services whose backends are meant.
    pub(crate) backends: BTreeSet<Key>,
}

#[derive(Default)]
struct Merged {
    every: bool,
    ranges: Vec<PortRange>,
    names: BTreeSet<NamedPort>,
}

impl Entries {
    pub(crate) fn of(term: &PortTerm, direction: Direction) -> Self {
        let mut entries = Self { plain: Vec::new(), names: BTreeSet::new(), backends: BTreeSet::new() };
        let mut protocols: BTreeMap<u8, Merged> = BTreeMap::new();
        let mut icmp = BTreeSet::new();
        for entry in &term.ports {
            match entry {
                Ports::Protocol(protocol) => protocols.entry(*protocol).or_default().every = true,
                Ports::Range(protocol, range) if range.first <= range.last => {
                    protocols.entry(*protocol).or_default().ranges.push(*range);
                }
                Ports::Named(name) => {
                    protocols.entry(name.protocol).or_default().names.insert(name.clone());
                }
                Ports::Icmp(protocol, kind, code) => {
                    icmp.insert((*protocol, *kind, *code));
                }
                Ports::Backends(service) => {
                    entries.backends.insert(service.clone());
                }
                Ports::Range(..) | Ports::Nothing => {}
            }
        }
        for (protocol, merged) in protocols {
            entries.add(protocol, merged, term.end, direction);
        }
        let icmp = icmp.into_iter();
        entries.plain.extend(icmp.map(|(protocol, kind, code)| Service::Icmp {
            protocol,
            kind,
            code,
            negated: false,
        }));
        entries
    }

    pub(crate) fn without_names(self) -> Self {
        Self { names: BTreeSet::new(), ..self }
    }

    fn add(&mut self, protocol: u8, merged: Merged, end: End, direction: Direction) {
        let (mut source_ports, mut destination_ports) = (None, None);
        if !merged.every {
            let mut ports = PortMatch { ranges: merge(merged.ranges), ..PortMatch::default() };
            match (end, direction) {
                (End::Destination, Direction::Ingress) => ports.names.extend(merged.names),
                _ => self.names.extend(merged.names),
            }
            if ports.ranges.is_empty() && ports.names.is_empty() {
                return;
            }
            match end {
                End::Source => source_ports = Some(ports),
                End::Destination => destination_ports = Some(ports),
            }
        }
        self.plain.push(Service::Protocol { protocol, source_ports, destination_ports });
    }
}

/// The condition that a service does not match, as alternatives. It is asked of services that are not negated.
pub(crate) fn negation(service: &Service) -> Vec<Service> {
    let negated =
        |ports: &Option<PortMatch>| ports.clone().map(|ports| PortMatch { negated: !ports.negated, ..ports });
    match service {
        Service::Protocol { protocol, source_ports, destination_ports } => {
            let mut alternatives = vec![Service::NotProtocol(*protocol)];
            let protocol = *protocol;
            if let Some(source_ports) = negated(source_ports) {
                let source_ports = Some(source_ports);
                alternatives.push(Service::Protocol { protocol, source_ports, destination_ports: None });
            }
            if let Some(destination_ports) = negated(destination_ports) {
                let destination_ports = Some(destination_ports);
                alternatives.push(Service::Protocol { protocol, source_ports: None, destination_ports });
            }
            alternatives
        }
        Service::NotProtocol(protocol) => {
            vec![Service::Protocol { protocol: *protocol, source_ports: None, destination_ports: None }]
        }
        Service::Icmp { protocol, kind, code, negated } => {
            let (protocol, kind, code, negated) = (*protocol, *kind, *code, !negated);
            vec![Service::NotProtocol(protocol), Service::Icmp { protocol, kind, code, negated }]
        }
        Service::Group { group, end, negated } => {
            vec![Service::Group { group: *group, end: *end, negated: !negated }]
        }
    }
}

/// The same conditions in fewer: what one protocol decides is decided, and ports of both ends are one service. None where
/// they can't all hold.
pub(crate) fn simplify(mut conditions: Vec<Vec<Service>>) -> Option<Vec<Vec<Service>>> {
    if let Some(pinned) = conditions.iter().find_map(|any| pinned(any)) {
        for any in &mut conditions {
            any.retain(|service| possible(service, pinned));
        }
        // "Not that other protocol" holds by itself.
        conditions.retain(|any| !any.iter().any(|s| matches!(s, Service::NotProtocol(p) if *p != pinned)));
        let whole = Service::Protocol { protocol: pinned, source_ports: None, destination_ports: None };
        // The protocol as a whole is said once, by itself, and not at all beside what says it too.
        conditions.retain(|any| !any.contains(&whole));
        if !conditions.iter().any(|any| self::pinned(any) == Some(pinned)) {
            conditions.insert(0, vec![whole]);
        }
    }
    if conditions.iter().any(Vec::is_empty) {
        return None;
    }
    let mut simple: Vec<Vec<Service>> = Vec::with_capacity(conditions.len());
    for any in conditions {
        match simple.iter_mut().find_map(|other| Some((both(other, &any)?, other))) {
            Some((joined, other)) => *other = vec![joined],
            None => simple.push(any),
        }
    }
    simple.iter().all(|any| !any.iter().all(never)).then_some(simple)
}

/// Whether no packet passes a service, because no port is left.
fn never(service: &Service) -> bool {
    let none = |ports: &Option<PortMatch>| {
        ports
            .as_ref()
            .is_some_and(|ports| !ports.negated && ports.ranges.is_empty() && ports.names.is_empty())
    };
    matches!(service, Service::Protocol { source_ports, destination_ports, .. }
        if none(source_ports) || none(destination_ports))
}

/// The only protocol that passes a condition.
fn pinned(any: &[Service]) -> Option<u8> {
    let protocol = |service: &Service| match service {
        Service::Protocol { protocol, .. } | Service::Icmp { protocol, .. } => Some(*protocol),
        Service::NotProtocol(_) | Service::Group { .. } => None,
    };
    let first = protocol(any.first()?)?;
    any.iter().all(|service| protocol(service) == Some(first)).then_some(first)
}

/// Whether a packet of that protocol can pass a service.
fn possible(service: &Service, pinned: u8) -> bool {
    match service {
        Service::Protocol { protocol, .. } | Service::Icmp { protocol, .. } => *protocol == pinned,
        Service::NotProtocol(protocol) => *protocol != pinned,
        Service::Group { .. } => true,
    }
}

/// Two conditions of one service each as one, where they look at different ends or at numbers alone.
fn both(a: &[Service], b: &[Service]) -> Option<Service> {
    let [Service::Protocol { protocol, source_ports: a_source, destination_ports: a_destination }] = a else {
        return None;
    };
    let [Service::Protocol { protocol: other, source_ports: b_source, destination_ports: b_destination }] = b
    else {
        return None;
    };
    (protocol == other).then_some(())?;
    Some(Service::Protocol {
        protocol: *protocol,
        source_ports: intersection(a_source, b_source)?,
        destination_ports: intersection(a_destination, b_destination)?,
    })
}

/// None where it can't be said in one.
fn intersection(a: &Option<PortMatch>, b: &Option<PortMatch>) -> Option<Option<PortMatch>> {
    let (a, b) = match (a, b) {
        (None, other) | (other, None) => return Some(other.clone()),
        (Some(a), Some(b)) if a.names.is_empty() && b.names.is_empty() => (a, b),
        _ => return None,
    };
    let excluded = merge(outside(a).into_iter().chain(outside(b)).collect());
    let ports = PortMatch { negated: false, ranges: complement(&excluded), names: Vec::new() };
    Some((!excluded.is_empty()).then_some(ports))
}

/// The ports that do not match.
fn outside(ports: &PortMatch) -> Vec<PortRange> {
    if ports.negated { ports.ranges.clone() } else { complement(&ports.ranges) }
}

/// Every other port. The ranges are sorted and disjoint.
fn complement(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut left = Vec::new();
    let mut next = 0u32;
    for range in ranges {
        if let (Ok(first), Some(last)) = (u16::try_from(next), range.first.checked_sub(1))
            && first <= last
        {
            left.push(PortRange { first, last });
        }
        next = u32::from(range.last) + 1;
    }
    if let Ok(first) = u16::try_from(next) {
        left.push(PortRange { first, last: u16::MAX });
    }
    left
}

/// The same ports in the fewest ranges, sorted.
fn merge(mut ranges: Vec<PortRange>) -> Vec<PortRange> {
    ranges.sort_unstable();
    let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if u32::from(range.first) <= u32::from(last.last) + 1 => {
                last.last = last.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> Ports {
        Ports::Range(6, PortRange { first, last })
    }

    fn of(ports: &[Ports], direction: Direction) -> Entries {
        Entries::of(&PortTerm::any_of(ports.to_vec()), direction)
    }

    fn ranges(service: &Service) -> Vec<(u16, u16)> {
        match service {
            Service::Protocol { destination_ports: Some(ports), .. } => {
                ports.ranges.iter().map(|range| (range.first, range.last)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn merged(ports: &[Ports]) -> Vec<(u16, u16)> {
        ranges(&of(ports, Direction::Ingress).plain[0])
    }

    #[test]
    fn ranges_that_touch_or_overlap_merge() {
        assert_eq!(merged(&[range(82, 90), range(80, 81), range(85, 99)]), [(80, 99)]);
        assert_eq!(merged(&[range(80, 80), range(82, 82)]), [(80, 80), (82, 82)]);
        assert_eq!(merged(&[range(65535, 65535), range(0, 65535)]), [(0, 65535)]);
    }

    #[test]
    fn a_range_that_ends_before_it_starts_matches_nothing() {
        assert!(of(&[range(81, 80)], Direction::Ingress).plain.is_empty());
    }

    #[test]
    fn a_whole_protocol_covers_its_ports_and_names() {
        let name = NamedPort { protocol: 6, name: "web".into() };
        let entries = of(&[range(80, 80), Ports::Named(name), Ports::Protocol(6)], Direction::Egress);
        assert_eq!(entries.plain, [protocol(6)]);
        assert!(entries.names.is_empty());
    }

    fn protocol(protocol: u8) -> Service {
        Service::Protocol { protocol, source_ports: None, destination_ports: None }
    }

    fn destination(negated: bool, ports: &[(u16, u16)]) -> Service {
        let ranges = ports.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect();
        let ports = PortMatch { negated, ranges, names: vec![] };
        Service::Protocol { protocol: 6, source_ports: None, destination_ports: Some(ports) }
    }

    #[test]
    fn ports_without_others_are_one_service() {
        let not_81 = negation(&destination(false, &[(81, 81)]));
        let simple =
            simplify(vec![vec![protocol(6)], vec![destination(false, &[(80, 90)])], not_81]).unwrap();
        assert_eq!(simple.len(), 1, "{simple:?}");
        assert_eq!(ranges(&simple[0][0]), [(80, 80), (82, 90)]);
    }

    #[test]
    fn ports_of_which_none_is_left_match_nothing() {
        let not = |ports: &[(u16, u16)]| negation(&destination(false, ports));
        assert_eq!(simplify(vec![vec![destination(false, &[(80, 80)])], not(&[(0, 99)])]), None);
        assert_eq!(simplify(vec![vec![protocol(6)], not(&[(0, 65535)]), not(&[(80, 80)])]), None);
        let all = vec![vec![destination(false, &[(0, 65535)])], vec![destination(false, &[(0, 65535)])]];
        assert_eq!(simplify(all), Some(vec![vec![protocol(6)]]));
    }

    #[test]
    fn a_protocol_beside_an_alternative_is_not_widened_by_it() {
        let group =
            Service::Group { group: crate::compiled::GroupId(1), end: End::Destination, negated: false };
        let conditions = vec![vec![protocol(6), group], vec![protocol(6)]];
        assert_eq!(simplify(conditions), Some(vec![vec![protocol(6)]]));
    }

    #[test]
    fn one_protocol_rules_out_the_others() {
        assert_eq!(simplify(vec![vec![protocol(6)], vec![protocol(17)]]), None);
        assert_eq!(simplify(vec![vec![protocol(6)], vec![Service::NotProtocol(6)]]), None);
        let kept = vec![vec![protocol(6)]];
        assert_eq!(simplify(vec![vec![protocol(6)], vec![Service::NotProtocol(17)]]), Some(kept));
        assert_eq!(
            simplify(vec![vec![Service::NotProtocol(17)]]),
            Some(vec![vec![Service::NotProtocol(17)]])
        );
        assert_eq!(simplify(Vec::new()), Some(Vec::new()));
    }
}
