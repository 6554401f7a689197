//! What conditions should say.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use selvage_crds::conditions::{self, Status, Wanted, reason};
use selvage_crds::network_policy_status::{MAX_NODES, NodeCounts, NodeDetail, PolicyStatus};
use selvage_crds::policy_uses::{MAX_POLICIES, PolicyUses};
use selvage_policy::compiled::PolicyKey;

use super::node::Standing;
use crate::convert::{Issue, Reason};

/// A node's own limit of what a detail says.
const MAX_DETAIL: usize = 1024;

/// What a policy's status is made from.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The policy's generation.
    pub generation: i64,
    /// Whether it is enforced at all.
    pub enforced: bool,
    /// The tier that it names and that does not exist, which is why it is not enforced.
    pub missing_tier: Option<&'a str>,
    /// What is not enforced as written.
    pub issues: &'a [Issue],
    /// How many endpoints it selects.
    pub endpoints: usize,
    /// Its nodes, by name.
    pub nodes: &'a [(Arc<str>, Standing)],
}

/// What a condition should say: status, reason, message.
pub type Judgement = (Status, &'static str, String);

/// The status that these facts make of an older one; None where it says so already.
pub fn status(facts: &Facts<'_>, before: &PolicyStatus, now: &Time) -> Option<PolicyStatus> {
    let mut after = before.clone();
    let (accepted, programmed) = (accepted(facts), programmed(facts));
    judge(&mut after.conditions, facts.generation, accepted, programmed, now);
    after.observed_generation = Some(facts.generation);
    after.nodes = counts(facts.nodes);
    after.endpoints = number(facts.endpoints);
    (after != *before).then_some(after)
}

/// Sets the two conditions that every kind has.
pub fn judge(
    conditions: &mut Vec<Condition>,
    generation: i64,
    accepted: Judgement,
    programmed: Judgement,
    now: &Time,
) {
    for (kind, judgement) in [(conditions::ACCEPTED, accepted), (conditions::PROGRAMMED, programmed)] {
        set(conditions, kind, generation, judgement, now);
    }
}

/// Sets one condition.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &'static str,
    generation: i64,
    (status, reason, message): Judgement,
    now: &Time,
) {
    let observed_generation = Some(generation);
    let wanted = Wanted { kind, status, reason, message: &message, observed_generation };
    conditions::set(conditions, &wanted, now);
}

fn accepted(facts: &Facts<'_>) -> Judgement {
    match facts.missing_tier {
        None => read(facts.issues, facts.enforced),
        Some(tier) => {
            let mut lines = vec![format!("spec.tier: there is no tier {tier:?}: the policy is not enforced")];
            lines.extend(facts.issues.iter().map(ToString::to_string));
            (Status::False, reason::TIER_NOT_FOUND, lines.join("\n"))
        }
    }
}

/// What there is to say of how an object was read; `used`: whether any of it is of use.
pub fn read(issues: &[Issue], used: bool) -> Judgement {
    let lines = |issues: &mut dyn Iterator<Item = &Issue>| {
        issues.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    if issues.iter().any(|issue| !issue.is_note()) {
        let unreadable = issues.iter().any(|issue| issue.reason == Reason::Unreadable);
        let reason = match (used, unreadable) {
            (true, _) => reason::PARTIALLY_INVALID,
            (false, true) => reason::UNREADABLE,
            (false, false) => reason::INVALID,
        };
        // What is wrong first, then the notes.
        let (notes, wrong): (Vec<_>, Vec<_>) = issues.iter().partition(|issue| issue.is_note());
        return (Status::False, reason, lines(&mut wrong.into_iter().chain(notes)));
    }
    let notes = lines(&mut issues.iter());
    let message = if notes.is_empty() { "every field was understood".into() } else { notes };
    (Status::True, reason::ACCEPTED, message)
}

fn programmed(facts: &Facts<'_>) -> Judgement {
    if facts.missing_tier.is_some() {
        return (Status::False, reason::TIER_NOT_FOUND, "the policy is not enforced: see Accepted".into());
    }
    if !facts.enforced {
        return (Status::False, reason::INVALID, "the policy is not enforced: see Accepted".into());
    }
    stands(facts.nodes)
        .unwrap_or_else(|| (Status::True, reason::NO_ENDPOINTS, "no node has a pod that it selects".into()))
}

/// What there is to say of nodes; None where there are none.
pub fn stands(nodes: &[(Arc<str>, Standing)]) -> Option<Judgement> {
    let all = nodes.len();
    let (failed, pending, unknown) = (
        named(nodes, |standing| matches!(standing, Standing::Failed { .. })),
        named(nodes, |standing| *standing == Standing::Pending),
        named(nodes, |standing| *standing == Standing::Unknown),
    );
    if all == 0 {
        return None;
    }
    if failed.0 > 0 {
        let message = format!("failed on {} of {all} nodes: {}", failed.0, failed.1);
        return Some((Status::False, reason::FAILED, message));
    }
    if pending.0 > 0 {
        let message = format!("not reported yet by {} of {all} nodes: {}", pending.0, pending.1);
        return Some((Status::False, reason::PENDING, message));
    }
    if unknown.0 > 0 {
        let message = format!("the agents of {} of {all} nodes are not ready: {}", unknown.0, unknown.1);
        return Some((Status::Unknown, reason::AGENT_NOT_READY, message));
    }
    let plural = if all == 1 { "node" } else { "nodes" };
    Some((Status::True, reason::PROGRAMMED, format!("stands on {all} {plural}")))
}

/// How many nodes there are of a sort, and the names of the first.
fn named(nodes: &[(Arc<str>, Standing)], of: impl Fn(&Standing) -> bool) -> (usize, String) {
    let all: Vec<&(Arc<str>, Standing)> = nodes.iter().filter(|(_, standing)| of(standing)).collect();
    let mut names: Vec<String> = all
        .iter()
        .take(MAX_NODES)
        .map(|(name, standing)| match standing {
            Standing::Failed { reason, .. } => format!("{name} ({reason})"),
            _ => name.to_string(),
        })
        .collect();
    if all.len() > MAX_NODES {
        names.push("...".into());
    }
    (all.len(), names.join(", "))
}

/// On how many nodes something stands, and where not.
pub fn counts(nodes: &[(Arc<str>, Standing)]) -> NodeCounts {
    let detail = |name: &str, reason: &str, message: &str| NodeDetail {
        name: name.to_owned(),
        reason: if reason.is_empty() { reason::FAILED.to_owned() } else { reason.to_owned() },
        message: message.chars().take(MAX_DETAIL).collect(),
    };
    let (mut failed, mut others, mut programmed) = (Vec::new(), Vec::new(), 0usize);
    for (name, standing) in nodes {
        match standing {
            Standing::Programmed => programmed += 1,
            Standing::Pending => others.push(detail(name, reason::PENDING, "not reported yet")),
            Standing::Unknown => {
                others.push(detail(name, reason::AGENT_NOT_READY, "stood when its agent last reported"));
            }
            Standing::Failed { reason, message } => failed.push(detail(name, reason, message)),
        }
    }
    let failures = number(failed.len());
    failed.extend(others);
    NodeCounts::new(number(nodes.len()), number(programmed), failures, failed)
}

/// A count as statuses hold it.
pub fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The policies that use something.
pub fn uses<'a>(policies: impl Iterator<Item = &'a PolicyKey>) -> PolicyUses {
    let mut count = 0;
    let mut names = Vec::new();
    for policy in policies {
        count += 1;
        if names.len() < MAX_POLICIES {
            names.push(policy.to_string());
        }
    }
    PolicyUses { count: number(count), names }
}
