//! What the rules of a policy become, looked at one by one: which rule of the object each came from, and the conditions
//! that a verdict alone would not show.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::{Allow, Deny};
use selvage_policy::compiled::{self, End, Family, Service};
use selvage_policy::model::{
    Backends, Change, Entity, Key, Peer, PeerTerm, PodSet, PortTerm, Ports, Rule, given,
};
use selvage_policy::selector::Selector;

/// The rules for packets from pods.
fn compiled(cluster: &mut Cluster, rules: impl IntoIterator<Item = Rule>) -> Vec<compiled::Rule> {
    cluster.policy("p", policy(pods_in("shop", Selector::All)).egress(rules));
    cluster.engine.node("node-1").unwrap().policies[&policy_key("p")].egress.clone()
}

/// The only rule for packets from pods.
fn one(rule: Rule) -> compiled::Rule {
    let mut rules = compiled(&mut Cluster::small(), [rule]);
    assert_eq!(rules.len(), 1, "{rules:#?}");
    rules.remove(0)
}

fn indices(rules: &[compiled::Rule]) -> Vec<u32> {
    rules.iter().map(|rule| rule.index).collect()
}

fn api() -> Key {
    Key { namespace: "bank".into(), name: "api".into() }
}

/// Its only port has no number.
fn whole(cluster: &mut Cluster, protocols: &[u8]) {
    let slice = Backends {
        service: "api".into(),
        addresses: addresses(&["10.0.2.2"]),
        ports: [].into(),
        whole: protocols.iter().copied().collect(),
    };
    let key = Key { namespace: "bank".into(), name: "api-1".into() };
    cluster.apply(Change::Backends(key, Some(slice)));
}

#[test]
fn a_rule_keeps_its_place_where_others_are_left_out_or_cut() {
    let nothing = rule(Allow).to([Peer::Nothing]);
    let by_name = rule(Allow)
        .to([block("10.0.0.0/8", &[]), Peer::Pods(pods_in("bank", Selector::All))])
        .ports([named(TCP, "http"), range(TCP, 80, 80)]);
    let rules = [nothing.clone(), rule(Allow), by_name, nothing, rule(Deny)];
    assert_eq!(indices(&compiled(&mut Cluster::small(), rules)), [1, 2, 2, 2, 4]);
    let holes: Vec<String> = (0..9).map(|third| format!("10.{third}.7.1/32")).collect();
    let holes: Vec<&str> = holes.iter().map(String::as_str).collect();
    let cut = rule(Allow).to([block("10.0.0.0/8", &holes), block("192.0.2.0/24", &[])]);
    assert_eq!(indices(&compiled(&mut Cluster::small(), [cut, rule(Deny)])), [0, 0, 1]);
}

#[test]
fn a_service_with_every_port_of_a_protocol_is_one_rule_more_for_each() {
    let mut cluster = Cluster::small();
    let to = || rule(Deny).ports([Ports::Backends(api())]);
    assert_eq!(indices(&compiled(&mut cluster, [to(), rule(Allow)])), [0, 1]);
    whole(&mut cluster, &[TCP, UDP]);
    let rules = compiled(&mut cluster, [to(), rule(Allow)]);
    assert_eq!(indices(&rules), [0, 0, 0, 1]);
    let protocol =
        |protocol| vec![vec![Service::Protocol { protocol, source_ports: None, destination_ports: None }]];
    assert_eq!((&rules[1].services, &rules[2].services), (&protocol(TCP), &protocol(UDP)));
    let groups = [&rules[1], &rules[2]].map(|rule| rule.destination[0].groups[0]);
    assert_ne!(groups[0], groups[1], "an address may have every port of one protocol alone");
}

#[test]
fn none_of_a_services_ports_is_neither_of_both_sorts() {
    let mut cluster = Cluster::small();
    whole(&mut cluster, &[UDP]);
    let not = PortTerm { end: End::Destination, negated: true, ports: vec![Ports::Backends(api())] };
    cluster.policy("p", policy(all_pods()).egress([Rule { ports: vec![not], ..rule(Allow) }]));
    assert!(cluster.allows("shop/web", "bank/web", TCP, 80));
    assert!(!cluster.allows("shop/web", "bank/web", UDP, 80));
    assert!(cluster.allows("shop/web", "shop/db", UDP, 80));
}

#[rstest]
#[case::not(true)]
#[case::as_they_are(false)]
fn a_condition_on_addresses_keeps_its_negation(#[case] negated: bool) {
    let terms = vec![PeerTerm { negated, peers: vec![block("10.0.0.0/8", &[])] }];
    let source = one(Rule { source: Entity { terms: terms.clone() }, ..rule(Allow) }).source;
    let destination = one(Rule { destination: Entity { terms }, ..rule(Allow) }).destination;
    assert_eq!((source[0].negated, destination[0].negated), (negated, negated));
}

#[test]
fn a_condition_on_ports_keeps_its_negation() {
    let not = |ports: Ports| PortTerm { end: End::Destination, negated: true, ports: vec![ports] };
    let found = one(Rule { ports: vec![not(Ports::Protocol(TCP))], ..rule(Allow) });
    assert_eq!(found.services, [[Service::NotProtocol(TCP)]]);
    let tcp = PortTerm::any_of(vec![Ports::Protocol(TCP)]);
    let found = one(Rule { ports: vec![tcp, not(range(TCP, 80, 80))], ..rule(Allow) });
    let Service::Protocol { destination_ports: Some(ports), .. } = &found.services[0][0] else {
        panic!("{found:#?}")
    };
    let has =
        |port| ports.ranges.iter().any(|range| (range.first..=range.last).contains(&port)) != ports.negated;
    assert!(!has(80) && has(79) && has(81), "{ports:#?}");
}

#[rstest]
#[case::source(End::Source)]
#[case::destination(End::Destination)]
fn ports_stay_at_their_end(#[case] end: End) {
    let term = PortTerm { end, negated: false, ports: vec![range(UDP, 53, 53)] };
    let found = one(Rule { ports: vec![term], ..rule(Allow) });
    let Service::Protocol { source_ports, destination_ports, .. } = &found.services[0][0] else {
        panic!("{found:#?}")
    };
    assert_eq!(
        (source_ports.is_some(), destination_ports.is_some()),
        (end == End::Source, end != End::Source)
    );
}

#[rstest]
#[case::either(None)]
#[case::v4(Some(Family::V4))]
#[case::v6(Some(Family::V6))]
fn a_rule_keeps_its_ip_version(#[case] family: Option<Family>) {
    assert_eq!(one(Rule { family, ..rule(Allow) }).family, family);
}

#[test]
fn a_peer_by_service_account_is_who_runs_as_it() {
    let mut cluster = Cluster::small();
    let accounts = Selector::equals(given::NAME, "robot");
    let peer = Peer::Pods(PodSet { accounts, ..pods_in("bank", Selector::All) });
    cluster.policy("guard", policy(pods_in("shop", Selector::All)).ingress([rule(Allow).from([peer])]));
    assert!(!cluster.allows("bank/web", "shop/db", TCP, 80), "it runs as default");
    let robot =
        selvage_policy::model::Pod { service_account: "robot".into(), ..pod("node-2", &["10.0.2.9"], &[]) };
    cluster.pod("bank/robot", robot);
    assert!(cluster.allows("bank/robot", "shop/db", TCP, 80));
}
