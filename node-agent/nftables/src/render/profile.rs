//! Dispatch by address, and the chains that judge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::{
    Action, EndpointKey, Family, NodePolicy, PolicyKey, Profile, ProfileId, TierStep,
};

use super::address::GroupSets;
use super::base::names;
use super::expr::{
    address_bytes, address_part, count_drop, family_of, key, points, rule, set_capacity, short_hash,
};
use super::rule::{Place, expand};
use super::{Direction, Groups, LocalFacts, MAX_TIERS, Origin, Problem, Rendered, Settings};
use crate::model::{Chain, Elements, Expr, Key, Name, Set, Verdict};

/// Chains of the profiles in use, and the sets and maps of the endpoints' addresses.
pub(super) fn render(
    policy: &NodePolicy,
    groups: &Groups,
    facts: &LocalFacts,
    settings: &Settings,
    output: &mut Rendered,
) {
    let mut renderer =
        Renderer { policy, settings, sets: GroupSets::new(groups), output, tops: BTreeMap::new() };
    let mut verdicts: BTreeMap<IpAddr, [Verdict; 2]> = BTreeMap::new();
    let mut pairs: BTreeSet<(IpAddr, IpAddr)> = BTreeSet::new();
    let mut claims: BTreeMap<IpAddr, Vec<&EndpointKey>> = BTreeMap::new();
    for (endpoint, wanted) in &policy.endpoints {
        let addresses = usable(endpoint, facts, renderer.output);
        let tops = [Direction::Ingress, Direction::Egress]
            .map(|direction| renderer.top(endpoint, wanted.profile, direction));
        for address in &addresses {
            verdicts.insert(*address, tops.clone());
            claims.entry(*address).or_default().push(endpoint);
            let same_family = addresses.iter().filter(|other| family_of(**other) == family_of(*address));
            pairs.extend(same_family.map(|other| (*address, *other)));
        }
    }
    for (address, endpoints) in claims.into_iter().filter(|(_, endpoints)| endpoints.len() > 1) {
        pairs.retain(|(a, b)| *a != address && *b != address);
        verdicts.insert(address, [Verdict::Drop, Verdict::Drop]);
        let shared = endpoints.into_iter().cloned();
        renderer.output.problems.extend(shared.map(|endpoint| Problem::AddressShared { endpoint, address }));
    }
    for family in [Family::V4, Family::V6] {
        dispatch(family, &verdicts, &pairs, renderer.output);
    }
}

/// The sets and maps that base chains look addresses up in.
fn dispatch(
    family: Family,
    verdicts: &BTreeMap<IpAddr, [Verdict; 2]>,
    pairs: &BTreeSet<(IpAddr, IpAddr)>,
    output: &mut Rendered,
) {
    let part = address_part(family);
    let own: Vec<(Key, &[Verdict; 2])> = verdicts
        .iter()
        .filter(|(address, _)| family_of(**address) == family)
        .filter_map(|(address, verdicts)| Some((key(&[&address_bytes(*address)])?, verdicts)))
        .collect();
    let map = |elements: BTreeMap<Key, Verdict>| Set {
        key: vec![part],
        size: Some(set_capacity(elements.len())),
        elements: Elements::Verdicts(elements),
    };
    let ingress = map(own.iter().map(|(key, [ingress, _])| (*key, ingress.clone())).collect());
    let egress = map(own.iter().map(|(key, [_, egress])| (*key, egress.clone())).collect());
    let pairs = pairs
        .iter()
        .filter(|(a, _)| family_of(*a) == family)
        .filter_map(|(a, b)| key(&[&address_bytes(*a), &address_bytes(*b)]));
    let pairs = points(vec![part, part], pairs);
    output.add_set(&names::own(family), points(vec![part], own.iter().map(|(key, _)| *key)));
    output.add_set(&names::pairs(family), pairs);
    output.add_set(&names::map(Direction::Ingress, family), ingress);
    output.add_set(&names::map(Direction::Egress, family), egress);
}

/// The endpoint's addresses, without those that no pod can have: a link-local one would open what the guard closes.
fn usable(endpoint: &EndpointKey, facts: &LocalFacts, output: &mut Rendered) -> BTreeSet<IpAddr> {
    let addresses = facts.addresses.get(endpoint).into_iter().flatten().copied();
    let (usable, unusable): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = addresses.partition(|a| is_unicast(*a));
    output.problems.extend(
        unusable.into_iter().map(|address| Problem::AddressUnusable { endpoint: endpoint.clone(), address }),
    );
    usable
}

