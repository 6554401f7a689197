//! Rules of a policy: peers become nets and groups, ports become services.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::group::GroupSpec;
use super::nets::{merge, subtract};
use super::services::{Resolver, Services};
use crate::compiled::{self, AddressTerm, GroupId, NamedPort, Rule, Service};
use crate::model::{self, Peer, PodSet};

/// Compiles rules of one policy and collects the groups that they name.
#[derive(Default)]
pub(crate) struct RuleCompiler {
    pub(crate) groups: BTreeMap<GroupId, GroupSpec>,
}

/// One end of a rule, taken apart.
struct End {
    nets: Vec<IpNet>,
    pods: Vec<PodSet>,
}

impl RuleCompiler {
    /// One compiled rule for each model rule, or two or three where named ports of peers need them; none where it
    /// can match nothing.
    pub(crate) fn rules(&mut self, rules: &[model::Rule], resolver: Resolver) -> Vec<Rule> {
        let mut compiled = Vec::with_capacity(rules.len());
        for rule in rules {
            self.rule(rule, resolver, &mut compiled);
        }
        compiled
    }

    fn rule(&mut self, rule: &model::Rule, resolver: Resolver, compiled: &mut Vec<Rule>) {
        let ports: Option<&[model::Ports]> = match rule.ports.as_slice() {
            [] => None,
            [term] if !term.negated && term.end == compiled::End::Destination => Some(&term.ports),
            _ => return,
        };
        let Services { plain, named, nothing } = Services::of(ports, resolver);
        let (source, destination) = (End::of(&rule.source), End::of(&rule.destination));
        if nothing || [&source, &destination].into_iter().flatten().any(End::is_empty) {
            return;
        }
        let source: Vec<AddressTerm> = source.iter().map(|end| self.term(end)).collect();
        let mut push = |services: Vec<Service>, destination| {
            let (action, family, source) = (rule.action, rule.family, source.clone());
            let services = if services.is_empty() { Vec::new() } else { vec![services] };
            compiled.push(Rule { action, family, services, source, destination });
        };
        if named.is_empty() || !plain.is_empty() {
            push(plain, destination.iter().map(|end| self.term(end)).collect());
        }
        if named.is_empty() {
            return;
        }
        // A member of a ports group says which pod, protocol and port: pods need no term on the address beside it.
        let Some(End { nets, pods }) = destination else {
            push(self.ports(&[PodSet::all()], &named), Vec::new());
            return;
        };
        if !pods.is_empty() {
            push(self.ports(&pods, &named), Vec::new());
        }
        if !nets.is_empty() {
            let term = AddressTerm { negated: false, nets, groups: Vec::new() };
            push(self.ports(&[PodSet::all()], &named), vec![term]);
        }
    }

    fn term(&mut self, end: &End) -> AddressTerm {
        let specs = end.pods.iter().map(|pods| GroupSpec { pods: pods.clone(), port: None });
        let groups: BTreeSet<GroupId> = specs.map(|spec| self.group(spec)).collect();
        AddressTerm { negated: false, nets: end.nets.clone(), groups: groups.into_iter().collect() }
    }

    fn ports(&mut self, pods: &[PodSet], names: &BTreeSet<NamedPort>) -> Vec<Service> {
        let mut groups = BTreeSet::new();
        for pods in pods {
            for name in names {
                groups.insert(self.group(GroupSpec { pods: pods.clone(), port: Some(name.clone()) }));
            }
        }
        let service = |group| Service::Group { group, end: compiled::End::Destination, negated: false };
        groups.into_iter().map(service).collect()
    }

    fn group(&mut self, spec: GroupSpec) -> GroupId {
        let id = spec.id();
        self.groups.entry(id).or_insert(spec);
        id
    }
}

impl End {
    /// None means any address.
    fn of(entity: &model::Entity) -> Option<Self> {
        let mut nets = Vec::new();
        let mut pods = BTreeSet::new();
        for peer in entity.terms.first().map(|term| &term.peers)? {
            match peer {
                Peer::Block { net, except } => nets.extend(subtract(*net, except)),
                Peer::Pods(set) => pods.extend(set.clone().canonical()),
                Peer::Sets(_) | Peer::Backends(_) | Peer::Nodes(_) | Peer::Nothing => {}
            }
        }
        Some(Self { nets: merge(nets), pods: pods.into_iter().collect() })
    }

    fn is_empty(&self) -> bool {
        self.nets.is_empty() && self.pods.is_empty()
    }
}
