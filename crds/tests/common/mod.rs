//! Compiled policies for tests: random ones, and one that uses every field.

// Each test file uses its part of this.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_crds::address_group::{Owner, Owners, Slice};
use selvage_policy::compiled::*;

/// Any node policy in canonical form.
pub fn node_policy() -> impl Strategy<Value = NodePolicy> {
    let groups = btree_set(any::<u128>().prop_map(GroupId), 1..5);
    let keys = btree_set(policy_key(), 1..5);
    let ids = btree_set(any::<u64>().prop_map(ProfileId), 1..4);
    (text(), groups, keys, ids).prop_flat_map(|(node, groups, keys, ids)| {
        let known: Vec<GroupId> = groups.iter().copied().collect();
        let key_list: Vec<PolicyKey> = keys.iter().cloned().collect();
        let id_list: Vec<ProfileId> = ids.iter().copied().collect();
        let policies = vec(policy(known).prop_map(Arc::new), keys.len());
        let profiles = vec(profile(key_list), ids.len());
        let endpoints = btree_map(endpoint_key(), endpoint(id_list), 0..4);
        let all = (policies, profiles, endpoints, option::of(masquerade()));
        all.prop_map(move |(policies, profiles, endpoints, masquerade)| NodePolicy {
            node: node.clone(),
            masquerade,
            endpoints,
            profiles: ids.iter().copied().zip(profiles.into_iter().map(Shared::from)).collect(),
            policies: keys.iter().cloned().zip(policies).collect(),
            groups: groups.clone().into(),
        })
    })
}

/// Any slice in canonical form.
pub fn slice() -> impl Strategy<Value = Slice> {
    let addresses = btree_set(net().prop_map(Member::Net), 0..6);
    let ports =
        btree_set((address(), any::<u8>(), any::<u16>()).prop_map(|(a, p, n)| Member::Port(a, p, n)), 0..6);
    let members = prop_oneof![
        addresses.prop_map(|members| (GroupKind::Addresses, members)),
        ports.prop_map(|members| (GroupKind::Ports, members)),
    ];
    (any::<u128>(), any::<u32>(), 0u32..1000, 1u32..1000, members, option::of(vec(any::<u32>(), 6))).prop_map(
        |(group, epoch, index, more, (kind, mut members), hashes)| {
            let owners = hashes.map(|hashes| owners(&mut members, &hashes));
            let (group, count) = (GroupId(group), index + more);
            Slice { group, kind, epoch, index, count, members, owners }
        },
    )
}

/// Owners of some members; others are none any more.
fn owners(members: &mut BTreeSet<Member>, hashes: &[u32]) -> Owners {
    let mut owners = Owners::default();
    for (member, hash) in std::mem::take(members).into_iter().zip(hashes) {
        if hash % 4 == 0 {
            owners.former.insert(member, Owner(*hash));
            continue;
        }
        members.insert(member);
        if hash % 4 > 1 {
            owners.members.insert(member, Owner(*hash));
        }
        if hash % 4 > 2 {
            owners.heirs.insert(member);
        }
    }
    owners
}

