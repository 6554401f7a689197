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
    /// Whether the policy says something of packets to the endpoint.
    pub(crate) ingress: bool,
    /// Whether the policy says something of packets from the endpoint.
    pub(crate) egress: bool,
    /// Names in its ingress rules, which the endpoint resolves.
    pub(crate) names: Box<[NamedPort]>,
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
        if policy.ingress {
            step(&mut profile.ingress, &policy.tier, tier.default_action, &policy.key);
            for name in &policy.names {
                if let Some(ports) = named_ports.get(name) {
                    profile.named_ports.insert(name.clone(), ports.clone());
                }
            }
        }
        if policy.egress {
            step(&mut profile.egress, &policy.tier, tier.default_action, &policy.key);
        }
    }
    profile
}

fn step(steps: &mut Vec<TierStep>, tier: &Arc<str>, default_action: Action, policy: &PolicyKey) {
    match steps.last_mut() {
        Some(last) if last.tier == *tier => last.policies.push(policy.clone()),
        _ => steps.push(TierStep { tier: tier.clone(), default_action, policies: vec![policy.clone()] }),
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
