//! Tiers: which there always are, and in which order they are asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::compiled::Action;
use crate::model::{Order, Tier};

/// The tier of ClusterNetworkPolicy Admin: order 1,000, Pass.
pub const KUBE_ADMIN: &str = "kube-admin";

/// The tier of NetworkPolicy, and of policies that name none: order 1,000,000, Deny.
pub const DEFAULT: &str = "default";

/// The tier of ClusterNetworkPolicy Baseline: order 10,000,000, Pass.
pub const KUBE_BASELINE: &str = "kube-baseline";

/// The tiers that always exist and can't be changed or deleted.
const BUILT_IN: [(&str, f64, Action); 3] = [
    (KUBE_ADMIN, 1_000.0, Action::Pass),
    (DEFAULT, 1_000_000.0, Action::Deny),
    (KUBE_BASELINE, 10_000_000.0, Action::Pass),
];

/// The tiers that always exist, and what they always are.
pub fn built_in() -> [(&'static str, Tier); 3] {
    BUILT_IN.map(|(name, order, default_action)| (name, Tier { order: Order::new(order), default_action }))
}

/// The place of every NetworkPolicy in [`DEFAULT`].
pub const NETWORK_POLICY_ORDER: f64 = 1_000.0;

/// Every tier there is.
#[derive(Debug)]
pub(crate) struct Tiers(BTreeMap<Arc<str>, Tier>);

impl Tiers {
    /// A tier that came, changed or went; false where that changes nothing, as for those that always exist.
    pub(crate) fn set(&mut self, name: &Arc<str>, tier: Option<Tier>) -> bool {
        if BUILT_IN.iter().any(|(known, ..)| *known == &**name) || self.0.get(name) == tier.as_ref() {
            return false;
        }
        match tier {
            Some(tier) => self.0.insert(name.clone(), tier),
            None => self.0.remove(name),
        };
        true
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Tier> {
        self.0.get(name)
    }
}

impl Default for Tiers {
    fn default() -> Self {
        Self(built_in().into_iter().map(|(name, tier)| (name.into(), tier)).collect())
    }
}
