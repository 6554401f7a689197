//! One rule as several that together mean the same, where a single one can't say it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Whole;
use super::group::GroupSpec;
use super::rules::Term;
use crate::compiled::End;
use crate::model::{self, Key, Peer, PeerTerm, PortTerm, Ports};

/// As many networks as a block and its exceptions may become: a policy of a few kilobytes must not become a NodePolicy that
/// is too large, for that holds up every other policy of the node.
const MANY: usize = 64;

/// One of the rules that a rule is: what it says, with more conditions on the addresses.
pub(super) struct Way {
    pub(super) rule: model::Rule,
    pub(super) source: Vec<Term>,
    pub(super) destination: Vec<Term>,
}

/// The rules that together mean what this one does.
pub(super) fn ways(rule: &model::Rule, whole: Whole<'_>) -> Vec<Way> {
    let rules = exceptions_apart(rule).unwrap_or_else(|| vec![rule.clone()]);
    let ways = rules.into_iter().map(|rule| Way { rule, source: Vec::new(), destination: Vec::new() });
    let mut ways: Vec<Way> = ways.collect();
    for (place, term) in rule.ports.iter().enumerate() {
        let whole = whole_backends(term, whole);
        if !whole.is_empty() {
            ways = ways.into_iter().flat_map(|way| way.every_port(place, term, &whole)).collect();
        }
    }
    ways
}

/// Services of a condition that have every port of a protocol, by that.
fn whole_backends(term: &PortTerm, whole: Whole<'_>) -> BTreeMap<u8, BTreeSet<Key>> {
    let mut found: BTreeMap<u8, BTreeSet<Key>> = BTreeMap::new();
    for entry in &term.ports {
        let Ports::Backends(service) = entry else { continue };
        for protocol in whole(service) {
            found.entry(protocol).or_default().insert(service.clone());
        }
    }
    found
}

impl Way {
    /// The condition at `place` also holds for every port of these backends: no group of ports has them as members, so
    /// that address and protocol are asked apart.
    fn every_port(self, place: usize, term: &PortTerm, whole: &BTreeMap<u8, BTreeSet<Key>>) -> Vec<Self> {
        let end = term.end;
        let inside = |protocol: u8, services: &BTreeSet<Key>| {
            let groups = services.iter().map(|service| GroupSpec::WholeBackends(service.clone(), protocol));
            Term::of_groups(term.negated, groups)
        };
        let of = |protocol| PortTerm { end, negated: term.negated, ports: vec![Ports::Protocol(protocol)] };
        if !term.negated {
            let also = whole.iter().map(|(protocol, services)| {
                let mut way = self.with(end, Some(inside(*protocol, services)), None);
                if let Some(term) = way.rule.ports.get_mut(place) {
                    *term = of(*protocol);
                }
                way
            });
            let also: Vec<Self> = also.collect();
            return std::iter::once(self).chain(also).collect();
        }
        let mut ways = vec![self];
        for (protocol, services) in whole {
            let not = |way: &Self| {
                [
                    way.with(end, Some(inside(*protocol, services)), None),
                    way.with(end, None, Some(of(*protocol))),
                ]
            };
            ways = ways.iter().flat_map(not).collect();
        }
        ways
    }

    fn with(&self, end: End, address: Option<Term>, ports: Option<PortTerm>) -> Self {
        let mut way = Self {
            rule: self.rule.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
        };
        way.rule.ports.extend(ports);
        match end {
            End::Source => way.source.extend(address),
            End::Destination => way.destination.extend(address),
        }
        way
    }
}

/// The rule as several that together mean the same, where a block has too many exceptions to be cut up: each such block
/// has a rule of its own, with the exceptions as a condition. None where there is no such block.
fn exceptions_apart(rule: &model::Rule) -> Option<Vec<model::Rule>> {
    let cut = |terms: &[PeerTerm]| {
        terms.iter().position(|term| !term.negated && term.peers.iter().any(has_many_exceptions))
    };
    let (end, place) = match cut(&rule.source.terms) {
        Some(place) => (End::Source, place),
        None => (End::Destination, cut(&rule.destination.terms)?),
    };
    let mut frame = rule.clone();
    let terms = |rule: &mut model::Rule| match end {
        End::Source => std::mem::take(&mut rule.source.terms),
        End::Destination => std::mem::take(&mut rule.destination.terms),
    };
    let mut others = terms(&mut frame);
    let (many, rest): (Vec<Peer>, Vec<Peer>) =
        others.remove(place).peers.into_iter().partition(has_many_exceptions);
    let of = |more: Vec<PeerTerm>| {
        let (mut rule, terms) = (frame.clone(), others.iter().cloned().chain(more).collect());
        match end {
            End::Source => rule.source.terms = terms,
            End::Destination => rule.destination.terms = terms,
        }
        exceptions_apart(&rule).unwrap_or_else(|| vec![rule])
    };
    let one = |negated, peers| PeerTerm { negated, peers };
    let mut rules = of(vec![one(false, rest)]);
    for peer in many {
        let Peer::Block { net, except } = peer else { continue };
        let block = |net| Peer::Block { net, except: Vec::new() };
        let except = except.into_iter().map(block).collect();
        rules.extend(of(vec![one(false, vec![block(net)]), one(true, except)]));
    }
    Some(rules)
}

/// Whether a block without its exceptions could be very many networks: up to one for each bit that an exception is longer.
fn has_many_exceptions(peer: &Peer) -> bool {
    let Peer::Block { net, except } = peer else { return false };
    let bits = |hole: &IpNet| usize::from(hole.prefix_len().saturating_sub(net.prefix_len()));
    except.iter().map(bits).sum::<usize>() > MANY
}
