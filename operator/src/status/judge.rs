//! What a NetworkPolicyStatus should say.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use selvage_crds::conditions::{self, Status, Wanted, reason};
use selvage_crds::network_policy_status::{MAX_NODES, NodeCounts, NodeDetail, PolicyStatus};

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
    /// What is not enforced as written.
    pub issues: &'a [Issue],
    /// How many endpoints it selects.
    pub endpoints: usize,
    /// Its nodes, by name.
    pub nodes: &'a [(&'a str, Standing)],
}

/// The status that these facts make of an older one; None where it says so already.
pub fn status(facts: &Facts<'_>, before: &PolicyStatus, now: &Time) -> Option<PolicyStatus> {
    let mut after = before.clone();
    let accepted = accepted(facts);
    let programmed = programmed(facts);
    for (kind, (status, reason, message)) in
        [(conditions::ACCEPTED, accepted), (conditions::PROGRAMMED, programmed)]
    {
        let observed_generation = Some(facts.generation);
        let wanted = Wanted { kind, status, reason, message: &message, observed_generation };
        conditions::set(&mut after.conditions, &wanted, now);
    }
    after.observed_generation = Some(facts.generation);
    after.nodes = counts(facts);
    after.endpoints = number(facts.endpoints);
    (after != *before).then_some(after)
}

fn accepted(facts: &Facts<'_>) -> (Status, &'static str, String) {
    let lines = |issues: &mut dyn Iterator<Item = &Issue>| {
        issues.map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    if facts.issues.iter().any(|issue| !issue.is_note()) {
        let unreadable = facts.issues.iter().any(|issue| issue.reason == Reason::Unreadable);
        let reason = match (facts.enforced, unreadable) {
            (true, _) => reason::PARTIALLY_INVALID,
            (false, true) => reason::UNREADABLE,
            (false, false) => reason::INVALID,
        };
        // What is wrong first, then the notes.
        let (notes, wrong): (Vec<_>, Vec<_>) = facts.issues.iter().partition(|issue| issue.is_note());
        return (Status::False, reason, lines(&mut wrong.into_iter().chain(notes)));
    }
    let notes = lines(&mut facts.issues.iter());
    let message = if notes.is_empty() { "every field was understood".into() } else { notes };
    (Status::True, reason::ACCEPTED, message)
}

fn programmed(facts: &Facts<'_>) -> (Status, &'static str, String) {
    if !facts.enforced {
        return (Status::False, reason::INVALID, "the policy is not enforced: see Accepted".into());
    }
    let all = facts.nodes.len();
    let (failed, pending, unknown) = (
        named(facts, |standing| matches!(standing, Standing::Failed { .. })),
        named(facts, |standing| *standing == Standing::Pending),
        named(facts, |standing| *standing == Standing::Unknown),
    );
    if all == 0 {
        return (Status::True, reason::NO_ENDPOINTS, "no node has a pod that it selects".into());
    }
    if failed.0 > 0 {
        let message = format!("failed on {} of {all} nodes: {}", failed.0, failed.1);
        return (Status::False, reason::FAILED, message);
    }
    if pending.0 > 0 {
        let message = format!("not reported yet by {} of {all} nodes: {}", pending.0, pending.1);
        return (Status::False, reason::PENDING, message);
    }
    if unknown.0 > 0 {
        let message = format!("the agents of {} of {all} nodes are not ready: {}", unknown.0, unknown.1);
        return (Status::Unknown, reason::AGENT_NOT_READY, message);
    }
    let nodes = if all == 1 { "node" } else { "nodes" };
    (Status::True, reason::PROGRAMMED, format!("stands on {all} {nodes}"))
}

/// How many nodes there are of a sort, and the names of the first.
fn named(facts: &Facts<'_>, of: impl Fn(&Standing) -> bool) -> (usize, String) {
    let all: Vec<&(&str, Standing)> = facts.nodes.iter().filter(|(_, standing)| of(standing)).collect();
    let mut names: Vec<String> = all
        .iter()
        .take(MAX_NODES)
        .map(|(name, standing)| match standing {
            Standing::Failed { reason, .. } => format!("{name} ({reason})"),
            _ => (*name).to_owned(),
        })
        .collect();
    if all.len() > MAX_NODES {
        names.push("...".into());
    }
    (all.len(), names.join(", "))
}

fn counts(facts: &Facts<'_>) -> NodeCounts {
    let detail = |name: &str, reason: &str, message: &str| NodeDetail {
        name: name.to_owned(),
        reason: if reason.is_empty() { reason::FAILED.to_owned() } else { reason.to_owned() },
        message: message.chars().take(MAX_DETAIL).collect(),
    };
    let (mut failed, mut others, mut programmed) = (Vec::new(), Vec::new(), 0usize);
    for (name, standing) in facts.nodes {
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
    NodeCounts::new(number(facts.nodes.len()), number(programmed), failures, failed)
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
