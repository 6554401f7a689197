//! What the ruleset does to a packet is what the compiled policy says of it.

use proptest::prelude::*;
use selvage_nftables::fake::check;
use selvage_nftables::render::Origin;
use selvage_nftables::trace::{Packet, Transport, trace};
use selvage_policy::compiled::{Action, PortMatch, PortRange, Rule, Service};

use crate::build::{World, all, in_groups, in_ports, ip, member, ports, step, tcp, udp};
use crate::{oracle, random};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ruleset_does_what_the_policy_says(
        world in random::world(), packets in proptest::collection::vec(random::packet(), 40)
    ) {
        let rendered = world.render();
        check(&rendered.ruleset).unwrap();
        for packet in &packets {
            let trace = trace(&rendered.ruleset, packet).unwrap();
            prop_assert_eq!(trace.accepted, oracle::passes(&world, packet), "{:?}\n{:?}", packet, trace);
            prop_assert_eq!(trace.masqueraded, oracle::masquerades(&world, packet), "{:?}\n{:?}", packet, trace);
            for step in trace.steps.iter().filter(|s| s.rule.starts_with("p-") || s.rule.starts_with("t-")) {
                prop_assert!(rendered.origins.contains_key(&step.rule), "{} has no origin", step.rule);
            }
        }
    }

    #[test]
    fn equal_input_gives_an_equal_ruleset(world in random::world()) {
        prop_assert_eq!(world.render(), world.clone().render());
    }
}

/// 1 is ICMP in IPv4 alone, and 58 in IPv6 alone: in the other family the number is another protocol's.
#[rstest::rstest]
#[case::icmp_in_ipv4(1, "10.244.1.10", "10.244.1.11", true)]
#[case::icmp_in_ipv6(1, "fd00:1::10", "fd00:1::11", false)]
#[case::icmpv6_in_ipv4(58, "10.244.1.10", "10.244.1.11", false)]
#[case::icmpv6_in_ipv6(58, "fd00:1::10", "fd00:1::11", true)]
fn a_deny_of_all_but_icmp_stops_its_number_in_the_other_family(
    #[case] protocol: u8,
    #[case] from: &str,
    #[case] to: &str,
    #[case] passes: bool,
) {
    let deny = Rule { services: vec![vec![Service::NotProtocol(protocol)]], ..all(Action::Deny) };
    let world = World::new()
        .pod("a", &["10.244.1.10", "fd00:1::10"], 1)
        .pod("b", &["10.244.1.11", "fd00:1::11"], 2)
        .profile(2, vec![step("default", Action::Deny, &["p"])], vec![])
        .rules("p", vec![deny, all(Action::Allow)], vec![]);
    let rendered = world.render();
    check(&rendered.ruleset).unwrap();
    let packet = Packet::new("cni0", "cni0", ip(from), ip(to), Transport::Other(protocol));
    assert_eq!(trace(&rendered.ruleset, &packet).unwrap().accepted, passes);
    assert_eq!(oracle::passes(&world, &packet), passes);
}

/// A port that is excepted alone is looked at by itself, not in a set.
#[rstest::rstest]
#[case::below(79, true)]
#[case::the_one(80, false)]
#[case::above(81, true)]
fn one_port_that_is_excepted_is_not_allowed(#[case] port: u16, #[case] passes: bool) {
    let ports = PortMatch { negated: true, ranges: vec![PortRange { first: 80, last: 80 }], names: vec![] };
    let service = Service::Protocol { protocol: 6, source_ports: None, destination_ports: Some(ports) };
    let allow = Rule { services: vec![vec![service]], ..all(Action::Allow) };
    let world = World::new()
        .pod("a", &["10.244.1.10"], 1)
        .pod("b", &["10.244.1.11"], 2)
        .profile(2, vec![step("default", Action::Deny, &["p"])], vec![])
        .rules("p", vec![allow], vec![]);
    let packet = Packet::new("cni0", "cni0", ip("10.244.1.10"), ip("10.244.1.11"), tcp(port));
    assert_eq!(trace(&world.render().ruleset, &packet).unwrap().accepted, passes);
}

/// Nobody can tell whose it is: it is closed both ways, even where no policy selects either.
#[test]
fn an_address_that_two_pods_claim_is_closed() {
    let world = World::new().pod("a", &["10.244.1.10"], 1).pod("b", &["10.244.1.10"], 1).pod(
        "c",
        &["10.244.1.12"],
        1,
    );
    let rendered = world.render();
    let passes = |from: &str, to: &str| {
        let packet = Packet::new("cni0", "cni0", ip(from), ip(to), tcp(80));
        trace(&rendered.ruleset, &packet).unwrap().accepted
    };
    assert!(!passes("10.244.1.10", "10.244.1.12"));
    assert!(!passes("10.244.1.12", "10.244.1.10"));
    let alone = World::new().pod("a", &["10.244.1.10"], 1).pod("c", &["10.244.1.12"], 1).render();
    let packet = Packet::new("cni0", "cni0", ip("10.244.1.10"), ip("10.244.1.12"), tcp(80));
    assert!(trace(&alone.ruleset, &packet).unwrap().accepted, "one that claims it alone is not");
}

/// What a packet to pod b is noted by, and how often.
fn noted(rules: Vec<Rule>, transport: Transport) -> Vec<String> {
    let world = World::new()
        .pod("a", &["10.244.1.10"], 1)
        .pod("b", &["10.244.1.11"], 2)
        .profile(2, vec![step("default", Action::Deny, &["p"])], vec![])
        .cut_rules("p", rules, vec![])
        .group(1, [member("10.244.1.10")])
        .group(2, [member("10.244.0.0/16")]);
    let rendered = world.render();
    check(&rendered.ruleset).unwrap();
    let packet = Packet::new("cni0", "cni0", ip("10.244.1.10"), ip("10.244.1.11"), transport);
    let trace = trace(&rendered.ruleset, &packet).unwrap();
    assert!(trace.accepted, "a note decides nothing: {trace:#?}");
    let origin = |id| match &rendered.origins[id] {
        Origin::Rule { index, .. } => index.to_string(),
        other => format!("{other:?}"),
    };
    trace.logged.iter().map(origin).collect()
}

fn log(index: u32) -> Rule {
    Rule { index, ..all(Action::Log) }
}

fn allow(index: u32) -> Rule {
    Rule { index, ..all(Action::Allow) }
}

#[test]
fn a_packet_is_noted_once_whichever_of_a_rules_alternatives_it_meets() {
    let from = |groups: &[u128]| vec![in_groups(groups)];
    let both = Rule { source: from(&[1, 2]), ..log(0) };
    assert_eq!(noted(vec![both.clone(), allow(1)], tcp(80)), ["0"]);
    let more = Rule { services: vec![vec![ports(6, &[(80, 80)]), in_ports(3)]], ..log(0) };
    assert_eq!(noted(vec![more, allow(1)], udp(80)), Vec::<String>::new());
    // One rule of the object, cut in two by the compiler, and one more of its own.
    let cut = |group| Rule { source: from(&[group]), ..log(3) };
    let rules = vec![cut(1), cut(2), Rule { source: from(&[2]), ..log(4) }, allow(5)];
    assert_eq!(noted(rules, tcp(80)), ["3", "4"]);
}

#[test]
fn a_rule_goes_by_its_place_in_the_object() {
    assert_eq!(noted(vec![log(2), log(7), allow(9)], tcp(80)), ["2", "7"]);
}
