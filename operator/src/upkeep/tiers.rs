//! The tiers that stand: three always exist, and none goes while policies name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use selvage_crds::TierSpec;
use selvage_crds::tier::FINALIZER;
use selvage_policy::compiled::{Action, PolicyKey};
use selvage_policy::model::{self, Change};
use selvage_policy::tier::built_in;

use super::Chore;
use crate::watch::SeenTier;

/// The tiers that stand, and the policies that name each.
#[derive(Default)]
pub struct Tiers {
    standing: BTreeMap<Arc<str>, SeenTier>,
    policies: BTreeMap<Arc<str>, BTreeSet<PolicyKey>>,
    named: BTreeMap<PolicyKey, Arc<str>>,
}

impl Tiers {
    /// A tier as it stands; None where it is gone.
    pub fn stands(&mut self, name: &Arc<str>, seen: Option<SeenTier>) -> Change {
        let tier = seen.as_ref().and_then(|seen| seen.read.value.clone());
        match seen {
            Some(seen) => self.standing.insert(name.clone(), seen),
            None => self.standing.remove(name),
        };
        Change::Tier(name.clone(), tier)
    }

    /// A policy names that tier, or none any more. Returns the tiers that have more or fewer policies now.
    pub fn policy(&mut self, key: &PolicyKey, tier: Option<&Arc<str>>) -> Vec<Arc<str>> {
        if self.named.get(key) == tier {
            return Vec::new();
        }
        let before = self.named.remove(key);
        if let Some(policies) = before.as_ref().and_then(|before| self.policies.get_mut(before)) {
            policies.remove(key);
        }
        if let Some(tier) = tier {
            self.policies.entry(tier.clone()).or_default().insert(key.clone());
            self.named.insert(key.clone(), tier.clone());
        }
        self.policies.retain(|_, policies| !policies.is_empty());
        before.into_iter().chain(tier.cloned()).collect()
    }

    /// A tier that stands.
    pub fn get(&self, name: &str) -> Option<&SeenTier> {
        self.standing.get(name)
    }

    /// The names of those that stand.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.standing.keys()
    }

    /// The tier that a policy names.
    pub fn of(&self, key: &PolicyKey) -> Option<&Arc<str>> {
        self.named.get(key)
    }

    /// The policies that name it.
    pub fn policies(&self, name: &str) -> impl Iterator<Item = &PolicyKey> {
        self.policies.get(name).into_iter().flatten()
    }

    /// What has to be done.
    pub fn chores(&self) -> Vec<Chore> {
        let missing_or_wrong = built_in().into_iter().filter_map(|(name, tier)| {
            let name: Arc<str> = name.into();
            let spec = spec(&tier);
            match self.standing.get(&name) {
                None => Some(Chore::CreateTier { name, spec }),
                Some(seen) if seen.read.value.as_ref() != Some(&tier) && !seen.deleting => {
                    Some(Chore::CorrectTier { name, place: seen.place.clone(), spec })
                }
                Some(_) => None,
            }
        });
        let users =
            self.standing.iter().filter(|(name, _)| built_in().iter().all(|(known, _)| *known != &***name));
        let holds = users.filter_map(|(name, seen)| {
            let wanted = !seen.deleting || self.policies.contains_key(name);
            // Nothing can be added to what is being deleted.
            let changes = seen.is_held() != wanted && !(wanted && seen.deleting);
            changes.then(|| {
                let mut finalizers = seen.finalizers.clone();
                finalizers.retain(|name| name != FINALIZER);
                finalizers.extend(wanted.then(|| FINALIZER.to_owned()));
                Chore::Hold { name: name.clone(), place: seen.place.clone(), finalizers }
            })
        });
        missing_or_wrong.chain(holds).collect()
    }
}

fn spec(tier: &model::Tier) -> TierSpec {
    TierSpec {
        order: tier.order.map(model::Order::get),
        default_action: Some(if tier.default_action == Action::Pass { "Pass" } else { "Deny" }.to_owned()),
    }
}