/// A policy that uses every field and every kind of value.
pub fn everything() -> NodePolicy {
    let group = |n| GroupId(n);
    let net = |text: &str| text.parse::<IpNet>().expect("a network");
    let key = |kind, namespace: &str, name: &str| PolicyKey {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    };
    let http = NamedPort { protocol: 6, name: "http".into() };
    let ports = |names: &[&NamedPort]| PortMatch {
        negated: true,
        ranges: vec![PortRange { first: 80, last: 80 }, PortRange { first: 8000, last: 8080 }],
        names: names.iter().map(|name| (*name).clone()).collect(),
    };
    let rule = |action| Rule {
        index: 4,
        action,
        family: Some(Family::V6),
        services: vec![vec![
            Service::Protocol { protocol: 17, source_ports: Some(ports(&[])), destination_ports: None },
            Service::NotProtocol(132),
            Service::Icmp { protocol: 1, kind: 8, code: Some(0), negated: true },
            Service::Group { group: group(2), end: End::Source, negated: true },
        ]],
        source: vec![
            AddressTerm { negated: false, nets: vec![net("10.0.0.0/8"), net("fd00::/64")], groups: vec![] },
            AddressTerm { negated: true, nets: vec![], groups: vec![group(1), group(2)] },
        ],
        destination: vec![AddressTerm { negated: true, nets: vec![net("192.168.0.0/24")], groups: vec![] }],
    };
    let mut ingress = rule(Action::Deny);
    ingress.services.push(vec![Service::Protocol {
        protocol: 6,
        source_ports: None,
        destination_ports: Some(ports(&[&http])),
    }]);
    let first = Policy {
        uid: "uid-1".into(),
        generation: 3,
        ingress: vec![ingress],
        egress: vec![rule(Action::Pass), rule(Action::Log)],
    };
    let second = Policy {
        uid: "uid-2".into(),
        generation: 1,
        ingress: vec![Rule { family: None, services: vec![], source: vec![], ..rule(Action::Allow) }],
        egress: vec![],
    };
    let (a, b) =
        (key(PolicyKind::NetworkPolicy, "dev", "web"), key(PolicyKind::ClusterNetworkPolicy, "", "base"));
    let step =
        |tier: &str, default_action, policies| TierStep { tier: tier.into(), default_action, policies };
    let profile = Profile {
        ingress: vec![
            step("default", Action::Deny, vec![a.clone()]),
            step("kube-baseline", Action::Pass, vec![b.clone()]),
        ],
        egress: vec![step("default", Action::Deny, vec![a.clone()])],
        named_ports: BTreeMap::from([(http, [80, 8080].into())]),
    };
    let endpoint = |uid: &str, profile, addresses: &[&str]| Endpoint {
        uid: uid.into(),
        profile: ProfileId(profile),
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
    };
    let pod = |name: &str| EndpointKey { namespace: "dev".into(), name: name.into() };
    NodePolicy {
        node: "node-1".into(),
        endpoints: BTreeMap::from([
            (pod("web-1"), endpoint("uid-web-1", 7, &["10.244.1.2", "fd00:10:244:1::2"])),
            (pod("web-2"), endpoint("uid-web-2", 8, &[])),
        ]),
        profiles: [(ProfileId(7), profile.into()), (ProfileId(8), Shared::default())].into(),
        policies: [(a, Arc::new(first)), (b, Arc::new(second))].into(),
        groups: [group(1), group(2)].into(),
        masquerade: Some(Masquerade {
            from: vec![net("10.244.0.0/16")],
            inside: vec![net("10.244.0.0/16"), net("fd00::/64")],
        }),
    }
}

/// A slice of each kind.
pub fn slices() -> [Slice; 2] {
    let slice = |kind, members: [Member; 2], former| Slice {
        group: GroupId(1),
        kind,
        epoch: 4,
        index: 1,
        count: 3,
        members: members.into(),
        owners: Some(Owners {
            members: [(members[0], Owner(0xab))].into(),
            former: [(former, Owner(0xcd))].into(),
            heirs: [members[0]].into(),
        }),
    };
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    [
        slice(
            GroupKind::Addresses,
            [Member::Net(address("10.244.1.2").into()), Member::Net("fd00::/64".parse().expect("a network"))],
            Member::Net(address("10.244.1.3").into()),
        ),
        slice(
            GroupKind::Ports,
            [Member::Port(address("10.244.1.2"), 6, 80), Member::Port(address("fd00::2"), 17, 53)],
            Member::Port(address("10.244.1.3"), 6, 80),
        ),
    ]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    // Short, so that names meet; some of them longer than ASCII.
    "[a-cä]{1,3}".prop_map(Arc::from)
}

fn policy_key() -> impl Strategy<Value = PolicyKey> {
    let kinds = select(vec![
        PolicyKind::NetworkPolicy,
        PolicyKind::ClusterNetworkPolicy,
        PolicyKind::GlobalNetworkPolicy,
        PolicyKind::SelvageNetworkPolicy,
    ]);
    (kinds, prop_oneof![Just(Arc::from("")), text()], text()).prop_map(|(kind, namespace, name)| PolicyKey {
        kind,
        namespace,
        name,
    })
}

fn endpoint_key() -> impl Strategy<Value = EndpointKey> {
    (text(), text()).prop_map(|(namespace, name)| EndpointKey { namespace, name })
}

fn endpoint(profiles: Vec<ProfileId>) -> impl Strategy<Value = Endpoint> {
    (text(), select(profiles), btree_set(address(), 0..3)).prop_map(|(uid, profile, addresses)| Endpoint {
        uid,
        profile,
        addresses: addresses.into_iter().collect(),
    })
}

