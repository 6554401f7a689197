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
    /// The policies of the newest set, and since when they stand in the NodePolicy.
    since: BTreeMap<PolicyKey, Since>,
    /// The NodePolicy as it stands; None where there is none.
    published: Option<Published>,
    /// Digests of the last NodePolicies that stood, by generation.
    digests: BTreeMap<i64, String>,
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

/// A NodePolicy on the API server, as far as it tells what a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// `spec.policySet`.
    pub policy_set: String,
    /// `spec.digest`.
    pub digest: String,
    /// `metadata.generation`.
    pub generation: i64,
}

/// One version of a policy. A set may come back that was there before: without this, a report of the first time would
/// count for the second.
#[derive(Debug, PartialEq, Eq)]
struct Since {
    uid: Arc<str>,
    generation: i64,
    /// The NodePolicy's generation since which it holds the policy without a break; None while it does not.
    published: Option<i64>,
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
        Self {
            sets: VecDeque::new(),
            since: BTreeMap::new(),
            published: None,
            digests: BTreeMap::new(),
            report: None,
            away: Some(now),
        }
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
        self.since.retain(|key, since| policy.policies.get(key).is_some_and(|policy| since.is_of(policy)));
        for (key, policy) in &policy.policies {
            let new = || Since { uid: policy.uid.clone(), generation: policy.generation, published: None };
            self.since.entry(key.clone()).or_insert_with(new);
        }
        self.note_published();
        true
    }

    /// Compares what stands with what should; whether that is news of a policy.
    fn note_published(&mut self) -> bool {
        let set = self.published.as_ref().and_then(|published| {
            let set = self.sets.iter().find(|set| set.hash == published.policy_set)?;
            Some((published.generation, set))
        });
        let mut news = false;
        for (key, since) in &mut self.since {
            let held = set.filter(|(_, set)| set.holds(key, &since.uid, since.generation));
            let published = held.map(|(now, _)| since.published.unwrap_or(now));
            news |= published != since.published;
            since.published = published;
        }
        news
    }

    /// Its NodePolicy stands so, with what its agent reports; whether that says anything new of a policy.
    pub fn reported(&mut self, published: Option<Published>, report: Option<NodePolicyStatus>) -> bool {
        self.published = published;
        if let Some(published) = &self.published {
            self.digests.insert(published.generation, published.digest.clone());
            if self.digests.len() > SETS {
                self.digests.pop_first();
            }
        }
        let published = self.note_published();
        let observed =
            |report: &Option<NodePolicyStatus>| report.as_ref().and_then(|r| r.observed_generation);
        let (before, after) = (observed(&self.report), observed(&report));
        let reached = self.since.values().any(|since| before < since.published && after >= since.published);
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
        news || published || reached
    }

    /// What its agent reported last.
    pub fn report(&self) -> Option<&NodePolicyStatus> {
        self.report.as_ref()
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

    /// The generation of its NodePolicy as it stands.
    pub fn published_generation(&self) -> Option<i64> {
        self.published.as_ref().map(|published| published.generation)
    }

    /// Whether the kernel holds its NodePolicy of that generation, or of a later one.
    pub fn reached(&self, generation: i64) -> bool {
        self.report.as_ref().is_some_and(|report| {
            report.observed_generation >= Some(generation)
                && self.digests.range(generation..).any(|(_, digest)| report.digest.as_ref() == Some(digest))
        })
    }

    /// How something stands here that is no policy, given whether the agent has said so once.
    pub fn standing_of_all(&self, stands: bool, now: Instant) -> Standing {
        let away = self.away.is_some_and(|since| since + AGENT_GRACE <= now);
        match self.report.as_ref().and_then(failure_of_the_node) {
            Some(failure) => failure,
            None => self.standing_if(stands, away),
        }
    }

    fn standing_if(&self, stands: bool, away: bool) -> Standing {
        match (stands, away) {
            (true, false) => Standing::Programmed,
            (true, true) => Standing::Unknown,
            (false, true) => absent(),
            (false, false) => Standing::Pending,
        }
    }

    /// Whether a policy stands here in that generation.
    pub fn standing(&self, key: &PolicyKey, uid: &str, generation: i64, now: Instant) -> Standing {
        let away = self.away.is_some_and(|since| since + AGENT_GRACE <= now);
        let Some(report) = &self.report else { return if away { absent() } else { Standing::Pending } };
        if let Some(failure) = failure(report, key) {
            return failure;
        }
        let since = self.since.get(key).and_then(|since| since.published);
        let stands = since.is_some()
            && report.observed_generation >= since
            && report.policy_set.as_ref().is_some_and(|hash| {
                self.sets.iter().any(|set| set.hash == *hash && set.holds(key, uid, generation))
            });
        self.standing_if(stands, away)
    }
}

impl Set {
    fn holds(&self, key: &PolicyKey, uid: &str, generation: i64) -> bool {
        self.policies.get(key).is_some_and(|(u, g)| **u == *uid && *g == generation)
    }
}

impl Since {
    fn is_of(&self, policy: &compiled::Policy) -> bool {
        (&self.uid, self.generation) == (&policy.uid, policy.generation)
    }
}

fn absent() -> Standing {
    Standing::Failed {
        reason: reason::AGENT_NOT_READY.into(),
        message: "no agent of this node is ready".into(),
    }
}

/// What the agent says is wrong with the node.
fn failure_of_the_node(report: &NodePolicyStatus) -> Option<Standing> {
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
    None
}

/// What the agent says is wrong, with the node or with this policy.
fn failure(report: &NodePolicyStatus, key: &PolicyKey) -> Option<Standing> {
    if let Some(failure) = failure_of_the_node(report) {
        return Some(failure);
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
