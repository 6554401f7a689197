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
        let Some(key) = problem.policy() else { continue };
        let reason = match problem {
            Problem::GroupIncomplete { .. } => reason::GROUP_INCOMPLETE,
            _ => reason::UNREADABLE,
        };
        found.entry(key).or_insert((reason, problem.to_string()));
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
