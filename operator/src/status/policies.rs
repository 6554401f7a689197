//! What there is to say of a policy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_crds::network_policy_status::PolicyStatus;
use selvage_policy::compiled::PolicyKey;
use selvage_policy::engine::Enforcement;

use super::about::{About, Said};
use super::board::{Board, View, programmed_at};
use super::judge::{Facts, status};
use super::ledger::Look;
use super::node::Standing;
use crate::convert::{Converted, Issue};

/// How long a node that a policy newly reaches may take before the policy no longer counts as programmed.
const NEW_NODE_GRACE: Duration = Duration::from_secs(5);

/// A policy, as far as its status depends on it.
#[derive(Debug)]
pub struct Policy {
    pub(super) uid: Arc<str>,
    pub(super) generation: i64,
    enforced: bool,
    pub(super) issues: Vec<Issue>,
    /// Its nodes that have not reported it, and since when.
    pending: BTreeMap<Arc<str>, Instant>,
    pub(super) accepted: Option<bool>,
    pub(super) programmed: Option<bool>,
}

impl Policy {
    /// A policy, and what was known of it before.
    pub(super) fn new(converted: &Converted, before: Option<Self>) -> Self {
        let pending = before.filter(|old| old.uid == converted.uid).map(|old| old.pending);
        Self {
            uid: converted.uid.clone(),
            generation: converted.generation,
            enforced: converted.policy.is_some(),
            issues: converted.issues.clone(),
            pending: pending.unwrap_or_default(),
            accepted: None,
            programmed: None,
        }
    }
}

impl Board {
    pub(super) fn look_at_policy(&mut self, key: &PolicyKey, view: View<'_>) -> Option<Look> {
        let now = view.now;
        let about = About::Policy(key.clone());
        let policy = self.policies.get(key)?;
        let known = view.engine.policy(key).filter(|known| known.generation == policy.generation);
        let span = known.as_ref().map(|known| known.nodes.as_slice()).unwrap_or_default();
        let (nodes, mut again) = self.standing(key, policy, span, view);
        let missing_tier = match known.as_ref().map(|known| &known.enforcement) {
            Some(Enforcement::MissingTier(tier)) => Some(&**tier),
            _ => None,
        };

        let policy = self.policies.get_mut(key)?;
        let waiting: BTreeMap<Arc<str>, Instant> = nodes
            .iter()
            .filter(|(_, standing)| *standing == Standing::Pending)
            .map(|(name, _)| (name.clone(), policy.pending.get(name).copied().unwrap_or(now)))
            .collect();
        policy.pending = waiting;

        let empty = PolicyStatus::default();
        let before = match self.ledger.standing(&about, &policy.uid).map(|stood| &stood.said) {
            Some(Said::Policy(status)) => status,
            _ => &empty,
        };
        let failing = nodes.iter().any(|(_, standing)| matches!(standing, Standing::Failed { .. }));
        // Pods that come to a new node don't make a policy look unprogrammed while that node catches up.
        let grace = policy.pending.values().map(|since| *since + NEW_NODE_GRACE).min();
        let stood = programmed_at(&before.conditions, policy.generation);
        let held = !failing && stood && grace.is_some_and(|end| end > now);
        if held {
            again = again.into_iter().chain(grace).min();
        }
        let uid = policy.uid.clone();
        if held {
            return Some(Look { uid, said: None, failing, held, again });
        }
        let facts = Facts {
            generation: policy.generation,
            enforced: policy.enforced,
            missing_tier,
            issues: &policy.issues,
            endpoints: known.as_ref().map_or(0, |known| known.endpoints),
            nodes: &nodes,
        };
        policy.accepted = Some(missing_tier.is_none() && policy.issues.iter().all(Issue::is_note));
        let enforced = policy.enforced && missing_tier.is_none();
        let programmed = enforced && nodes.iter().all(|(_, standing)| *standing == Standing::Programmed);
        let news = policy.programmed != Some(programmed);
        policy.programmed = Some(programmed);
        let said = status(&facts, before, view.time)
            .map(|status| Said::Policy(status).as_written(&about))
            .filter(|said| !matches!(said, Said::Policy(status) if status == before));
        if news {
            let sets = self.used_by.get(key).into_iter().flatten();
            sets.for_each(|set| self.ledger.touch(About::Set(set.clone())));
        }
        Some(Look { uid, said, failing, held, again })
    }
}
