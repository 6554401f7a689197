//! "The verdict, for one endpoint and one direction": steps 2 to 4. Step 1 looks at the connection and not at policies, and
//! stands in [`always`](super::always).

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Objects, Packet, rule, who};
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

/// What becomes of a packet at one endpoint, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It passes.
    pub allowed: bool,
    /// What decided.
    pub by: Decider,
    /// Rules that noted it on the way, in order: policy, and which of its rules in that direction.
    pub noted: Vec<(PolicyKey, usize)>,
}

/// What decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    /// A rule of a policy.
    Rule {
        /// The policy.
        policy: PolicyKey,
        /// Which of its rules in that direction, from 0.
        index: usize,
    },
    /// No rule of the tier matched.
    TierDefault(Arc<str>),
    /// No tier is left, or none counts.
    NoTier,
}

/// "Three tiers always exist and can't be changed or deleted": name, order, default action.
const ALWAYS: [(&str, f64, Action); 3] = [
    ("kube-admin", 1_000.0, Action::Pass),
    ("default", 1_000_000.0, Action::Deny),
    ("kube-baseline", 10_000_000.0, Action::Pass),
];

/// What an endpoint's policies say of a packet in one direction.
pub fn judge(objects: &Objects, judged: &EndpointKey, direction: Direction, packet: &Packet) -> Verdict {
    let mut noted = Vec::new();
    // 2. "Tiers in order. A tier counts for this endpoint and direction only if one of its enforced policies selects the
    // endpoint for that direction."
    for (name, tier) in tiers(objects) {
        let policies = policies(objects, &name, judged, direction);
        let counts = policies.iter().any(|(_, rules)| makes_count(rules));
        // 3. "In a tier, policies in order, their rules in order. First match decides. Log notes and goes on. No match in a
        // tier that counts: its `defaultAction`."
        // Where none makes the tier count there are but Log rules, which note all the same.
        let no_match = if counts { tier.default_action } else { Action::Pass };
        let mut decided = (no_match, Decider::TierDefault(name));
        'rules: for (policy, rules) in policies {
            for (index, rule) in rules.iter().enumerate() {
                if !rule::matches(objects, rule, packet) {
                    continue;
                }
                if rule.action == Action::Log {
                    noted.push((policy.clone(), index));
                    continue;
                }
                decided = (rule.action, Decider::Rule { policy: policy.clone(), index });
                break 'rules;
            }
        }
        match decided {
            (Action::Allow, by) => return Verdict { allowed: true, by, noted },
            (Action::Deny, by) => return Verdict { allowed: false, by, noted },
            (Action::Pass | Action::Log, _) => {}
        }
    }
    // 4. "No tier left: allowed."
    Verdict { allowed: true, by: Decider::NoTier, noted }
}

/// Every tier, "order, then name, without an order last". A policy in a tier that is not here is not enforced.
fn tiers(objects: &Objects) -> Vec<(Arc<str>, Tier)> {
    let own = objects.tiers.iter().filter(|(name, _)| ALWAYS.iter().all(|(always, ..)| *always != &***name));
    let mut tiers: Vec<_> = own.map(|(name, tier)| (name.clone(), tier.clone())).collect();
    for (name, order, default_action) in ALWAYS {
        tiers.push((name.into(), Tier { order: Order::new(order), default_action }));
    }
    tiers.sort_by(|a, b| by_order(a.1.order, b.1.order).then_with(|| a.0.cmp(&b.0)));
    tiers
}

/// The rules of a tier's policies that select the endpoint for the direction, "by order, then name, namespace, kind; without
/// an order last".
fn policies<'a>(
    objects: &'a Objects,
    tier: &str,
    judged: &EndpointKey,
    direction: Direction,
) -> Vec<(&'a PolicyKey, &'a [Rule])> {
    let mut found: Vec<(&PolicyKey, &Policy, &[Rule])> = Vec::new();
    for (key, policy) in &objects.policies {
        let rules = match direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        // None: "a direction without rules is untouched", as a `types` or `policyTypes` that leaves it out.
        let Some(rules) = rules else { continue };
        if &*policy.tier == tier && who::contains(objects, &policy.subject, judged) {
            found.push((key, policy, rules));
        }
    }
    found.sort_by(|(a_key, a, _), (b_key, b, _)| {
        by_order(a.order, b.order)
            .then_with(|| a_key.name.cmp(&b_key.name))
            .then_with(|| a_key.namespace.cmp(&b_key.namespace))
            .then_with(|| a_key.kind.cmp(&b_key.kind))
    });
    found.into_iter().map(|(key, _, rules)| (key, rules)).collect()
}

/// "A policy whose rules in a direction are one or more and all Log does not make its tier count (no rules at all does)."
fn makes_count(rules: &[Rule]) -> bool {
    rules.is_empty() || rules.iter().any(|rule| rule.action != Action::Log)
}

/// Lower first, none last.
fn by_order(a: Option<Order>, b: Option<Order>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.get().total_cmp(&b.get()),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}
