//! "The verdict", for one endpoint and one direction, and for a packet from end to end.

use std::cmp::Ordering;
use std::sync::Arc;

use super::who::{contains, owner};
use super::{Objects, Packet, rule};
use crate::compiled::{Action, EndpointKey, PolicyKey};
use crate::model::{Order, Policy, Rule, Tier};

/// Which of an endpoint's two sides is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Packets to it.
    Ingress,
    /// Packets from it.
    Egress,
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It passes.
    pub allowed: bool,
    /// What decided.
    pub by: Decider,
}

/// What decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    /// A rule of a policy.
    Rule {
        /// The policy.
        policy: PolicyKey,
        /// Which of its rules in that direction.
        index: usize,
    },
    /// No rule of the tier matched.
    TierDefault(Arc<str>),
    /// No tier is left, or none counts.
    NoTier,
}

/// The tiers that always exist: name, order, default action.
const ALWAYS: [(&str, f64, Action); 3] = [
    ("kube-admin", 1_000.0, Action::Pass),
    ("default", 1_000_000.0, Action::Deny),
    ("kube-baseline", 10_000_000.0, Action::Pass),
];

/// The first packet of a connection, from end to end: the source's egress where it is an endpoint, and the
/// destination's ingress where that is one. Both must allow it; the first that does not decides.
pub fn verdict(objects: &Objects, packet: &Packet) -> Verdict {
    let egress = owner(objects, packet.source).map(|(key, _)| judge(objects, key, Direction::Egress, packet));
    let ingress =
        owner(objects, packet.destination).map(|(key, _)| judge(objects, key, Direction::Ingress, packet));
    let nobody = Verdict { allowed: true, by: Decider::NoTier };
    match (egress, ingress) {
        (Some(egress), _) if !egress.allowed => egress,
        (_, Some(ingress)) => ingress,
        (Some(egress), None) => egress,
        (None, None) => nobody,
    }
}

/// The verdict for one endpoint and one direction (steps 2 to 4; step 1, that established connections pass, needs no
/// policy).
pub fn judge(objects: &Objects, judged: &EndpointKey, direction: Direction, packet: &Packet) -> Verdict {
    // 2. Tiers in order. A tier counts only if one of its policies selects the endpoint for that direction.
    for (name, tier) in tiers(objects) {
        let policies = selecting(objects, &name, judged, direction);
        if !policies.iter().any(|(_, _, rules)| counts(rules)) {
            continue;
        }
        // 3. Policies in order, their rules in order; the first match decides. Log goes on.
        let rules = policies.iter().flat_map(|(key, _, rules)| {
            rules.iter().enumerate().map(move |(index, rule)| (*key, index, rule))
        });
        let decision = rules
            .filter(|(_, _, rule)| rule.action != Action::Log)
            .find(|(_, _, rule)| rule::matches(objects, rule, packet));
        let (action, by) = match decision {
            Some((key, index, rule)) => (rule.action, Decider::Rule { policy: key.clone(), index }),
            None => (tier.default_action, Decider::TierDefault(name)),
        };
        match action {
            Action::Allow => return Verdict { allowed: true, by },
            Action::Deny => return Verdict { allowed: false, by },
            Action::Pass | Action::Log => {}
        }
    }
    // 4. No tier left: allowed.
    Verdict { allowed: true, by: Decider::NoTier }
}

/// Every tier, those without an order last, equal orders by name. A policy in a tier that is not here is not enforced.
fn tiers(objects: &Objects) -> Vec<(Arc<str>, Tier)> {
    let mut tiers = objects.tiers.clone();
    for (name, order, default_action) in ALWAYS {
        tiers.insert(name.into(), Tier { order: Order::new(order), default_action });
    }
    let mut tiers: Vec<_> = tiers.into_iter().collect();
    tiers.sort_by(|(a_name, a), (b_name, b)| by_order(a.order, b.order).then_with(|| a_name.cmp(b_name)));
    tiers
}

/// A tier's policies that select the endpoint and say something of the direction, in order: by order, then name, namespace
/// and kind.
fn selecting<'a>(
    objects: &'a Objects,
    tier: &str,
    judged: &EndpointKey,
    direction: Direction,
) -> Vec<(&'a PolicyKey, &'a Policy, &'a [Rule])> {
    let mut policies: Vec<_> = objects
        .policies
        .iter()
        .filter(|(_, policy)| *policy.tier == *tier && contains(objects, &policy.subject, judged))
        .filter_map(|(key, policy)| {
            let rules = match direction {
                Direction::Ingress => policy.ingress.as_deref(),
                Direction::Egress => policy.egress.as_deref(),
            };
            Some((key, policy, rules?))
        })
        .collect();
    policies.sort_by(|(a_key, a, _), (b_key, b, _)| {
        let name = |key: &PolicyKey| (key.name.clone(), key.namespace.clone(), key.kind);
        by_order(a.order, b.order).then_with(|| name(a_key).cmp(&name(b_key)))
    });
    policies
}

/// No rules at all do make a tier count; rules that do nothing but log do not.
fn counts(rules: &[Rule]) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.action != Action::Log)
}

/// Lower first, none last.
fn by_order(a: Option<Order>, b: Option<Order>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(&b),
    }
}