fn is_unicast(address: IpAddr) -> bool {
    let special = address.is_multicast() || address.is_loopback() || address.is_unspecified();
    let family = match address {
        IpAddr::V4(a) => a.is_link_local() || a.octets().first().is_some_and(|b| *b == 0 || *b >= 240),
        IpAddr::V6(a) => a.is_unicast_link_local() || a.to_ipv4_mapped().is_some(),
    };
    !special && !family
}

struct Renderer<'a> {
    policy: &'a NodePolicy,
    settings: &'a Settings,
    sets: GroupSets<'a>,
    output: &'a mut Rendered,
    /// What judges a profile in a direction, once it is rendered.
    tops: BTreeMap<(ProfileId, Direction), Verdict>,
}

impl Renderer<'_> {
    /// What the address maps say for a profile.
    fn top(&mut self, endpoint: &EndpointKey, id: ProfileId, direction: Direction) -> Verdict {
        if let Some(verdict) = self.tops.get(&(id, direction)) {
            return verdict.clone();
        }
        let Some(profile) = self.policy.profiles.get(&id) else {
            self.output.problems.insert(Problem::ProfileMissing { endpoint: endpoint.clone() });
            return Verdict::Drop;
        };
        let verdict = self.profile(id, profile, direction);
        self.tops.insert((id, direction), verdict.clone());
        verdict
    }

    fn profile(&mut self, id: ProfileId, profile: &Profile, direction: Direction) -> Verdict {
        let steps = match direction {
            Direction::Ingress => &profile.ingress,
            Direction::Egress => &profile.egress,
        };
        if steps.len() > MAX_TIERS {
            self.output.problems.insert(Problem::TooManyTiers { profile: id });
            return Verdict::Drop;
        }
        let chains: Vec<Name> = (0..steps.len()).map(|i| chain_name(id, direction, i)).collect();
        for (i, (step, name)) in steps.iter().zip(&chains).enumerate() {
            let pass = chains.get(i + 1).map_or(Verdict::Accept, |next| Verdict::Goto(next.clone()));
            let chain = self.step(name, step, profile, direction, &pass);
            self.output.add_chain(name, chain);
        }
        chains.first().map_or(Verdict::Accept, |first| Verdict::Jump(first.clone()))
    }

    fn step(
        &mut self,
        name: &Name,
        step: &TierStep,
        profile: &Profile,
        direction: Direction,
        pass: &Verdict,
    ) -> Chain {
        let mut chain = Chain::default();
        for key in &step.policies {
            let Some(policy) = self.policy.policies.get(key) else {
                self.output.problems.insert(Problem::PolicyMissing { policy: key.clone() });
                let id =
                    self.id(format!("p-{}-missing", policy_hash(key)), || Origin::MissingPolicy(key.clone()));
                chain.rules.push(rule(id, [count_drop()]));
                continue;
            };
            let rules = match direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let hash = policy_hash(key);
            for same in rules.chunk_by(|a, b| (a.index, a.action) == (b.index, b.action)) {
                let Some(index) = same.first().map(|rule| rule.index) else { continue };
                let id = self.id(format!("p-{hash}-{}-{index}", short(direction)), || Origin::Rule {
                    policy: key.clone(),
                    direction,
                    index,
                });
                let further = format!("{name}-{hash}-{index}");
                let place = Place { policy: key, id, names: &profile.named_ports, pass, chain: &further };
                chain.rules.extend(expand(same, &place, self.settings, &mut self.sets, self.output));
            }
        }
        let tier = step.tier.clone();
        let id = format!("t-{}-{}", short_hash(tier.as_bytes()).get(..16).unwrap_or(""), short(direction));
        let id = self.id(id, || Origin::TierDefault { tier, direction });
        // A default is Deny or Pass; anything else was not understood, and is Deny.
        let expressions = match step.default_action {
            Action::Pass => vec![Expr::Counter, Expr::Verdict(pass.clone())],
            _ => count_drop(),
        };
        chain.rules.push(rule(id, [expressions]));
        chain
    }

    fn id(&mut self, id: String, origin: impl FnOnce() -> Origin) -> Arc<str> {
        let id: Arc<str> = id.into();
        self.output.origins.entry(id.clone()).or_insert_with(origin);
        id
    }
}

fn chain_name(profile: ProfileId, direction: Direction, step: usize) -> Name {
    format!("{}-{profile}-{step}", short(direction)).into()
}

fn short(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "in",
        Direction::Egress => "out",
    }
}

fn policy_hash(key: &PolicyKey) -> String {
    let mut hash = short_hash(format!("{}\n{}\n{}", key.kind, key.namespace, key.name).as_bytes());
    hash.truncate(16);
    hash
}
