//! Random node policies and packets, small enough that rules and packets meet often.

use std::net::IpAddr;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use selvage_nftables::render::{Settings, UnknownPods};
use selvage_nftables::trace::{Conntrack, Packet, Routing, Transport};
use selvage_policy::compiled::{
    Action, AddressTerm, End, Family, GroupId, Masquerade, Member, PortMatch, PortRange, ProfileId, Rule,
    Service, TierStep,
};

use crate::build::{World, ip, member, name_of, net, policy_key};

const PODS: [(&str, [&str; 2]); 3] = [
    ("a", ["10.244.1.10", "fd00:1::10"]),
    ("b", ["10.244.1.11", "fd00:1::11"]),
    ("c", ["10.244.1.12", "fd00:1::12"]),
];
const ADDRESSES: [&str; 15] = [
    "10.244.1.10",
    "10.244.1.11",
    "10.244.1.12",
    "10.244.1.99",
    "10.244.2.10",
    "10.244.2.11",
    "203.0.113.9",
    "224.0.0.251",
    "fd00:1::10",
    "fd00:1::11",
    "fd00:1::99",
    "fd00:2::10",
    "2001:db8::9",
    "fe80::1",
    "ff02::1",
];
const NETS: [&str; 10] = [
    "0.0.0.0/0",
    "10.244.0.0/16",
    "10.244.1.0/28",
    "10.244.2.10/32",
    "203.0.113.0/25",
    "203.0.113.128/25",
    "::/0",
    "fd00:1::/64",
    "2001:db8::/33",
    "2001:db8:8000::/33",
];
/// Addresses, addresses and nets, many addresses, ports, and one that is never complete.
const GROUPS: [u128; 5] = [1, 2, 3, 4, 5];
const POLICIES: [&str; 3] = ["p", "q", "r"];
const PORTS: [u16; 4] = [53, 80, 81, 8472];

pub fn world() -> impl Strategy<Value = World> {
    let policies = vec((vec(rule(), 0..4), vec(rule(), 0..4)), POLICIES.len());
    let profiles = vec((vec(step(), 0..4), vec(step(), 0..3), btree_set(select(PORTS), 0..3)), 2);
    let pods = vec((0u64..9, prop::bool::weighted(0.8), prop::bool::weighted(0.8)), PODS.len());
    let settings = (prop::bool::weighted(0.2), any::<bool>(), prop::option::of((pools(), pools())));
    (policies, profiles, pods, groups(), settings).prop_map(|(policies, profiles, pods, groups, settings)| {
        let mut world = World::new();
        for (name, (ingress, egress)) in POLICIES.iter().zip(policies) {
            world = world.rules(name, ingress, egress);
        }
        for (id, (ingress, egress, ports)) in (1..).zip(profiles) {
            world = world.profile(id, ingress, egress);
            world = world.named_port(id, name_of(6, "web"), &ports.into_iter().collect::<Vec<_>>());
        }
        for ((name, addresses), (profile, known, listed)) in PODS.iter().zip(pods) {
            // Profile 0 allows everything.
            world = world.pod(name, if known { addresses } else { &[] }, profile % 3);
            if profile == 8 {
                world.policy.profiles.remove(&ProfileId(2));
            }
            if !listed {
                world.policy.endpoints.remove(&crate::build::endpoint(name));
            }
        }
        for (id, members) in groups {
            world = world.group(id, members);
        }
        let (open, count_allowed, masquerade) = settings;
        world.policy.masquerade = masquerade.map(|(from, inside)| Masquerade { from, inside });
        let unknown_pods = if open { UnknownPods::Open } else { UnknownPods::Closed };
        world.settings = Settings { unknown_pods, count_allowed, log_group: 32 };
        world
    })
}

