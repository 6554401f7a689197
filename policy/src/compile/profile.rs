//! From the policies that select an endpoint to its profile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::compiled::{Action, NamedPort, PolicyKey, Profile, ProfileId, TierStep};
use crate::model::Order;
use crate::tier::Tiers;

/// What a profile needs to know of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    pub(crate) key: PolicyKey,
    /// The tier's name.
    pub(crate) tier: Arc<str>,
    /// The place in the tier.
    pub(crate) order: Option<Order>,
    /// What the policy says of packets to the endpoint.
    pub(crate) ingress: Says,
    /// What the policy says of packets from the endpoint.
    pub(crate) egress: Says,
    /// Names in its ingress rules, which the endpoint resolves.
    pub(crate) names: Box<[NamedPort]>,
}

/// What a policy says of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// Nothing.
    Nothing,
    /// It logs, and its tier does not count for that.
    Logs,
    /// It decides.
    Decides,
}

/// The profile of an endpoint that these policies select. Those in a missing tier do not count.
pub(crate) fn profile<'a>(
    policies: impl Iterator<Item = &'a Placement>,
    tiers: &Tiers,
    named_ports: &BTreeMap<NamedPort, BTreeSet<u16>>,
) -> Profile {
    let mut placed: Vec<_> = policies.filter_map(|policy| Some((tiers.get(&policy.tier)?, policy))).collect();
    placed.sort_unstable_by_key(|(tier, policy)| {
        let Placement { key, order, .. } = policy;
        // Where there is no order, last.
        let place = (order.is_none(), *order, &key.name, &key.namespace, key.kind);
        ((tier.order.is_none(), tier.order, &policy.tier), place)
    });
    let mut profile = Profile::default();
    for (tier, policy) in placed {
        if policy.ingress != Says::Nothing {
            step(&mut profile.ingress, tier.default_action, policy, policy.ingress);
            for name in &policy.names {
                if let Some(ports) = named_ports.get(name) {
                    profile.named_ports.insert(name.clone(), ports.clone());
                }
            }
        }
        if policy.egress != Says::Nothing {
            step(&mut profile.egress, tier.default_action, policy, policy.egress);
        }
    }
    profile
}

fn step(steps: &mut Vec<TierStep>, default_action: Action, policy: &Placement, says: Says) {
    if steps.last().is_none_or(|last| last.tier != policy.tier) {
        // Until a policy decides, the tier does not count: nothing of it stops a packet.
        let tier = policy.tier.clone();
        steps.push(TierStep { tier, default_action: Action::Pass, policies: Vec::new() });
    }
    let Some(step) = steps.last_mut() else { return };
    step.policies.push(policy.key.clone());
    if says == Says::Decides {
        step.default_action = default_action;
    }
}

/// 64 bits of BLAKE3 over the profile's content.
pub(crate) fn profile_id(profile: &Profile) -> ProfileId {
    let mut hasher = blake3::Hasher::new();
    for steps in [&profile.ingress, &profile.egress] {
        number(&mut hasher, steps.len());
        for step in steps {
            text(&mut hasher, &step.tier);
            number(&mut hasher, step.default_action as usize);
            number(&mut hasher, step.policies.len());
            for key in &step.policies {
                number(&mut hasher, key.kind as usize);
                text(&mut hasher, &key.namespace);
                text(&mut hasher, &key.name);
            }
        }
    }
    for (name, ports) in &profile.named_ports {
        hasher.update(&[name.protocol]);
        text(&mut hasher, &name.name);
        number(&mut hasher, ports.len());
        for port in ports {
            hasher.update(&port.to_be_bytes());
        }
    }
    let mut bytes = [0; 8];
    hasher.finalize_xof().fill(&mut bytes);
    ProfileId(u64::from_be_bytes(bytes))
}

fn text(hasher: &mut blake3::Hasher, text: &str) {
    number(hasher, text.len());
    hasher.update(text.as_bytes());
}

fn number(hasher: &mut blake3::Hasher, number: usize) {
    hasher.update(&(number as u64).to_be_bytes());
}
