//! The rendered text of a handful of policies, under `golden/`. A change here is a change of what nodes enforce.

use selvage_nftables::dump::dump;
use selvage_nftables::model::Mac;
use selvage_nftables::render::Problem;
use selvage_nftables::render::bridge::{Binding, BridgeFacts, bridge, without_lost_pairs};
use selvage_policy::compiled::{
    Action, AddressTerm, Family, GroupId, Masquerade, Member, PortMatch, PortRange, Rule, Service,
};

use crate::build::{
    World, all, in_groups, in_ports, ip, member, name_of, named, nets, not, policy_key, ports, protocol, step,
};

/// The chains and sets of profiles alone: the fixed part has its own file.
fn profiles(world: &World) -> String {
    let rendered = world.render();
    let mut ruleset = rendered.ruleset;
    let fixed = World::new().render().ruleset;
    ruleset.chains.retain(|name, _| !fixed.chains.contains_key(name));
    ruleset.sets.retain(|name, _| !fixed.sets.contains_key(name));
    let problems = rendered.problems.iter().map(|problem| format!("! {problem}\n"));
    dump(&ruleset) + &problems.collect::<String>()
}

fn assert_golden(name: &str, text: String) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// One pod whose ingress is judged by one policy with these rules.
fn ingress(rules: Vec<Rule>) -> World {
    World::new()
        .pod("a", &["10.244.1.10", "fd00:1::10"], 1)
        .profile(1, vec![step("default", Action::Deny, &["p"])], vec![])
        .rules("p", rules, vec![])
}

/// The same for egress.
fn egress(rules: Vec<Rule>) -> World {
    World::new()
        .pod("a", &["10.244.1.10", "fd00:1::10"], 1)
        .profile(1, vec![], vec![step("default", Action::Deny, &["p"])])
        .rules("p", vec![], rules)
}

fn allow(services: Vec<Service>) -> Rule {
    Rule { services: vec![services], ..all(Action::Allow) }
}

#[test]
fn the_fixed_part() {
    let world = ingress(vec![]).pod("b", &["10.244.1.11"], 2);
    let mut ruleset = world.render().ruleset;
    ruleset.chains.retain(|name, _| !name.starts_with("in-"));
    assert_golden("fixed", dump(&ruleset));
}

#[test]
fn the_fixed_part_with_unknown_pods_open() {
    let mut world = World::new();
    world.settings.unknown_pods = selvage_nftables::render::UnknownPods::Open;
    let mut ruleset = world.render().ruleset;
    ruleset.chains.retain(|name, _| &**name != "neighbour");
    assert_golden("fixed-open", dump(&ruleset));
}

#[test]
fn the_table_of_the_bridge_family() {
    let binding = Binding {
        mac: Mac([2, 0, 0, 0, 2, 1]),
        addresses: ["10.244.1.10", "fd00:1::10"].map(|address| address.parse().unwrap()).into(),
    };
    let facts = BridgeFacts {
        foreign_ports: ["veth9".into()].into(),
        ports: [
            ("veth1".into(), binding),
            ("a-name-that-is-too-long".into(), Binding { mac: Mac([2; 6]), addresses: [].into() }),
        ]
        .into(),
        gateway_macs: [Mac([2, 0, 0, 0, 1, 1])].into(),
        gateways: ["10.244.1.1".parse().unwrap()].into(),
    };
    let table = bridge(&facts);
    selvage_nftables::fake::check(&table).unwrap();
    assert_golden("bridge", dump(&table));
    let other = BridgeFacts { ports: [].into(), ..facts };
    let narrowed = without_lost_pairs(&table, &bridge(&other));
    let left = |name: &str| narrowed.sets[name].elements.len();
    assert_eq!(["macs", "bound4", "bound6", "ports", "known4", "known6"].map(left), [0, 0, 0, 1, 2, 2]);
}

