//! "NetworkPolicy" of the semantics, line by line, as far as the compiler decides it.
//!
//! | the document says | here |
//! |---|---|
//! | `policyTypes` | `operator/src/convert/tests/network_policy.rs`; an absent direction: `semantics_verdict::a_tier_counts_only_for_directions_...` |
//! | `[{}]` allows all, `[]` denies all, empty means any | [`one_empty_rule_allows_all`], [`an_empty_list_of_rules_denies_all`] |
//! | podSelector, namespaceSelector, separate peers | [`a_pod_selector_alone_means_this_namespace`], [`pod_and_namespace_selector_in_one_peer_are_and`], [`separate_peers_are_or`], [`an_empty_namespace_selector_is_the_pods_of_every_namespace_and_no_one_else`] |
//! | `kubernetes.io/metadata.name`; NotIn and DoesNotExist | [`the_name_of_a_namespace_is_always_among_its_labels`], [`operators`] |
//! | never NetworkSets | `semantics_cluster_policy::selectors_never_match_network_sets` |
//! | ipBlock, except, unreadable peers | [`an_ip_block_looks_at_the_address_alone`], [`an_ip_block_matches_pods_too`], [`an_unreadable_peer_matches_nothing_never_any`] |
//! | ports, protocols, endPort | [`ports`], [`an_unreadable_port_matches_nothing_never_any`] |
//! | named ports | the tests with `named` in their names |

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::Allow;
use selvage_policy::compiled::Service;
use selvage_policy::model::{Peer, Ports, Rule};
use selvage_policy::selector::Selector;

/// shop's pods let in what these rules allow.
fn ingress(rules: impl IntoIterator<Item = Rule>) -> Cluster {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).ingress(rules));
    cluster
}

/// shop's pods may send what these rules allow.
fn egress(rules: impl IntoIterator<Item = Rule>) -> Cluster {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress(rules));
    cluster
}

fn allow() -> Rule {
    rule(Allow)
}

#[test]
fn an_empty_list_of_rules_denies_all() {
    for (from, to) in [("bank/web", "shop/db"), ("shop/web", "shop/db"), ("8.8.8.8", "shop/db")] {
        assert!(!ingress([]).allows(from, to, TCP, 80));
    }
    assert!(!egress([]).allows("shop/db", "8.8.8.8", TCP, 80));
    assert!(ingress([]).allows("shop/db", "8.8.8.8", TCP, 80));
}

#[test]
fn one_empty_rule_allows_all() {
    for protocol in [TCP, UDP, SCTP, ICMP, 47] {
        assert!(ingress([allow()]).allows("8.8.8.8", "shop/db", protocol, 80));
        assert!(egress([allow()]).allows("shop/db@6", "fd99::1", protocol, 80));
    }
}

#[test]
fn a_pod_selector_alone_means_this_namespace() {
    let web = Peer::Pods(pods_in("shop", Selector::equals("app", "web")));
    let cluster = ingress([allow().from([web])]);
    assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
    assert!(cluster.allows("shop/web@6", "shop/db@6", TCP, 80));
    assert!(!cluster.allows("bank/web", "shop/db", TCP, 80));
}

#[test]
fn pod_and_namespace_selector_in_one_peer_are_and() {
    let red = Selector::equals("team", "red");
    let peer = |app| Peer::Pods(pods_where(red.clone(), Selector::equals("app", app)));
    assert!(ingress([allow().from([peer("web")])]).allows("bank/web", "shop/db", TCP, 80));
    assert!(!ingress([allow().from([peer("web")])]).allows("shop/web", "shop/db", TCP, 80));
    assert!(!ingress([allow().from([peer("db")])]).allows("bank/web", "shop/db", TCP, 80));
}