fn groups() -> impl Strategy<Value = Vec<(u128, Vec<Member>)>> {
    let addresses = || prop::sample::subsequence(ADDRESSES.to_vec(), 0..6);
    let many = (0u8..=200).prop_map(|n| (0..n).map(|i| member(&format!("10.244.7.{i}"))).collect());
    let ports = vec((select(ADDRESSES), select([6u8, 17, 132]), select(PORTS)), 0..8);
    (addresses(), addresses(), prop::sample::subsequence(NETS[1..].to_vec(), 0..4), many, ports).prop_map(
        |(plain, mixed, nets, mut many, ports): (Vec<&str>, Vec<&str>, Vec<&str>, Vec<Member>, Vec<_>)| {
            many.push(member("10.244.2.10"));
            let ports = ports.into_iter().map(|(a, protocol, port)| Member::Port(ip(a), protocol, port));
            vec![
                (1, plain.into_iter().map(member).collect()),
                (2, mixed.into_iter().chain(nets).map(member).collect()),
                (3, many),
                (4, ports.collect()),
            ]
        },
    )
}

fn step() -> impl Strategy<Value = TierStep> {
    let policies = prop::sample::subsequence(POLICIES.to_vec(), 0..=3);
    (select(["admin", "default"]), select([Action::Deny, Action::Pass]), policies).prop_map(
        |(tier, default_action, policies)| TierStep {
            tier: tier.into(),
            default_action,
            policies: policies.into_iter().map(policy_key).collect(),
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = prop_oneof![
        4 => Just(Action::Allow), 3 => Just(Action::Deny), 2 => Just(Action::Pass), 1 => Just(Action::Log)
    ];
    let family = prop_oneof![4 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))];
    // Rules without conditions are common, so that later rules and tiers are reached and missed alike.
    let services = prop_oneof![2 => Just(vec![]), 2 => vec(vec(service(), 0..3), 1), 1 => vec(vec(service(), 1..3), 2..4)];
    let source = prop_oneof![1 => Just(vec![]), 1 => vec(term(), 0..3)];
    let destination = prop_oneof![2 => Just(vec![]), 1 => vec(term(), 0..2)];
    (action, family, services, source, destination).prop_map(
        |(action, family, services, source, destination)| Rule {
            index: 0,
            action,
            family,
            services,
            source,
            destination,
        },
    )
}

fn term() -> impl Strategy<Value = AddressTerm> {
    let groups = prop_oneof![8 => select([1u128, 2, 3]), 1 => select(GROUPS)];
    (prop::bool::weighted(0.3), prop::sample::subsequence(NETS.to_vec(), 0..3), btree_set(groups, 0..3))
        .prop_map(|(negated, nets, groups)| AddressTerm {
            negated,
            nets: apart(nets),
            groups: groups.into_iter().map(GroupId).collect(),
        })
}

fn pools() -> impl Strategy<Value = Vec<ipnet::IpNet>> {
    prop::sample::subsequence(NETS.to_vec(), 0..5).prop_map(apart)
}

/// Sorted, none inside another, as the compiler hands them over.
fn apart(nets: Vec<&str>) -> Vec<ipnet::IpNet> {
    let mut nets: Vec<ipnet::IpNet> = nets.into_iter().map(net).collect();
    let all = nets.clone();
    nets.retain(|net| !all.iter().any(|other| other != net && other.contains(net)));
    nets.sort();
    nets
}

