//! Rules of a policy: peers become nets and groups, ports become services.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::Whole;
use super::group::GroupSpec;
use super::nets::{merge, subtract};
use super::services::{self, Direction, Entries};
use super::ways::{Way, ways};
use crate::compiled::{AddressTerm, End, GroupId, NamedPort, Rule, Service};
use crate::model::{self, Peer, PeerTerm, PodSet, PortTerm};
use crate::selector::Selector;

/// Compiles rules of one policy and collects the groups that they name.
pub(crate) struct RuleCompiler<'a> {
    /// The endpoints that the policy selects.
    subject: &'a PodSet,
    whole: Whole<'a>,
    pub(crate) groups: BTreeMap<GroupId, GroupSpec>,
}

/// One condition on an address, its groups not named yet.
#[derive(Clone)]
pub(super) struct Term {
    negated: bool,
    nets: Vec<IpNet>,
    pods: BTreeSet<PodSet>,
    /// What is no pods.
    others: BTreeMap<GroupId, GroupSpec>,
}

/// Ports that a peer's pods resolve, beside those that need no look at them: one condition.
struct PeerNames {
    plain: Vec<Service>,
    names: BTreeSet<NamedPort>,
}

impl<'a> RuleCompiler<'a> {
    pub(crate) fn new(subject: &'a PodSet, whole: Whole<'a>) -> Self {
        Self { subject, whole, groups: BTreeMap::new() }
    }

    /// One compiled rule for each model rule; several where one can't say it, as for named ports of peers; none where it
    /// can match nothing.
    pub(crate) fn rules(&mut self, rules: &[model::Rule], direction: Direction) -> Vec<Rule> {
        let mut compiled = Vec::with_capacity(rules.len());
        for (index, rule) in (0..).zip(rules) {
            for way in ways(rule, self.whole) {
                // None: some condition can't hold.
                let _ = self.rule(index, way, direction, &mut compiled);
            }
        }
        compiled
    }

    fn rule(&mut self, index: u32, way: Way, direction: Direction, compiled: &mut Vec<Rule>) -> Option<()> {
        let rule = &way.rule;
        let (mut source, mut destination) = (terms(&rule.source)?, terms(&rule.destination)?);
        source.extend(way.source);
        destination.extend(way.destination);
        let one_positive = destination.iter().filter(|term| !term.negated).count() <= 1;
        let (mut conditions, mut by_name) = (Vec::new(), None);
        for term in &rule.ports {
            let entries = Entries::of(term, direction);
            let at_peer = term.end == End::Destination && direction == Direction::Egress;
            if at_peer && !term.negated && !entries.names.is_empty() && one_positive && by_name.is_none() {
                let names = entries.names.clone();
                by_name =
                    Some(PeerNames { plain: self.services(term, entries.without_names(), direction), names });
                continue;
            }
            let services = self.services(term, entries, direction);
            match term.negated {
                true => conditions.extend(services.iter().map(services::negation)),
                false => conditions.push(services),
            }
        }
        let source = self.address_terms(&source);
        let mut push = |services: Vec<Vec<Service>>, destination| {
            let Some(services) = services::simplify(services) else { return };
            let (action, family, source) = (rule.action, rule.family, source.clone());
            compiled.push(Rule { index, action, family, services, source, destination });
        };
        let with = |more: Vec<Service>| conditions.iter().cloned().chain([more]).collect();
        let Some(PeerNames { plain, names }) = by_name else {
            push(conditions, self.address_terms(&destination));
            return Some(());
        };
        if !plain.is_empty() {
            push(with(plain), self.address_terms(&destination));
        }
        // A member of a ports group says which pod, protocol and port: pods need no term on the address beside it.
        let (negated, positive): (Vec<Term>, Vec<Term>) =
            destination.into_iter().partition(|term| term.negated);
        let negated = self.address_terms(&negated);
        let everywhere = BTreeSet::from([PodSet::all()]);
        let Some(positive) = positive.into_iter().next() else {
            push(with(self.named(&everywhere, &names, End::Destination)), negated);
            return Some(());
        };
        if !positive.pods.is_empty() {
            push(with(self.named(&positive.pods, &names, End::Destination)), negated.clone());
        }
        let rest = Term { pods: BTreeSet::new(), ..positive };
        if !rest.is_empty() {
            let terms = self.address_terms(&[rest]).into_iter().chain(negated).collect();
            push(with(self.named(&everywhere, &names, End::Destination)), terms);
        }
        Some(())
    }

