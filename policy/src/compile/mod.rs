//! From a policy of the model to what endpoints share: rules without labels, and the groups that they name.
//!
//! A policy compiles from itself alone, and from the protocols of which the Services that it names have every port. What
//! else changes with the cluster are the members of its groups and the set of endpoints that it selects.

pub(crate) mod group;
pub(crate) mod nets;
pub(crate) mod profile;
mod rules;
mod services;
mod ways;

use std::collections::{BTreeMap, BTreeSet};

use crate::compiled::{self, Action, End, GroupId, NamedPort};
use crate::model::{self, Key, Ports};
use group::GroupSpec;
use rules::RuleCompiler;
use services::Direction;

/// A policy's rules and what they need.
pub(crate) struct Compiled {
    pub(crate) policy: compiled::Policy,
    /// Every group that the rules name.
    pub(crate) groups: BTreeMap<GroupId, GroupSpec>,
    /// Names of destination ports in the ingress rules, which the judged endpoint resolves.
    pub(crate) names: Box<[NamedPort]>,
}

/// The protocols of which some backend of a Service has every port.
pub(crate) type Whole<'a> = &'a dyn Fn(&Key) -> BTreeSet<u8>;

/// Compiles a policy's rules.
pub(crate) fn compile(policy: &model::Policy, whole: Whole<'_>) -> Compiled {
    let mut rules = RuleCompiler::new(&policy.subject, whole);
    let ingress = policy.ingress.as_deref().unwrap_or_default();
    let egress = policy.egress.as_deref().unwrap_or_default();
    let terms = ingress.iter().flat_map(|rule| &rule.ports).filter(|term| term.end == End::Destination);
    let names: BTreeSet<NamedPort> = terms.flat_map(|term| &term.ports).filter_map(named).collect();
    let policy = compiled::Policy {
        uid: policy.uid.clone(),
        generation: policy.generation,
        ingress: rules.rules(ingress, Direction::Ingress),
        egress: rules.rules(egress, Direction::Egress),
    };
    Compiled { policy, groups: rules.groups, names: names.into_iter().collect() }
}

/// Whether a policy's rules make its tier count in their direction: those that do nothing but log do not.
pub(crate) fn counts(rules: &[model::Rule]) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.action != Action::Log)
}

fn named(ports: &Ports) -> Option<NamedPort> {
    match ports {
        Ports::Named(name) => Some(name.clone()),
        _ => None,
    }
}