#[test]
fn separate_peers_are_or() {
    let red = Peer::Pods(pods_where(Selector::equals("team", "red"), Selector::All));
    let web = Peer::Pods(pods_in("shop", Selector::equals("app", "web")));
    let cluster = ingress([allow().from([red, web, block("8.8.8.0/24", &[])])]);
    for from in ["bank/web", "shop/web", "8.8.8.8"] {
        assert!(cluster.allows(from, "shop/db", TCP, 80), "{from}");
    }
    assert!(!cluster.allows("8.8.9.8", "shop/db", TCP, 80));
    assert!(!cluster.allows("shop/db", "shop/web", TCP, 80));
}

#[test]
fn an_empty_namespace_selector_is_the_pods_of_every_namespace_and_no_one_else() {
    let cluster = ingress([allow().from([Peer::Pods(all_pods())])]);
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
    // flannel.1 and cni0 lie in the pods' blocks.
    for outside in ["10.0.1.0", "10.0.2.254", "192.168.0.1"] {
        assert!(!cluster.allows(outside, "shop/db", TCP, 80), "{outside}");
    }
}

#[test]
fn the_name_of_a_namespace_is_always_among_its_labels() {
    let named = |name| pods_where(Selector::equals("kubernetes.io/metadata.name", name), Selector::All);
    let mut cluster = ingress([allow().from([Peer::Pods(named("bank"))])]);
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 80));
    // Without a Namespace object, and whatever one claims.
    cluster.apply(selvage_policy::model::Change::Namespace("bank".into(), None));
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    cluster.namespace("shop", &[("kubernetes.io/metadata.name", "bank")]);
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 80));
}

#[rstest]
#[case::not_in_matches_an_absent_key(Selector::without("env", ["x".into()]), true)]
#[case::does_not_exist_matches_an_absent_key(Selector::absent("env"), true)]
#[case::in_does_not(Selector::within("env", ["x".into()]), false)]
#[case::exists_does_not(Selector::exists("env"), false)]
#[case::not_in_does_not_match_a_listed_value(Selector::without("app", ["web".into()]), false)]
#[case::not_in_matches_another_value(Selector::without("app", ["db".into()]), true)]
#[case::does_not_exist_does_not_match_a_present_key(Selector::absent("app"), false)]
fn operators(#[case] selector: Selector, #[case] matches: bool) {
    let cluster = ingress([allow().from([Peer::Pods(pods_in("shop", selector))])]);
    assert_eq!(cluster.allows("shop/web", "shop/db", TCP, 80), matches);
}

#[rstest]
#[case::inside("10.0.2.2", true)]
#[case::at_the_end("10.0.255.255", true)]
#[case::outside("10.1.0.0", false)]
#[case::in_except("10.0.3.9", false)]
#[case::in_the_other_except("10.0.9.1", false)]
#[case::beside_except("10.0.4.0", true)]
#[case::other_family("fd00::1", false)]
fn an_ip_block_looks_at_the_address_alone(#[case] from: &str, #[case] allowed: bool) {
    // Host bits are masked.
    let cluster = ingress([allow().from([block("10.0.7.1/16", &["10.0.3.1/24", "10.0.9.0/24"])])]);
    let to = if from.contains(':') { "shop/db@6" } else { "shop/db" };
    assert_eq!(cluster.allows(from, to, TCP, 80), allowed);
}

#[test]
fn an_ip_block_matches_pods_too() {
    let cluster = ingress([allow().from([block("10.0.2.2/32", &[])])]);
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    let cluster = egress([allow().to([block("10.0.2.0/24", &["10.0.2.2/32"])])]);
    assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
    assert!(!cluster.allows("shop/web", "bank/web", TCP, 80));
}

#[test]
fn an_except_in_one_peer_takes_nothing_from_another() {
    let cluster = ingress([allow().from([block("10.0.0.0/8", &["10.0.2.0/24"]), block("10.0.2.2/32", &[])])]);
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    assert!(!cluster.allows("10.0.2.3", "shop/db", TCP, 80));
}

