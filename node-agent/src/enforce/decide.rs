//! What to enforce, from what the API server says.

use std::collections::BTreeSet;
use std::sync::Arc;

use selvage_policy::compiled::{GroupId, NodePolicy};
use tokio::time::Instant;

use super::hold::Hold;
use crate::watch::groups::GroupView;
use crate::watch::policy::{Observed, PolicyView};

/// A NodePolicy that is enforced.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The generation it came with.
    pub generation: i64,
    /// Its digest.
    pub digest: String,
    /// Its policySet.
    pub policy_set: String,
    /// What it means.
    pub policy: Arc<NodePolicy>,
}

/// What to do.
#[derive(Debug, Clone)]
pub enum Decision {
    /// Nothing is known yet, so nothing may be touched.
    Wait(&'static str),
    /// The table must go.
    TearDown,
    /// This NodePolicy holds.
    Enforce(Accepted),
}

/// Decides, remembering what was accepted before.
#[derive(Debug, Default)]
pub struct Decider {
    accepted: Option<Accepted>,
    hold: Hold,
}

impl Decider {
    /// What to do now, and until when a newer NodePolicy is held back for its groups.
    pub fn decide(
        &mut self,
        policy: &PolicyView,
        groups: &GroupView,
        now: Instant,
    ) -> (Decision, Option<Instant>) {
        let Some(observed) = policy.observed.as_ref().filter(|_| policy.listed) else {
            return (Decision::Wait("waiting for this node's NodePolicy"), None);
        };
        if observed.teardown {
            self.accepted = None;
            return (Decision::TearDown, None);
        }
        if !groups.listed {
            return (Decision::Wait("waiting for the list of address groups"), None);
        }
        let held = self.consider(observed, groups, now);
        match (&self.accepted, held) {
            (Some(accepted), held) => (Decision::Enforce(accepted.clone()), held),
            (None, Some(until)) => (Decision::Wait("waiting for address groups"), Some(until)),
            (None, None) => (Decision::Wait("this node's NodePolicy can't be read"), None),
        }
    }

    /// Accepts the observed NodePolicy, unless it can't be read or must wait.
    fn consider(&mut self, observed: &Observed, groups: &GroupView, now: Instant) -> Option<Instant> {
        let Ok(policy) = &observed.policy else { return None };
        let missing: BTreeSet<GroupId> =
            policy.groups.iter().filter(|group| !groups.groups.contains_key(*group)).copied().collect();
        let same = self
            .accepted
            .as_ref()
            .is_some_and(|a| a.digest == observed.digest && a.policy_set == observed.policy_set);
        let held = self.hold.until(&missing, now);
        if held.is_some() && !same {
            return held;
        }
        self.accepted = Some(Accepted {
            generation: observed.generation,
            digest: observed.digest.clone(),
            policy_set: observed.policy_set.clone(),
            policy: policy.clone(),
        });
        None
    }

    /// Groups that what is enforced, or is about to be, names.
    pub fn groups_in_use(&self, policy: &PolicyView) -> BTreeSet<GroupId> {
        let next = policy.observed.as_ref().and_then(|o| o.policy.as_ref().ok());
        self.accepted.iter().map(|a| &a.policy).chain(next).flat_map(|p| &p.groups).copied().collect()
    }
}
