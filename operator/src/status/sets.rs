//! What there is to say of a NetworkSet or GlobalNetworkSet.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_crds::conditions::{Status, reason};
use selvage_crds::network_set::SetStatus;
use selvage_policy::compiled::PolicyKey;
use selvage_policy::engine;
use selvage_policy::model::Key;

use super::about::{About, Said};
use super::board::{Board, LOOK_AGAIN, View, groups, programmed_at};
use super::judge::{Judgement, counts, judge, number, read, stands, uses};
use super::ledger::Look;
use super::node::Standing;
use crate::convert::{Issue, Read};

/// A set, as far as its status depends on it.
#[derive(Debug)]
pub struct Set {
    uid: Arc<str>,
    generation: i64,
    used: bool,
    issues: Vec<Issue>,
}

impl Set {
    /// A set that was read.
    pub(super) fn new<T>(read: &Read<T>) -> Self {
        Self {
            uid: read.uid.clone(),
            generation: read.generation,
            used: read.value.is_some(),
            issues: read.issues.clone(),
        }
    }
}

impl Board {
    /// Agents do not report single members. What can be said is that the members are published to every node that
    /// needs them, and that the policies which use the set stand there. Once that was so, it is so for that
    /// generation unless something fails: what is still on its way are changes of other objects.
    pub(super) fn look_at_set(&mut self, key: &Key, view: View<'_>) -> Option<Look> {
        let about = About::Set(key.clone());
        let set = self.sets.get(key)?;
        let known =
            view.engine.set_status(key).unwrap_or(engine::SetStatus { members: 0, policies: Vec::new() });
        let mut waits = false;
        let mut again = None;
        let mut nodes: BTreeMap<Arc<str>, Standing> = BTreeMap::new();
        for key in &known.policies {
            let Some(policy) = self.policies.get(key) else { continue };
            let Some(enforced) =
                view.engine.policy(key).filter(|known| known.generation == policy.generation)
            else {
                waits = true;
                continue;
            };
            waits |= groups(key, &enforced.nodes, view.engine)
                .into_iter()
                .any(|id| view.publication.group_waits(id));
            let (standing, at) = self.standing(key, policy, &enforced.nodes, view);
            again = again.into_iter().chain(at).min();
            for (name, standing) in standing {
                let worst = nodes.entry(name).or_insert(Standing::Programmed);
                if rank(&standing) > rank(worst) {
                    *worst = standing;
                }
            }
        }
        let stood = self.ledger.standing(&about, &set.uid);
        let before = match stood.map(|stood| &stood.said) {
            Some(Said::Set(status)) => status.clone(),
            _ => SetStatus::default(),
        };
        let held = programmed_at(&before.conditions, set.generation);
        if waits || nodes.values().any(|standing| *standing == Standing::Pending) {
            again = Some(again.unwrap_or(view.now + LOOK_AGAIN).min(view.now + LOOK_AGAIN));
        }
        for standing in nodes.values_mut() {
            match standing {
                // Not what the set is waited for.
                Standing::Pending if held => *standing = Standing::Programmed,
                Standing::Programmed if waits && !held => *standing = Standing::Pending,
                _ => {}
            }
        }
        let nodes: Vec<_> = nodes.into_iter().collect();
        let mut after = before.clone();
        let programmed = programmed(set, &known.policies, &nodes);
        judge(&mut after.conditions, set.generation, read(&set.issues, set.used), programmed, view.time);
        after.observed_generation = Some(set.generation);
        after.nodes = counts(&nodes);
        after.members = number(known.members);
        after.policies = uses(known.policies.iter());
        let failing = nodes.iter().any(|(_, standing)| matches!(standing, Standing::Failed { .. }));
        let uid = set.uid.clone();
        for policy in known.policies {
            self.used_by.entry(policy).or_default().insert(key.clone());
        }
        let said = (after != before).then_some(Said::Set(after));
        Some(Look { uid, said, failing, held: false, again })
    }
}

fn programmed(set: &Set, policies: &[PolicyKey], nodes: &[(Arc<str>, Standing)]) -> Judgement {
    if !set.used {
        return (Status::False, reason::INVALID, "nothing of the set is used: see Accepted".into());
    }
    match stands(nodes) {
        Some(judgement) => judgement,
        None if policies.is_empty() => (Status::True, reason::NO_POLICIES, "no policy uses it".into()),
        None => (Status::True, reason::NO_ENDPOINTS, "the policies that use it select no pod".into()),
    }
}

/// Which of two standings is worse.
fn rank(standing: &Standing) -> u8 {
    match standing {
        Standing::Programmed => 0,
        Standing::Unknown => 1,
        Standing::Pending => 2,
        Standing::Failed { .. } => 3,
    }
}