#[rstest]
#[case::alone(vec![Peer::Nothing])]
#[case::no_peer_at_all(vec![])]
#[case::all_of_it_excepted(vec![block("10.0.0.0/8", &["0.0.0.0/0"])])]
#[case::a_selector_that_nothing_can_match(vec![Peer::Pods(pods_in("shop", Selector::nothing()))])]
fn an_unreadable_peer_matches_nothing_never_any(#[case] peers: Vec<Peer>) {
    assert!(!ingress([allow().from(peers.clone())]).allows("bank/web", "shop/db", TCP, 80));
    assert!(!egress([allow().to(peers)]).allows("shop/db", "bank/web", TCP, 80));
}

#[test]
fn an_unreadable_peer_leaves_the_others_alone() {
    let cluster = ingress([allow().from([Peer::Nothing, block("10.0.2.2/32", &[])])]);
    assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 80));
}

#[rstest]
#[case::tcp(TCP, 80, true)]
#[case::between_two_ports(TCP, 81, false)]
#[case::the_next_port(TCP, 82, true)]
#[case::other_port(TCP, 83, false)]
#[case::udp(UDP, 80, false)]
#[case::never_ping(ICMP, 80, false)]
#[case::range_start(TCP, 1000, true)]
#[case::range_end_is_inclusive(TCP, 2000, true)]
#[case::past_the_end(TCP, 2001, false)]
#[case::every_port_of_a_protocol(SCTP, 9, true)]
fn ports(#[case] protocol: u8, #[case] port: u16, #[case] allowed: bool) {
    let ports = [range(TCP, 80, 80), range(TCP, 82, 82), range(TCP, 1000, 2000), Ports::Protocol(SCTP)];
    assert_eq!(ingress([allow().ports(ports.clone())]).allows("8.8.8.8", "shop/db", protocol, port), allowed);
    assert_eq!(egress([allow().ports(ports)]).allows("shop/db", "8.8.8.8", protocol, port), allowed);
}

#[test]
fn an_unreadable_port_matches_nothing_never_any() {
    for ports in [vec![Ports::Nothing], vec![range(TCP, 90, 80)]] {
        assert!(!ingress([allow().ports(ports.clone())]).allows("8.8.8.8", "shop/db", TCP, 85));
        assert!(!egress([allow().ports(ports)]).allows("shop/db", "8.8.8.8", TCP, 85));
    }
    let cluster = ingress([allow().ports([Ports::Nothing, range(TCP, 80, 80)])]);
    assert!(cluster.allows("8.8.8.8", "shop/db", TCP, 80));
    assert!(!cluster.allows("8.8.8.8", "shop/db", TCP, 81));
}

#[rstest]
#[case::its_own_port("shop/web", TCP, 8080, true)]
#[case::not_another_pods("shop/web", TCP, 80, false)]
#[case::not_another_protocol("shop/web", UDP, 8080, false)]
#[case::a_pod_without_the_name("shop/db", TCP, 8080, false)]
fn a_named_port_in_ingress_is_the_judged_pods(
    #[case] to: &str,
    #[case] protocol: u8,
    #[case] port: u16,
    #[case] allowed: bool,
) {
    let cluster = ingress([allow().ports([named(TCP, "http")])]);
    assert_eq!(cluster.allows("8.8.8.8", to, protocol, port), allowed);
}

/// With these peers, a named port in egress of shop's pods.
fn named_egress(peers: Option<Vec<Peer>>) -> Cluster {
    let rule = allow().ports([named(TCP, "http"), range(TCP, 53, 53)]);
    egress([match peers {
        Some(peers) => rule.to(peers),
        None => rule,
    }])
}

