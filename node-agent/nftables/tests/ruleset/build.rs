//! Short ways to write compiled policies and packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use selvage_nftables::render::{Groups, LocalFacts, Rendered, Settings, render};
use selvage_nftables::trace::Transport;
use selvage_policy::compiled::{
    Action, AddressTerm, End, Endpoint, EndpointKey, GroupId, Member, NamedPort, NodePolicy, Policy,
    PolicyKey, PolicyKind, PortMatch, PortRange, ProfileId, Rule, Service, TierStep,
};

/// Everything that is rendered.
#[derive(Debug, Clone)]
pub struct World {
    pub policy: NodePolicy,
    pub groups: Groups,
    pub facts: LocalFacts,
    pub settings: Settings,
}

impl World {
    /// Nothing but the pod bridge.
    pub fn new() -> Self {
        Self {
            policy: NodePolicy { node: "node-1".into(), ..NodePolicy::default() },
            groups: Groups::new(),
            facts: LocalFacts { pod_interfaces: BTreeSet::from(["cni0".into()]), ..LocalFacts::default() },
            settings: Settings::default(),
        }
    }

    /// A pod with addresses, judged by a profile.
    pub fn pod(mut self, name: &str, addresses: &[&str], profile: u64) -> Self {
        let key = endpoint(name);
        let addresses: BTreeSet<IpAddr> = addresses.iter().map(|a| ip(a)).collect();
        let wanted = Endpoint {
            uid: name.into(),
            profile: ProfileId(profile),
            addresses: addresses.iter().copied().collect(),
        };
        self.policy.endpoints.insert(key.clone(), wanted);
        self.policy.profiles.entry(ProfileId(profile)).or_default();
        self.facts.addresses.insert(key, addresses);
        self
    }

    /// A profile's steps.
    pub fn profile(mut self, id: u64, ingress: Vec<TierStep>, egress: Vec<TierStep>) -> Self {
        let profile = self.policy.profiles.entry(ProfileId(id)).or_default();
        profile.ingress = ingress;
        profile.egress = egress;
        self
    }

    /// A named port of a profile.
    pub fn named_port(mut self, id: u64, name: NamedPort, ports: &[u16]) -> Self {
        let profile = self.policy.profiles.entry(ProfileId(id)).or_default();
        profile.named_ports.insert(name, ports.iter().copied().collect());
        self
    }

    /// A policy's rules, as they stand in its object.
    pub fn rules(self, name: &str, ingress: Vec<Rule>, egress: Vec<Rule>) -> Self {
        let numbered =
            |rules: Vec<Rule>| (0..).zip(rules).map(|(index, rule)| Rule { index, ..rule }).collect();
        self.cut_rules(name, numbered(ingress), numbered(egress))
    }

    /// A policy's rules, of which each says itself where it comes from.
    pub fn cut_rules(mut self, name: &str, ingress: Vec<Rule>, egress: Vec<Rule>) -> Self {
        let policy = Policy { uid: name.into(), generation: 1, ingress, egress };
        self.policy.policies.insert(policy_key(name), Arc::new(policy));
        self
    }

    /// A complete group.
    pub fn group(mut self, id: u128, members: impl IntoIterator<Item = Member>) -> Self {
        self.groups.insert(GroupId(id), members.into_iter().collect());
        self
    }

    pub fn render(&self) -> Rendered {
        render(&self.policy, &self.groups, &self.facts, &self.settings)
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn member(text: &str) -> Member {
    Member::Net(text.parse().unwrap_or_else(|_| IpNet::from(ip(text))))
}

pub fn endpoint(name: &str) -> EndpointKey {
    EndpointKey { namespace: "shop".into(), name: name.into() }
}

pub fn policy_key(name: &str) -> PolicyKey {
    PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: name.into() }
}

pub fn step(tier: &str, default_action: Action, policies: &[&str]) -> TierStep {
    TierStep { tier: tier.into(), default_action, policies: policies.iter().map(|p| policy_key(p)).collect() }
}

/// A rule without conditions.
pub fn all(action: Action) -> Rule {
    Rule { index: 0, action, family: None, services: vec![], source: vec![], destination: vec![] }
}

pub fn nets(nets: &[&str]) -> AddressTerm {
    AddressTerm { negated: false, nets: nets.iter().map(|n| net(n)).collect(), groups: vec![] }
}

pub fn in_groups(groups: &[u128]) -> AddressTerm {
    AddressTerm { negated: false, nets: vec![], groups: groups.iter().map(|g| GroupId(*g)).collect() }
}

pub fn not(term: AddressTerm) -> AddressTerm {
    AddressTerm { negated: true, ..term }
}

pub fn protocol(protocol: u8) -> Service {
    Service::Protocol { protocol, source_ports: None, destination_ports: None }
}

/// The destination is in a group of ports.
pub fn in_ports(group: u128) -> Service {
    Service::Group { group: GroupId(group), end: End::Destination, negated: false }
}

pub fn ports(protocol: u8, ranges: &[(u16, u16)]) -> Service {
    let ranges = ranges.iter().map(|(first, last)| PortRange { first: *first, last: *last }).collect();
    let ports = PortMatch { negated: false, ranges, names: vec![] };
    Service::Protocol { protocol, source_ports: None, destination_ports: Some(ports) }
}

pub fn named(protocol: u8, name: &str) -> Service {
    let ports = PortMatch { negated: false, ranges: vec![], names: vec![name_of(protocol, name)] };
    Service::Protocol { protocol, source_ports: None, destination_ports: Some(ports) }
}

pub fn name_of(protocol: u8, name: &str) -> NamedPort {
    NamedPort { protocol, name: name.into() }
}

pub fn tcp(destination: u16) -> Transport {
    Transport::Ports { protocol: 6, source: 40_000, destination }
}

pub fn udp(destination: u16) -> Transport {
    Transport::Ports { protocol: 17, source: 40_000, destination }
}

/// The addresses of all pods, with their pod.
pub fn owners(world: &World) -> BTreeMap<IpAddr, EndpointKey> {
    let known = world.facts.addresses.iter().filter(|(key, _)| world.policy.endpoints.contains_key(*key));
    known.flat_map(|(key, addresses)| addresses.iter().map(|a| (*a, key.clone()))).collect()
}
