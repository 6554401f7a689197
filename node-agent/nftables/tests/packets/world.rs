//! What a test wants enforced: a node policy over the bed's pods, its groups, and what the node knows by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use selvage_nftables::model::Ruleset;
use selvage_nftables::render::{Groups, LocalFacts, Settings, render};
use selvage_policy::compiled::{
    Action, AddressTerm, Endpoint, EndpointKey, GroupId, Member, NamedPort, NodePolicy, Policy, PolicyKey,
    PolicyKind, PortMatch, PortRange, Profile, ProfileId, Rule, Service, TierStep,
};

use crate::bed::{Addresses, Host};

/// Everything that is rendered.
#[derive(Clone)]
pub struct World {
    pub policy: NodePolicy,
    groups: Groups,
    pub facts: LocalFacts,
    pub settings: Settings,
}

/// A direction's rules: None where no policy selects the pod.
pub type Rules = Option<Vec<Rule>>;

impl World {
    /// These pods are known, and selected by nothing.
    pub fn of(pods: &[Host<'_>]) -> Self {
        let mut world = Self {
            policy: NodePolicy::default(),
            groups: BTreeMap::new(),
            facts: LocalFacts::default(),
            settings: Settings::default(),
        };
        world.policy.node = "node".into();
        world.facts.pod_interfaces = BTreeSet::from(["cni0".into()]);
        for pod in pods {
            world.add(pod.name, pod.addresses);
        }
        world
    }

    /// One more pod, selected by nothing.
    pub fn add(&mut self, name: &str, addresses: Addresses) {
        let profile = self.store(Profile::default());
        let endpoint = Endpoint { uid: name.into(), profile, addresses: addresses.both().to_vec() };
        self.policy.endpoints.insert(key(name), endpoint);
        self.facts.addresses.insert(key(name), BTreeSet::from(addresses.both()));
    }

    /// The pod is gone.
    pub fn remove(&mut self, name: &str) {
        self.policy.endpoints.remove(&key(name));
        self.facts.addresses.remove(&key(name));
    }

    /// The pod is selected by one policy with these rules, in the tier whose default is to deny.
    pub fn select(&mut self, pod: Host<'_>, ingress: Rules, egress: Rules) {
        let mut step = |direction: &str, rules: Rules| {
            let rules = rules?;
            let name = format!("{} {direction}", pod.name);
            Some(TierStep {
                tier: "default".into(),
                default_action: Action::Deny,
                policies: vec![self.policy(&name, rules)],
            })
        };
        let ingress: Vec<_> = step("ingress", ingress).into_iter().collect();
        let egress: Vec<_> = step("egress", egress).into_iter().collect();
        self.judge(pod, Profile { ingress, egress, named_ports: BTreeMap::new() });
    }

    /// The pod is judged by this profile.
    pub fn judge(&mut self, pod: Host<'_>, profile: Profile) {
        let profile = self.store(profile);
        self.policy.endpoints.get_mut(&key(pod.name)).unwrap().profile = profile;
    }

    /// Gives every profile another name, so that its chains are others too.
    pub fn rename_profiles(&mut self, by: u64) {
        let shift = |id: ProfileId| ProfileId(id.0 + (by << 8));
        let profiles = std::mem::take(&mut self.policy.profiles);
        self.policy.profiles = profiles.into_iter().map(|(id, profile)| (shift(id), profile)).collect();
        for endpoint in self.policy.endpoints.values_mut() {
            endpoint.profile = shift(endpoint.profile);
        }
    }

    /// A policy with these rules for both directions.
    pub fn policy(&mut self, name: &str, rules: Vec<Rule>) -> PolicyKey {
        let key =
            PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "default".into(), name: name.into() };
        let rules: Vec<Rule> = (0..).zip(rules).map(|(index, rule)| Rule { index, ..rule }).collect();
        let policy = Policy { uid: name.into(), generation: 1, ingress: rules.clone(), egress: rules };
        self.policy.policies.insert(key.clone(), Arc::new(policy));
        key
    }