fn profile(keys: Vec<PolicyKey>) -> impl Strategy<Value = Profile> {
    let named_ports = btree_map(named_port(), btree_set(any::<u16>(), 0..3), 0..3);
    (vec(step(keys.clone()), 0..3), vec(step(keys), 0..3), named_ports)
        .prop_map(|(ingress, egress, named_ports)| Profile { ingress, egress, named_ports })
}

fn step(keys: Vec<PolicyKey>) -> impl Strategy<Value = TierStep> {
    (text(), select(vec![Action::Deny, Action::Pass]), vec(select(keys), 0..4))
        .prop_map(|(tier, default_action, policies)| TierStep { tier, default_action, policies })
}

fn policy(groups: Vec<GroupId>) -> impl Strategy<Value = Policy> {
    (text(), any::<i64>(), vec(rule(groups.clone(), true), 0..3), vec(rule(groups, false), 0..3))
        .prop_map(|(uid, generation, ingress, egress)| Policy { uid, generation, ingress, egress })
}

fn rule(groups: Vec<GroupId>, ingress: bool) -> impl Strategy<Value = Rule> {
    let actions = select(vec![Action::Allow, Action::Deny, Action::Pass, Action::Log]);
    let family = option::of(select(vec![Family::V4, Family::V6]));
    let services = vec(vec(service(groups.clone(), ingress), 0..3), 0..3);
    (0u32..4, actions, family, services, vec(term(groups.clone()), 0..3), vec(term(groups), 0..3)).prop_map(
        |(index, action, family, services, source, destination)| Rule {
            index,
            action,
            family,
            services,
            source,
            destination,
        },
    )
}

fn service(groups: Vec<GroupId>, ingress: bool) -> impl Strategy<Value = Service> {
    let with_ports =
        (select(vec![6u8, 17, 132]), option::of(port_match(false)), option::of(port_match(ingress)));
    prop_oneof![
        with_ports.prop_map(|(protocol, source_ports, destination_ports)| Service::Protocol {
            protocol,
            source_ports,
            destination_ports
        }),
        any::<u8>().prop_map(|protocol| Service::Protocol {
            protocol,
            source_ports: None,
            destination_ports: None
        }),
        any::<u8>().prop_map(Service::NotProtocol),
        (select(vec![1u8, 58]), any::<u8>(), option::of(any::<u8>()), any::<bool>())
            .prop_map(|(protocol, kind, code, negated)| Service::Icmp { protocol, kind, code, negated }),
        (select(groups), select(vec![End::Source, End::Destination]), any::<bool>())
            .prop_map(|(group, end, negated)| Service::Group { group, end, negated }),
    ]
}

fn port_match(names_resolve: bool) -> impl Strategy<Value = PortMatch> {
    let names = vec(named_port(), if names_resolve { 0..3 } else { 0..1 });
    (any::<bool>(), btree_set(any::<u16>(), 0..7), names).prop_map(|(negated, bounds, names)| {
        let bounds: Vec<u16> = bounds.into_iter().collect();
        let ranges = bounds
            .chunks(2)
            .map(|pair| PortRange { first: pair[0], last: *pair.last().expect("a chunk is not empty") });
        PortMatch { negated, ranges: ranges.collect(), names }
    })
}

fn named_port() -> impl Strategy<Value = NamedPort> {
    (any::<u8>(), text()).prop_map(|(protocol, name)| NamedPort { protocol, name })
}

fn term(groups: Vec<GroupId>) -> impl Strategy<Value = AddressTerm> {
    (any::<bool>(), nets(), btree_set(select(groups), 0..3)).prop_map(|(negated, nets, groups)| AddressTerm {
        negated,
        nets,
        groups: groups.into_iter().collect(),
    })
}

fn masquerade() -> impl Strategy<Value = Masquerade> {
    (nets(), nets()).prop_map(|(from, inside)| Masquerade { from, inside })
}

fn nets() -> impl Strategy<Value = Vec<IpNet>> {
    vec(net(), 0..4).prop_map(|nets| {
        let mut nets = IpNet::aggregate(&nets);
        nets.sort();
        nets
    })
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0u8..=128).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length.min(32) } else { length };
        let net = IpNet::new(address, length).expect("a prefix length of the family").trunc();
        // Masking an IPv6 address may leave an IPv4-mapped one, which is no network here.
        if net.addr().to_canonical() == net.addr() { net } else { IpNet::from(IpAddr::from([0u8; 4])) }
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)));
    prop_oneof![v4, v6].prop_map(|address| address.to_canonical())
}