#[rstest]
#[case::a_pods_own_port("shop/web", 8080, true)]
#[case::another_pods_own_port("bank/web", 80, true)]
#[case::not_the_others("bank/web", 8080, false)]
#[case::a_pod_without_the_name("shop/db", 80, false)]
#[case::nobodys_address("8.8.8.8", 80, false)]
#[case::the_number_beside_it("8.8.8.8", 53, true)]
fn a_named_port_in_egress_with_empty_to_is_every_pod_that_has_the_name(
    #[case] to: &str,
    #[case] port: u16,
    #[case] allowed: bool,
) {
    assert_eq!(named_egress(None).allows("shop/db", to, TCP, port), allowed);
}

#[rstest]
#[case::a_peers_own_port("bank/web", 80, true)]
#[case::the_number_beside_it("bank/web", 53, true)]
#[case::another_pod("shop/web", 8080, false)]
#[case::the_number_of_another_pod("shop/web", 53, false)]
fn a_named_port_in_egress_is_each_peers_own(#[case] to: &str, #[case] port: u16, #[case] allowed: bool) {
    let cluster = named_egress(Some(vec![Peer::Pods(pods_in("bank", Selector::All))]));
    assert_eq!(cluster.allows("shop/db", to, TCP, port), allowed);
}

#[rstest]
#[case::a_pod_in_the_block("bank/web", 80, true)]
#[case::not_the_others_port("bank/web", 8080, false)]
#[case::a_pod_outside_the_block("shop/web", 8080, false)]
#[case::an_address_in_the_block_that_is_no_pods("10.0.2.77", 80, false)]
#[case::the_number_beside_it("10.0.2.77", 53, true)]
fn a_named_port_in_egress_to_a_block_is_that_of_the_pods_in_it(
    #[case] to: &str,
    #[case] port: u16,
    #[case] allowed: bool,
) {
    let cluster = named_egress(Some(vec![block("10.0.2.0/24", &[])]));
    assert_eq!(cluster.allows("shop/db", to, TCP, port), allowed);
}

#[test]
fn a_name_that_nobody_has_matches_nothing() {
    assert!(!ingress([allow().ports([named(TCP, "none")])]).allows("8.8.8.8", "shop/web", TCP, 8080));
    assert!(!egress([allow().ports([named(TCP, "none")])]).allows("shop/db", "bank/web", TCP, 80));
}

#[test]
fn a_name_that_a_pod_gets_later_counts_at_once() {
    let mut cluster = ingress([allow().ports([named(TCP, "http")])]);
    cluster.change("shop/db", |pod| *pod = pod.clone().port(TCP, "http", 5432));
    assert!(cluster.allows("8.8.8.8", "shop/db", TCP, 5432));
    let mut cluster = egress([allow().ports([named(TCP, "http")])]);
    cluster.change("bank/web", |pod| pod.named_ports.clear());
    assert!(!cluster.allows("shop/db", "bank/web", TCP, 80));
}

#[test]
fn a_name_on_two_containers_is_both_ports() {
    let mut cluster = ingress([allow().ports([named(TCP, "http")])]);
    cluster.change("shop/web", |pod| *pod = pod.clone().port(TCP, "http", 8081));
    assert!(cluster.allows("8.8.8.8", "shop/web", TCP, 8080));
    assert!(cluster.allows("8.8.8.8", "shop/web", TCP, 8081));
}

#[test]
fn a_rule_that_can_match_nothing_is_left_out_of_the_node_policy() {
    let cluster = ingress([allow().from([Peer::Nothing]), allow().ports([Ports::Nothing])]);
    let node = cluster.engine.node("node-1").unwrap();
    assert!(node.policies[&policy_key("shop/p")].ingress.is_empty());
}

#[test]
fn pods_are_never_inlined() {
    let cluster = egress([allow().to([Peer::Pods(all_pods())]).ports([named(TCP, "http")])]);
    let node = cluster.engine.node("node-1").unwrap();
    let rules = &node.policies[&policy_key("shop/p")].egress;
    assert!(rules.iter().all(|rule| matches!(rule.services.concat()[..], [Service::Group { .. }])));
}