    /// A group of these members.
    pub fn group(&mut self, members: impl IntoIterator<Item = Member>) -> GroupId {
        let id = GroupId(self.groups.len() as u128 + 1);
        self.groups.insert(id, members.into_iter().collect());
        self.policy.groups.insert(id);
        id
    }

    /// A group of these hosts' addresses.
    pub fn group_of(&mut self, hosts: &[Host<'_>]) -> GroupId {
        let addresses: Vec<_> = hosts.iter().flat_map(|host| host.addresses.both()).collect();
        self.group(addresses.into_iter().map(|address| Member::Net(address.into())))
    }

    /// The ruleset for all this; everything in it must be understood.
    pub fn ruleset(&self) -> Ruleset {
        let rendered = render(&self.policy, &self.groups, &self.facts, &self.settings);
        assert!(rendered.problems.is_empty(), "{:?}", rendered.problems);
        rendered.ruleset
    }

    fn store(&mut self, profile: Profile) -> ProfileId {
        let known = self.policy.profiles.iter().find(|(_, known)| ***known == profile);
        let id = known.map_or(ProfileId(self.policy.profiles.len() as u64 + 1), |(id, _)| *id);
        self.policy.profiles.insert(id, profile.into());
        id
    }
}

fn key(pod: &str) -> EndpointKey {
    EndpointKey { namespace: "default".into(), name: pod.into() }
}

/// A rule that matches everything.
pub fn rule(action: Action) -> Rule {
    Rule { index: 0, action, family: None, services: Vec::new(), source: Vec::new(), destination: Vec::new() }
}

/// An Allow rule that matches everything.
pub fn allow() -> Rule {
    rule(Action::Allow)
}

/// Narrowing a rule, in the order in which one says it.
pub trait Narrow {
    fn from(self, term: AddressTerm) -> Rule;
    fn to(self, term: AddressTerm) -> Rule;
    fn on(self, service: Service) -> Rule;
}

impl Narrow for Rule {
    fn from(mut self, term: AddressTerm) -> Rule {
        self.source.push(term);
        self
    }

    fn to(mut self, term: AddressTerm) -> Rule {
        self.destination.push(term);
        self
    }

    fn on(mut self, service: Service) -> Rule {
        match self.services.as_mut_slice() {
            [any, ..] => any.push(service),
            [] => self.services.push(vec![service]),
        }
        self
    }
}

/// Any of these networks.
pub fn nets(nets: &[&str]) -> AddressTerm {
    let mut nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
    nets.sort();
    AddressTerm { negated: false, nets, groups: Vec::new() }
}

/// This host alone.
pub fn host(host: Host<'_>) -> AddressTerm {
    let mut nets: Vec<IpNet> = host.addresses.both().map(IpAddr::into).into();
    nets.sort();
    AddressTerm { negated: false, nets, groups: Vec::new() }
}

/// Members of the group.
pub fn members(group: GroupId) -> AddressTerm {
    AddressTerm { negated: false, nets: Vec::new(), groups: vec![group] }
}

/// The opposite.
pub fn not(mut term: AddressTerm) -> AddressTerm {
    term.negated = !term.negated;
    term
}

/// A protocol, whatever the ports.
pub fn protocol(protocol: u8) -> Service {
    Service::Protocol { protocol, source_ports: None, destination_ports: None }
}

/// A protocol and the destination ports.
pub fn ports(protocol: u8, first: u16, last: u16) -> Service {
    let ports = PortMatch { negated: false, ranges: vec![PortRange { first, last }], names: Vec::new() };
    Service::Protocol { protocol, source_ports: None, destination_ports: Some(ports) }
}

/// A protocol and a port's name.
pub fn named(protocol: u8, name: &str) -> Service {
    let names = vec![NamedPort { protocol, name: name.into() }];
    let ports = PortMatch { negated: false, ranges: Vec::new(), names };
    Service::Protocol { protocol, source_ports: None, destination_ports: Some(ports) }
}