    /// What the entries of a condition mean, as alternatives.
    fn services(&mut self, term: &PortTerm, entries: Entries, direction: Direction) -> Vec<Service> {
        let judged = match direction {
            Direction::Ingress => End::Destination,
            Direction::Egress => End::Source,
        };
        let mut services = entries.plain;
        let pods = if term.end == judged { self.subject.clone().canonical() } else { Some(PodSet::all()) };
        services.extend(self.named(&pods.into_iter().collect(), &entries.names, term.end));
        for service in entries.backends {
            let group = self.group(GroupSpec::PortsOfBackends(service));
            services.push(Service::Group { group, end: term.end, negated: false });
        }
        services
    }

    fn address_terms(&mut self, terms: &[Term]) -> Vec<AddressTerm> {
        let term = |term: &Term| {
            let pods = term.pods.iter().cloned().map(GroupSpec::Pods);
            let specs: Vec<GroupSpec> = pods.chain(term.others.values().cloned()).collect();
            let groups: BTreeSet<GroupId> = specs.into_iter().map(|spec| self.group(spec)).collect();
            AddressTerm {
                negated: term.negated,
                nets: term.nets.clone(),
                groups: groups.into_iter().collect(),
            }
        };
        terms.iter().map(term).collect()
    }

    /// Groups of ports that these pods give one of these names.
    fn named(&mut self, pods: &BTreeSet<PodSet>, names: &BTreeSet<NamedPort>, end: End) -> Vec<Service> {
        if names.is_empty() {
            return Vec::new();
        }
        let specs = pods.iter().map(|pods| GroupSpec::PortsOfPods(pods.clone(), names.clone()));
        let groups: BTreeSet<GroupId> = specs.map(|spec| self.group(spec)).collect();
        groups.into_iter().map(|group| Service::Group { group, end, negated: false }).collect()
    }

    fn group(&mut self, spec: GroupSpec) -> GroupId {
        let id = spec.id();
        self.groups.entry(id).or_insert(spec);
        id
    }
}

/// The conditions on one end, without those that always hold; None where one can't hold.
fn terms(entity: &model::Entity) -> Option<Vec<Term>> {
    let mut terms = Vec::with_capacity(entity.terms.len());
    for term in &entity.terms {
        let term = Term::of(term);
        match (term.is_empty(), term.negated) {
            (true, false) => return None,
            (true, true) => {}
            (false, _) => terms.push(term),
        }
    }
    Some(terms)
}

impl Term {
    /// Addresses of one of these groups, or of none of them.
    pub(super) fn of_groups(negated: bool, groups: impl IntoIterator<Item = GroupSpec>) -> Self {
        let others = groups.into_iter().map(|spec| (spec.id(), spec)).collect();
        Self { negated, nets: Vec::new(), pods: BTreeSet::new(), others }
    }

    fn of(term: &PeerTerm) -> Self {
        let mut nets = Vec::new();
        let (mut pods, mut others) = (BTreeSet::new(), BTreeMap::new());
        for peer in &term.peers {
            let other = match peer {
                Peer::Block { net, except } => {
                    nets.extend(subtract(*net, except));
                    None
                }
                Peer::Pods(set) => {
                    pods.extend(set.clone().canonical());
                    None
                }
                Peer::Sets(sets) => sets.clone().canonical().map(GroupSpec::Sets),
                Peer::Backends(service) => Some(GroupSpec::Backends(service.clone())),
                Peer::Nodes(selector) => {
                    let selector = selector.clone().canonical();
                    (selector != Selector::nothing()).then_some(GroupSpec::Nodes(selector))
                }
                Peer::Nothing => None,
            };
            others.extend(other.map(|spec| (spec.id(), spec)));
        }
        Self { negated: term.negated, nets: merge(nets), pods, others }
    }

    fn is_empty(&self) -> bool {
        self.nets.is_empty() && self.pods.is_empty() && self.others.is_empty()
    }
}
