//! Which policies do not stand as they should.

use std::collections::{BTreeMap, BTreeSet};

use selvage_crds::conditions::reason;
use selvage_crds::node_policy::{NotProgrammed, PolicyRef};
use selvage_nftables::render::Problem;
use selvage_policy::compiled::{GroupId, NodePolicy, PolicyKey, Rule, Service};

use crate::watch::assembler::Place;
use crate::watch::groups::GroupView;

/// The policies, each once, with the first reason found.
pub(super) fn list(
    policy: &NodePolicy,
    groups: &GroupView,
    problems: &BTreeSet<Problem>,
) -> Vec<NotProgrammed> {
    let mut found: BTreeMap<&PolicyKey, (&'static str, String)> = BTreeMap::new();
    for problem in problems {
        let reason = match problem {
            Problem::GroupIncomplete { .. } => reason::GROUP_INCOMPLETE,
            _ => reason::UNREADABLE,
        };
        for key in concerned(policy, problem) {
            found.entry(key).or_insert((reason, problem.to_string()));
        }
    }
    for (group, slice, error) in unreadable_slices(policy, groups) {
        for (key, rules) in &policy.policies {
            if rules.ingress.iter().chain(&rules.egress).any(|rule| names(rule, group)) {
                let message = format!("address group slice {slice}: {error}");
                found.entry(key).or_insert((reason::UNREADABLE, message));
            }
        }
    }
    found
        .into_iter()
        .map(|(key, (reason, message))| NotProgrammed {
            policy: PolicyRef::from(key),
            reason: reason.to_owned(),
            message: message.chars().take(1024).collect(),
        })
        .collect()
}

/// The policies that are not enforced as meant. Where an endpoint is closed these are all that select it; where it
/// can't be told which do, all that there are.
fn concerned<'a>(policy: &'a NodePolicy, problem: &'a Problem) -> BTreeSet<&'a PolicyKey> {
    let profile = match problem {
        Problem::GroupIncomplete { policy, .. }
        | Problem::GroupKind { policy, .. }
        | Problem::PolicyMissing { policy } => return [policy].into(),
        Problem::TooManyTiers { profile } => policy.profiles.get(profile),
        Problem::ProfileMissing { endpoint }
        | Problem::AddressUnusable { endpoint, .. }
        | Problem::AddressShared { endpoint, .. } => {
            let endpoint = policy.endpoints.get(endpoint);
            endpoint.and_then(|endpoint| policy.profiles.get(&endpoint.profile))
        }
        Problem::InterfaceName { .. } => None,
    };
    match profile {
        Some(profile) => {
            let steps = profile.ingress.iter().chain(&profile.egress);
            steps.flat_map(|step| &step.policies).collect()
        }
        None => policy.policies.keys().collect(),
    }
}

/// Unreadable slices (group, object name, error) of groups that the policy names.
pub(super) fn unreadable_slices<'a>(
    policy: &NodePolicy,
    groups: &'a GroupView,
) -> Vec<(GroupId, &'a str, &'a str)> {
    groups
        .unreadable
        .iter()
        .filter_map(|(name, error)| Some((Place::parse(name)?.group, &**name, &**error)))
        .filter(|(group, ..)| policy.groups.contains(group))
        .collect()
}

fn names(rule: &Rule, group: GroupId) -> bool {
    let in_terms = rule.source.iter().chain(&rule.destination).any(|term| term.groups.contains(&group));
    in_terms
        || rule
            .services
            .iter()
            .flatten()
            .any(|service| matches!(service, Service::Group { group: g, .. } if *g == group))
}

#[cfg(test)]
mod tests;