fn service() -> impl Strategy<Value = Service> {
    let port_match =
        || {
            let range =
                (select(PORTS), 0u16..3).prop_map(|(first, more)| PortRange { first, last: first + more });
            let all = Just(PortRange { first: 0, last: u16::MAX });
            let ranges = vec(prop_oneof![8 => range, 1 => all], 0..3);
            (prop::bool::weighted(0.2), ranges, any::<bool>()).prop_map(|(negated, ranges, named)| {
                PortMatch { negated, ranges, names: if named { vec![name_of(6, "web")] } else { vec![] } }
            })
        };
    let with_ports = (select([6u8, 17, 132]), prop::option::weighted(0.2, port_match()), port_match());
    prop_oneof![
        4 => with_ports.prop_map(|(protocol, source_ports, destination)| Service::Protocol {
            protocol, source_ports, destination_ports: Some(destination)
        }),
        2 => select([1u8, 6, 17, 47, 58]).prop_map(crate::build::protocol),
        1 => select([6u8, 17, 58]).prop_map(Service::NotProtocol),
        1 => (select([1u8, 58]), select([8u8, 128]), prop::option::of(0u8..2), any::<bool>())
            .prop_map(|(protocol, kind, code, negated)| Service::Icmp { protocol, kind, code, negated }),
        2 => prop_oneof![8 => Just(4u128), 1 => select(GROUPS)].prop_flat_map(|id| {
            (select([End::Source, End::Destination]), any::<bool>()).prop_map(move |(end, negated)| Service::Group {
                group: GroupId(id),
                end,
                negated,
            })
        }),
    ]
}

pub fn packet() -> impl Strategy<Value = Packet> {
    let pair = |family: fn(&&str) -> bool| {
        let all: Vec<&str> = ADDRESSES.into_iter().filter(family).collect();
        let pods: Vec<&str> = PODS.iter().flat_map(|(_, addresses)| *addresses).filter(family).collect();
        let either = || prop_oneof![select(pods.clone()), select(all.clone())];
        (either(), either())
    };
    let addresses = prop_oneof![pair(|a| a.contains('.')), pair(|a| a.contains(':'))];
    let way = select([
        ("cni0", "cni0"),
        ("cni0", "eth0"),
        ("eth0", "cni0"),
        ("cni0", ""),
        ("eth0", "eth1"),
        ("", "cni0"),
    ]);
    let connection = prop_oneof![
        8 => Just(Conntrack { state: 8, status: 0, reply: false }),
        1 => Just(Conntrack { state: 8, status: 32, reply: false }),
        1 => Just(Conntrack { state: 2, status: 0, reply: true }),
        1 => Just(Conntrack { state: 4, status: 0, reply: false }),
        1 => Just(Conntrack { state: 1, status: 0, reply: false }),
        1 => Just(Conntrack { state: 64, status: 0, reply: false }),
    ];
    let packet_type = prop_oneof![20 => Just(0u8), 1 => Just(1), 1 => Just(2)];
    let destination_type = prop_oneof![20 => Just(1u32), 1 => Just(3)];
    let routing = (destination_type, prop::bool::weighted(0.8))
        .prop_map(|(destination_type, source_routed)| Routing { destination_type, source_routed });
    (addresses, way, transport(), connection, select([1u8, 64, 255]), packet_type, routing).prop_map(
        |((source, destination), (iif, oif), transport, conntrack, hop_limit, packet_type, routing)| {
            let some = |name: &str| (!name.is_empty()).then(|| name.into());
            Packet {
                iif: some(iif),
                oif: some(oif),
                hop_limit,
                packet_type,
                conntrack,
                routing,
                ..Packet::new("", "", ip(source), ip(destination), fit(transport, ip(source)))
            }
        },
    )
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![
        6 => (select([6u8, 17, 132]), select(PORTS), select(PORTS)).prop_map(|(protocol, source, destination)| {
            Transport::Ports { protocol, source, destination }
        }),
        2 => (select([8u8, 128, 130, 134, 135, 137, 143]), 0u8..2)
            .prop_map(|(kind, code)| Transport::Icmp { protocol: 1, kind, code }),
        1 => select([4u8, 47]).prop_map(Transport::Other),
    ]
}

/// ICMP of the packet's own family, mostly: the other one is a header that means nothing.
fn fit(transport: Transport, source: IpAddr) -> Transport {
    match transport {
        Transport::Icmp { kind, code, .. } if source.is_ipv6() && code == 0 => {
            Transport::Icmp { protocol: 58, kind, code }
        }
        other => other,
    }
}

fn select<T: Clone + std::fmt::Debug + 'static>(items: impl Into<Vec<T>>) -> prop::sample::Select<T> {
    prop::sample::select(items.into())
}
