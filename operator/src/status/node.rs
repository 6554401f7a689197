//! What is known of a node: what it was sent, what its agent reports, and whether the agent is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_crds::conditions::{self, reason};
use selvage_crds::digest;
use selvage_crds::node_policy::NodePolicyStatus;
use selvage_policy::compiled::{self, PolicyKey};

/// How many of the last sets of policies are remembered: an agent reports at most once a second, while a set may
/// change faster.
const SETS: usize = 16;
/// How long an agent may be away before its node counts as unknown: a restart is no news.
pub const AGENT_GRACE: Duration = Duration::from_secs(15);

/// What is known of a node.
#[derive(Debug)]
pub struct Node {
    /// The last sets of policies that it was to enforce, the newest last.
    sets: VecDeque<Set>,
    /// What its agent reported last.
    report: Option<NodePolicyStatus>,
    /// Since when no agent of it is ready; None while one is.
    away: Option<Instant>,
}

#[derive(Debug)]
struct Set {
    hash: String,
    policies: BTreeMap<PolicyKey, (Arc<str>, i64)>,
}

/// Whether a policy stands on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// In the kernel, in its current generation.
    Programmed,
    /// Not reported yet.
    Pending,
    /// Reported once, but the agent is away.
    Unknown,
    /// Not, and it will not come by waiting.
    Failed {
        /// One of [`selvage_crds::conditions::reason`], as the agent said it.
        reason: String,
        /// For people.
        message: String,
    },
}

impl Node {
    /// A node that nothing is known of since `now`.
    pub fn new(now: Instant) -> Self {
        Self { sets: VecDeque::new(), report: None, away: Some(now) }
    }

    /// It is to enforce this from now on; whether the set of policies is another.
    pub fn sent(&mut self, policy: &compiled::NodePolicy) -> bool {
        let hash = digest::policy_set(policy);
        if self.sets.back().is_some_and(|newest| newest.hash == hash) {
            return false;
        }
        let of = |(key, policy): (&PolicyKey, &Arc<compiled::Policy>)| {
            (key.clone(), (policy.uid.clone(), policy.generation))
        };
        self.sets.push_back(Set { hash, policies: policy.policies.iter().map(of).collect() });
        if self.sets.len() > SETS {
            self.sets.pop_front();
        }
        true
    }

    /// Its agent reports; whether that says anything new of a policy.
    pub fn reported(&mut self, report: Option<NodePolicyStatus>) -> bool {
        let of = |report: &NodePolicyStatus| {
            let conditions: Vec<_> = report
                .conditions
                .iter()
                .map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone()))
                .collect();
            (
                conditions,
                report.policy_set.clone(),
                report.not_programmed.clone(),
                report.not_programmed_total,
            )
        };
        let news = self.report.as_ref().map(of) != report.as_ref().map(of);
        self.report = report;
        news
    }

    /// Whether an agent of it is ready; whether that is news.
    pub fn agent(&mut self, ready: bool, now: Instant) -> bool {
        let news = self.away.is_none() != ready;
        if ready {
            self.away = None;
        } else {
            self.away.get_or_insert(now);
        }
        news
    }

    /// The policies of its newest set.
    pub fn policies(&self) -> impl Iterator<Item = &PolicyKey> {
        self.sets.back().into_iter().flat_map(|set| set.policies.keys())
    }

    /// When its agent's absence begins to count; None when it is there, or does already.
    pub fn grace_ends(&self, now: Instant) -> Option<Instant> {
        self.away.map(|since| since + AGENT_GRACE).filter(|end| *end > now)
    }

    /// Whether a policy stands here in that generation.
    pub fn standing(&self, key: &PolicyKey, uid: &str, generation: i64, now: Instant) -> Standing {
        let away = self.away.is_some_and(|since| since + AGENT_GRACE <= now);
        let absent = || Standing::Failed {
            reason: reason::AGENT_NOT_READY.into(),
            message: "no agent of this node is ready".into(),
        };
        let Some(report) = &self.report else { return if away { absent() } else { Standing::Pending } };
        if let Some(failure) = failure(report, key) {
            return failure;
        }
        let stands = report.policy_set.as_ref().is_some_and(|hash| {
            self.sets.iter().any(|set| {
                set.hash == *hash
                    && set.policies.get(key).is_some_and(|(u, g)| **u == *uid && *g == generation)
            })
        });
        match (stands, away) {
            (true, false) => Standing::Programmed,
            (true, true) => Standing::Unknown,
            (false, true) => absent(),
            (false, false) => Standing::Pending,
        }
    }
}

/// What the agent says is wrong, with the node or with this policy.
fn failure(report: &NodePolicyStatus, key: &PolicyKey) -> Option<Standing> {
    for kind in [conditions::READY, conditions::PROGRAMMED] {
        let Some(condition) = conditions::find(&report.conditions, kind) else { continue };
        let waits = [reason::PENDING, reason::WAITING, reason::PARTIALLY_PROGRAMMED];
        if condition.status == "False" && !waits.contains(&condition.reason.as_str()) {
            return Some(Standing::Failed {
                reason: condition.reason.clone(),
                message: condition.message.clone(),
            });
        }
    }
    if let Some(entry) = report.not_programmed.iter().find(|entry| entry.policy.is(key)) {
        return Some(Standing::Failed { reason: entry.reason.clone(), message: entry.message.clone() });
    }
    let listed = u32::try_from(report.not_programmed.len()).unwrap_or(u32::MAX);
    (report.not_programmed_total > listed).then(|| Standing::Failed {
        reason: reason::PARTIALLY_PROGRAMMED.into(),
        message: format!("{} policies do not stand, more than the node names", report.not_programmed_total),
    })
}