#[test]
fn closed_before_anything_is_known() {
    let world = World::new();
    assert_golden("closed", dump(&selvage_nftables::render::closed(&world.facts, &world.settings)));
}

#[test]
fn deny_all_ingress() {
    assert_golden("deny-all-ingress", profiles(&ingress(vec![])));
}

#[test]
fn allow_all_ingress() {
    assert_golden("allow-all-ingress", profiles(&ingress(vec![all(Action::Allow)])));
}

/// An ipBlock with exceptions comes from the compiler as the nets that are left.
#[test]
fn port_80_from_a_block_with_exceptions() {
    let rule = Rule {
        source: vec![nets(&["10.0.0.0/9", "10.192.0.0/10", "192.168.1.0/24"])],
        ..allow(vec![ports(6, &[(80, 80)])])
    };
    assert_golden("port-80-block", profiles(&ingress(vec![rule])));
}

#[test]
fn one_net_needs_no_set() {
    let of = |net: &str| Rule { source: vec![nets(&[net])], ..all(Action::Allow) };
    let rules = vec![of("10.0.0.0/8"), of("10.1.2.3/32"), of("0.0.0.0/0"), of("fd00:1:2::/47"), of("::/0")];
    assert_golden("one-net", profiles(&ingress(rules)));
}

#[test]
fn named_ports_of_the_endpoint() {
    let world = ingress(vec![allow(vec![named(6, "web"), named(17, "dns"), named(6, "nobody")])])
        .named_port(1, name_of(6, "web"), &[8080, 8443])
        .named_port(1, name_of(17, "dns"), &[53]);
    assert_golden("named-ports", profiles(&world));
}

#[test]
fn named_ports_of_peers() {
    let rule = Rule { destination: vec![in_groups(&[1])], ..allow(vec![in_ports(2)]) };
    let world = egress(vec![rule])
        .group(1, [member("10.244.2.10"), member("fd00:2::10")])
        .group(2, [Member::Port(ip("10.244.2.10"), 6, 8080), Member::Port(ip("fd00:2::10"), 17, 53)]);
    assert_golden("named-ports-of-peers", profiles(&world));
}

#[test]
fn port_ranges() {
    let rules = vec![
        allow(vec![ports(6, &[(32_000, 32_768)])]),
        allow(vec![ports(17, &[(53, 53), (5000, 5010)]), ports(17, &[(5011, 5020)])]),
        allow(vec![protocol(132)]),
    ];
    assert_golden("port-ranges", profiles(&ingress(rules)));
}

#[test]
fn icmp_and_no_protocol() {
    let of = |kind, code, negated, protocol| allow(vec![Service::Icmp { protocol, kind, code, negated }]);
    let rules = vec![
        of(8, None, false, 1),
        of(128, Some(0), false, 58),
        of(3, Some(4), true, 1),
        allow(vec![Service::NotProtocol(6)]),
    ];
    assert_golden("icmp", profiles(&ingress(rules)));
}

#[test]
fn groups_of_both_families() {
    let rule = Rule { source: vec![in_groups(&[1])], ..all(Action::Allow) };
    let v6_only = Rule { family: Some(Family::V6), ..rule.clone() };
    let mixed = Rule { source: vec![in_groups(&[2])], ..all(Action::Deny) };
    let world = ingress(vec![rule, v6_only, mixed])
        .group(1, [member("10.244.2.10"), member("fd00:2::10"), member("fd00:2::11")])
        .group(
            2,
            [
                member("203.0.113.0/25"),
                member("203.0.113.128/25"),
                member("203.0.113.9"),
                member("198.51.100.7"),
            ],
        );
    assert_golden("groups", profiles(&world));
}

