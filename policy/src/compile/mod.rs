//! From a policy of the model to what endpoints share: rules without labels, and the groups that they name.
//!
//! A policy compiles from itself alone. What changes with the cluster are the members of its groups and the set of
//! endpoints that it selects.

pub(crate) mod group;
mod nets;
pub(crate) mod profile;
mod rules;
mod services;

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::{self, GroupId, NamedPort};
use crate::model::{self, Ports};
use group::GroupSpec;
use rules::RuleCompiler;
use services::Resolver;

/// A policy's rules and what they need.
pub(crate) struct Compiled {
    pub(crate) policy: compiled::Policy,
    /// Every group that the rules name.
    pub(crate) groups: BTreeMap<GroupId, GroupSpec>,
    /// Names in the ingress rules, which the judged endpoint resolves.
    pub(crate) names: Box<[NamedPort]>,
}

/// Compiles a policy's rules.
pub(crate) fn compile(policy: &model::Policy) -> Compiled {
    let mut rules = RuleCompiler::default();
    let ingress = policy.ingress.as_deref().unwrap_or_default();
    let egress = policy.egress.as_deref().unwrap_or_default();
    let names: BTreeSet<NamedPort> =
        ingress.iter().flat_map(|rule| &rule.ports).flat_map(|term| &term.ports).filter_map(named).collect();
    let policy = compiled::Policy {
        uid: policy.uid.clone(),
        generation: policy.generation,
        ingress: rules.rules(ingress, Resolver::Endpoint),
        egress: rules.rules(egress, Resolver::Peer),
    };
    Compiled { policy, groups: rules.groups, names: names.into_iter().collect() }
}

fn named(ports: &Ports) -> Option<NamedPort> {
    match ports {
        Ports::Named(name) => Some(name.clone()),
        _ => None,
    }
}
