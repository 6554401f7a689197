//! "ClusterNetworkPolicy v1alpha2" of the semantics, line by line, as far as the model and the compiler decide it.
//!
//! | the document says | here |
//! |---|---|
//! | priority, lower first | [`priority_is_the_order_lower_first`] |
//! | no implicit deny; a direction without rules is untouched | [`no_implicit_deny`], [`a_direction_without_rules_is_untouched`] |
//! | `networks` match pods too | [`networks_match_pods_too`] |
//! | `nodes` are the IPs in status.addresses | [`nodes_are_their_addresses`] |
//! | no `protocols`: every one, ICMP too | [`without_protocols_every_one`] |
//! | `destinationNamedPort`: whatever protocol carries the name | [`a_named_port_of_whatever_protocol`] |
//! | Admin over NetworkPolicy over Baseline | [`admin_over_network_policy_over_baseline`] |
//! | a rule that can't be read: Accept matches nothing, Deny and Pass deny everything | [`an_unreadable_rule_fails_closed`]; which rules, and the conditions: `operator/src/convert/tests/cluster_policy.rs` |
//! | these selectors never match NetworkSets | [`selectors_never_match_network_sets`] |
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::{self, Allow, Deny, Pass};
use selvage_policy::compiled::{PolicyKey, PolicyKind};
use selvage_policy::model::{Change, Key, NetworkSet, Node, Peer, Policy, Rule};
use selvage_policy::selector::Selector;
use selvage_policy::tier::{KUBE_ADMIN, KUBE_BASELINE};

fn apply(cluster: &mut Cluster, name: &str, policy: Policy) {
    let key = PolicyKey { kind: PolicyKind::ClusterNetworkPolicy, namespace: "".into(), name: name.into() };
    cluster.apply(Change::Policy(key, Some(policy)));
}

/// A policy for all pods.
fn admin(priority: u16, ingress: impl IntoIterator<Item = Rule>) -> Policy {
    policy(all_pods()).tier(KUBE_ADMIN).order(Some(priority.into())).ingress(ingress)
}

fn open(cluster: &Cluster) -> bool {
    cluster.allows("bank/web", "shop/db", TCP, 80)
}

#[rstest]
#[case(1, 2, true)]
#[case(1000, 999, false)]
#[case(0, 1000, true)]
#[case(9, 10, true)]
fn priority_is_the_order_lower_first(#[case] allow: u16, #[case] deny: u16, #[case] allowed: bool) {
    let mut cluster = Cluster::small();
    apply(&mut cluster, "b", admin(allow, [rule(Allow)]));
    apply(&mut cluster, "a", admin(deny, [rule(Deny)]));
    assert_eq!(open(&cluster), allowed);
}

#[rstest]
#[case::admin(KUBE_ADMIN)]
#[case::baseline(KUBE_BASELINE)]
fn no_implicit_deny(#[case] tier: &str) {
    let mut cluster = Cluster::small();
    let elsewhere = rule(Allow).from([block("192.0.2.0/24", &[])]);
    apply(&mut cluster, "p", admin(1, [elsewhere]).tier(tier));
    assert!(open(&cluster));
}

#[test]
fn a_direction_without_rules_is_untouched() {
    let mut cluster = Cluster::small();
    apply(&mut cluster, "p", policy(all_pods()).tier(KUBE_ADMIN).egress([rule(Allow)]));
    cluster.policy("shop/closed", policy(pods_in("shop", Selector::All)).ingress([]));
    assert!(!open(&cluster), "its ingress is the NetworkPolicy's");
}

#[rstest]
#[case::allow(Allow, Deny, true)]
#[case::deny(Deny, Allow, false)]
fn admin_over_network_policy_over_baseline(
    #[case] first: Action,
    #[case] other: Action,
    #[case] allowed: bool,
) {
    let mut cluster = Cluster::small();
    apply(&mut cluster, "base", admin(1, [rule(first)]).tier(KUBE_BASELINE));
    assert_eq!(open(&cluster), allowed, "baseline alone");
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).ingress([rule(other)]));
    assert_eq!(open(&cluster), !allowed, "a NetworkPolicy before it");
    apply(&mut cluster, "admin", admin(1, [rule(first)]));
    assert_eq!(open(&cluster), allowed, "admin before both");
    apply(&mut cluster, "admin", admin(1, [rule(Pass)]));
    assert_eq!(open(&cluster), !allowed, "which passes");
}