#[test]
fn tiers_with_pass_and_log() {
    let log = Rule { services: vec![vec![protocol(6)]], ..all(Action::Log) };
    let pass = Rule { source: vec![nets(&["10.0.0.0/8"])], ..all(Action::Pass) };
    let deny = Rule { source: vec![nets(&["192.0.2.0/24"])], ..all(Action::Deny) };
    let steps = vec![
        step("kube-admin", Action::Pass, &["admin"]),
        step("default", Action::Deny, &["p", "missing"]),
        step("kube-baseline", Action::Pass, &["admin"]),
    ];
    let world = World::new()
        .pod("a", &["10.244.1.10"], 1)
        .profile(1, steps, vec![])
        .rules("admin", vec![log, pass.clone(), deny], vec![])
        .rules("p", vec![pass], vec![]);
    assert_golden("tiers", profiles(&world));
}

#[test]
fn negated_terms_and_counters() {
    let rule = Rule {
        source: vec![
            nets(&["10.0.0.0/8"]),
            not(AddressTerm { groups: in_groups(&[1]).groups, ..nets(&["10.1.0.0/16"]) }),
            not(nets(&["192.0.2.0/24", "198.51.100.0/24"])),
        ],
        services: vec![vec![Service::Protocol {
            protocol: 6,
            source_ports: Some(PortMatch {
                negated: true,
                ranges: vec![PortRange { first: 0, last: 1023 }],
                names: vec![],
            }),
            destination_ports: None,
        }]],
        ..all(Action::Allow)
    };
    let mut world = ingress(vec![rule]).group(1, [member("10.244.2.10")]);
    world.settings.count_allowed = true;
    assert_golden("negated", profiles(&world));
}

/// Allow matches nothing, Deny and Pass drop what the rest of the rule matches, and every policy concerned is named.
#[test]
fn an_incomplete_group_closes_its_rules() {
    let of = |action| Rule {
        source: vec![in_groups(&[9])],
        services: vec![vec![ports(6, &[(80, 80)])]],
        ..all(action)
    };
    let rules =
        vec![of(Action::Allow), of(Action::Log), of(Action::Deny), of(Action::Pass), all(Action::Allow)];
    let world = ingress(rules);
    let rendered = world.render();
    let wanted = Problem::GroupIncomplete { policy: policy_key("p"), group: GroupId(9) };
    assert_eq!(rendered.problems.iter().collect::<Vec<_>>(), [&wanted]);
    assert_golden("incomplete-group", profiles(&world));
}

#[test]
fn masquerade_of_what_leaves_the_pools() {
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
    let mut world = World::new();
    world.policy.masquerade = Some(Masquerade {
        from: nets(&["10.244.0.0/16", "fd00:10:244::/56"]),
        inside: nets(&["10.244.0.0/16", "10.245.0.0/24", "fd00:10:244::/56"]),
    });
    assert_golden("masquerade", profiles(&world));
}

/// What can't be rendered is closed and named.
#[test]
fn bad_input_is_closed_and_named() {
    let steps = vec![step("t", Action::Pass, &[]); 13];
    let mut world = World::new()
        .pod("deep", &["10.244.1.10"], 1)
        .profile(1, steps, vec![])
        .pod("lost", &["10.244.1.11"], 2)
        .pod("twin-1", &["10.244.1.12"], 3)
        .pod("twin-2", &["10.244.1.12"], 3)
        .pod("odd", &["fe80::1", "224.0.0.1", "::ffff:10.244.1.13", "10.244.1.14"], 3);
    world.policy.profiles.remove(&selvage_policy::compiled::ProfileId(2));
    world.facts.pod_interfaces.insert("a-name-of-sixteen".into());
    let rendered = world.render();
    let ruleset = dump(&rendered.ruleset);
    let maps: Vec<&str> =
        ruleset.lines().filter(|line| line.starts_with("  10.") && line.contains(" : ")).collect();
    let problems: Vec<String> = rendered.problems.iter().map(ToString::to_string).collect();
    assert_golden("bad-input", format!("{}\n{}\n", maps.join("\n"), problems.join("\n")));
}
