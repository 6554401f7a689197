//! What there is to say of a Tier.

use std::collections::BTreeSet;
use std::sync::Arc;

use selvage_crds::conditions::{Status, reason};
use selvage_crds::policy_uses::PolicyUses;
use selvage_crds::tier::TierStatus;
use selvage_policy::compiled::NodePolicy;

use super::about::{About, Said};
use super::board::{Board, View};
use super::judge::{counts, judge, read, set, stands, uses};
use super::ledger::Look;
use super::node::Standing;
use crate::watch::SeenTier;

impl Board {
    pub(super) fn look_at_tier(&mut self, name: &Arc<str>, view: View<'_>) -> Option<Look> {
        let about = About::Tier(name.clone());
        let tier = view.upkeep.tiers.get(name)?;
        let (uid, generation) = (&tier.read.uid, tier.read.generation);
        let span: BTreeSet<Arc<str>> = view
            .engine
            .nodes()
            .iter()
            .filter(|node| asks(node, name))
            .map(|node| node.node.clone())
            .collect();
        let (nodes, again) = self.progress(&about, (uid, generation), &span, view);
        let before = match self.ledger.standing(&about, uid).map(|stood| &stood.said) {
            Some(Said::Tier(status)) => status.clone(),
            _ => TierStatus::default(),
        };
        let mut after = before.clone();
        let programmed = stands(&nodes)
            .unwrap_or_else(|| (Status::True, reason::NO_ENDPOINTS, "no policy in it selects a pod".into()));
        let accepted = read(&tier.read.issues, tier.read.value.is_some());
        judge(&mut after.conditions, generation, accepted, programmed, view.time);
        after.observed_generation = Some(generation);
        after.nodes = counts(&nodes);
        after.policies = uses(view.upkeep.tiers.policies(name));
        deletion(tier, &mut after, view);
        let failing = nodes.iter().any(|(_, standing)| matches!(standing, Standing::Failed { .. }));
        let said = (after != before).then_some(Said::Tier(after));
        Some(Look { uid: uid.clone(), said, failing, held: false, again })
    }
}

/// Whether a node has an endpoint that the tier counts for.
fn asks(node: &NodePolicy, tier: &str) -> bool {
    let steps = node.profiles.values().flat_map(|profile| profile.ingress.iter().chain(&profile.egress));
    steps.into_iter().any(|step| *step.tier == *tier)
}

/// A tier that was deleted and still has policies says so.
fn deletion(tier: &SeenTier, status: &mut TierStatus, view: View<'_>) {
    let PolicyUses { count, names } = &status.policies;
    if !tier.deleting || *count == 0 {
        return;
    }
    let more = if names.len() < usize::try_from(*count).unwrap_or(usize::MAX) { ", ..." } else { "" };
    let message = format!(
        "it was deleted, and stays as it is until no policy names it any more; {count} do: {}{more}",
        names.join(", ")
    );
    let judgement = (Status::True, reason::IN_USE, message);
    let kind = selvage_crds::conditions::DELETION_HELD;
    set(&mut status.conditions, kind, tier.read.generation, judgement, view.time);
}
