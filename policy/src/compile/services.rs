//! Ports of a rule, merged by protocol.

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::{NamedPort, PortMatch, PortRange, Service};
use crate::model::Ports;

/// What the ports of a rule mean.
pub(crate) struct Services {
    /// Conditions that need no look at the destination pod, by protocol.
    pub(crate) plain: Vec<Service>,
    /// Names that the destination pod resolves, when it is not the judged endpoint.
    pub(crate) named: BTreeSet<NamedPort>,
    /// There were ports, and none of them can match.
    pub(crate) nothing: bool,
}

/// Who resolves a port's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resolver {
    /// The judged endpoint (ingress).
    Endpoint,
    /// The peer (egress).
    Peer,
}

#[derive(Default)]
struct Merged {
    every: bool,
    ranges: Vec<PortRange>,
    names: BTreeSet<NamedPort>,
}

impl Services {
    pub(crate) fn of(ports: Option<&[Ports]>, resolver: Resolver) -> Self {
        let mut protocols: BTreeMap<u8, Merged> = BTreeMap::new();
        for entry in ports.unwrap_or_default() {
            match entry {
                Ports::Protocol(protocol) => protocols.entry(*protocol).or_default().every = true,
                Ports::Range(protocol, range) if range.first <= range.last => {
                    protocols.entry(*protocol).or_default().ranges.push(*range);
                }
                Ports::Named(name) => {
                    protocols.entry(name.protocol).or_default().names.insert(name.clone());
                }
                Ports::Range(..) | Ports::Icmp(..) | Ports::Backends(_) | Ports::Nothing => {}
            }
        }
        let nothing = ports.is_some() && protocols.is_empty();
        let mut services = Self { plain: Vec::new(), named: BTreeSet::new(), nothing };
        for (protocol, merged) in protocols {
            services.add(protocol, merged, resolver);
        }
        services
    }

    fn add(&mut self, protocol: u8, merged: Merged, resolver: Resolver) {
        let mut destination_ports = None;
        if !merged.every {
            let mut ports = PortMatch { ranges: merge(merged.ranges), ..PortMatch::default() };
            match resolver {
                Resolver::Endpoint => ports.names.extend(merged.names),
                Resolver::Peer => self.named.extend(merged.names),
            }
            if ports.ranges.is_empty() && ports.names.is_empty() {
                return;
            }
            destination_ports = Some(ports);
        }
        self.plain.push(Service::Protocol { protocol, source_ports: None, destination_ports });
    }
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

    fn ranges(ports: &[Ports]) -> Vec<(u16, u16)> {
        match Services::of(Some(ports), Resolver::Endpoint).plain.as_slice() {
            [Service::Protocol { destination_ports: Some(ports), .. }] => {
                ports.ranges.iter().map(|range| (range.first, range.last)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ranges_that_touch_or_overlap_merge() {
        assert_eq!(ranges(&[range(82, 90), range(80, 81), range(85, 99)]), [(80, 99)]);
        assert_eq!(ranges(&[range(80, 80), range(82, 82)]), [(80, 80), (82, 82)]);
        assert_eq!(ranges(&[range(65535, 65535), range(0, 65535)]), [(0, 65535)]);
    }

    #[test]
    fn a_range_that_ends_before_it_starts_matches_nothing() {
        assert!(Services::of(Some(&[range(81, 80)]), Resolver::Endpoint).nothing);
    }

    #[test]
    fn a_whole_protocol_covers_its_ports_and_names() {
        let name = NamedPort { protocol: 6, name: "web".into() };
        let services =
            Services::of(Some(&[range(80, 80), Ports::Named(name), Ports::Protocol(6)]), Resolver::Peer);
        let whole = Service::Protocol { protocol: 6, source_ports: None, destination_ports: None };
        assert_eq!(services.plain, [whole]);
        assert!(services.named.is_empty());
    }
}