#[test]
fn networks_match_pods_too() {
    let mut cluster = Cluster::small();
    apply(&mut cluster, "p", admin(1, [rule(Deny).from([block("10.0.2.0/24", &[])])]));
    assert!(!open(&cluster));
    assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
}

#[test]
fn nodes_are_their_addresses() {
    let mut cluster = Cluster::small();
    let node = Node {
        labels: labels(&[("role", "edge")]),
        addresses: addresses(&["192.168.0.2", "fd00:50::2"]),
        ..Node::default()
    };
    cluster.apply(Change::Node("node-3".into(), Some(node)));
    let edge = Peer::Nodes(Selector::equals("role", "edge"));
    apply(&mut cluster, "p", admin(1, [rule(Deny).from([edge])]));
    assert!(!cluster.allows("192.168.0.2", "shop/db", TCP, 80));
    assert!(!cluster.allows("fd00:50::2", "shop/db@6", TCP, 80));
    assert!(cluster.allows("192.168.0.3", "shop/db", TCP, 80));
}

#[rstest]
#[case(TCP)]
#[case(UDP)]
#[case(SCTP)]
#[case(ICMP)]
#[case(47)]
fn without_protocols_every_one(#[case] protocol: u8) {
    let mut cluster = Cluster::small();
    apply(&mut cluster, "p", admin(1, [rule(Deny)]));
    assert!(!cluster.allows("bank/web", "shop/db", protocol, 80));
}

#[rstest]
#[case::tcp(TCP, 53, false)]
#[case::udp(UDP, 5353, false)]
#[case::the_number_of_the_other(UDP, 53, true)]
#[case::a_protocol_that_has_no_such_port(SCTP, 53, true)]
fn a_named_port_of_whatever_protocol(#[case] protocol: u8, #[case] port: u16, #[case] allowed: bool) {
    let mut cluster = Cluster::small();
    let dns = pod("node-2", &["10.0.2.9"], &[]).port(TCP, "dns", 53).port(UDP, "dns", 5353);
    cluster.pod("shop/dns", dns);
    let ports = [TCP, UDP, SCTP].map(|protocol| named(protocol, "dns"));
    apply(&mut cluster, "p", admin(1, [rule(Deny).ports(ports)]));
    assert_eq!(cluster.allows("bank/web", "shop/dns", protocol, port), allowed);
}

/// The edge makes an Accept rule that it can't read one that matches nothing, and the others Deny of everything.
#[test]
fn an_unreadable_rule_fails_closed() {
    let mut cluster = Cluster::small();
    let closed = policy(pods_in("shop", Selector::All)).ingress([]);
    cluster.policy("shop/closed", closed);
    apply(&mut cluster, "p", admin(1, [rule(Allow).from([Peer::Nothing])]));
    assert!(!open(&cluster));
    apply(&mut cluster, "p", admin(1, [rule(Deny)]));
    assert!(!open(&cluster));
    assert!(!cluster.allows("8.8.8.8", "bank/web", UDP, 1));
}

#[test]
fn selectors_never_match_network_sets() {
    let mut cluster = Cluster::small();
    let nets = vec!["192.0.2.0/24".parse().unwrap()];
    let key = Key { namespace: "shop".into(), name: "s".into() };
    cluster.apply(Change::NetworkSet(key, Some(NetworkSet { labels: labels(&[("app", "web")]), nets })));
    let web = Peer::Pods(pods_where(Selector::All, Selector::equals("app", "web")));
    apply(&mut cluster, "p", admin(1, [rule(Deny).from([web])]));
    assert!(!open(&cluster));
    assert!(cluster.allows("192.0.2.1", "shop/db", TCP, 80));
}
