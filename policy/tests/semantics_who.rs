//! "Who is judged" of the semantics, line by line, as far as the compiler decides it.
//!
//! | the document says | here |
//! |---|---|
//! | a pod off the host network with every address, as soon as one is there | [`an_endpoint_has_every_address_in_its_list`], [`a_pod_is_judged_as_soon_as_an_address_is_there_and_listed_as_soon_as_it_is_bound`] |
//! | it stays one until it has finished or is gone | [`it_stays_one_until_it_has_finished_or_is_gone`]; which pods these are: `operator/src/convert/tests/objects.rs` |
//! | a list that turns empty keeps the old addresses; a changed one replaces them | [`a_list_that_turns_empty_keeps_the_old_addresses`], [`a_changed_list_replaces_the_old_addresses`] |
//! | two live pods with one address | [`two_live_pods_with_one_address`] |
//! | an address that changes hands loses its connections | `node-agent/nftables/tests/packets/reuse.rs` |
//! | pods on the host network are their node | [`a_pod_on_the_host_network_is_its_node_so_no_pod_peer_contains_its_address`] |
//! | labels, namespace labels, addresses, node moves, finished pods change membership at once | [`labels_change_membership_at_once`], [`namespace_labels_change_membership_at_once`], [`a_node_move_changes_the_span_at_once`]; service accounts: `lists` |
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use std::collections::BTreeSet;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::{Action, Member};
use selvage_policy::engine::Delta;
use selvage_policy::model::{Change, Peer};
use selvage_policy::selector::Selector;

/// shop/db lets in just the pods labelled app=web of its own namespace.
fn guarded() -> Cluster {
    let mut cluster = Cluster::small();
    let web = Peer::Pods(pods_in("shop", Selector::equals("app", "web")));
    let subject = pods_in("shop", Selector::equals("app", "db"));
    cluster.policy("shop/db", policy(subject).ingress([rule(Action::Allow).from([web])]));
    cluster
}

fn members(cluster: &Cluster) -> BTreeSet<Member> {
    cluster.snapshot().groups.into_values().flat_map(|group| group.members).collect()
}

fn hosts(list: &[&str]) -> BTreeSet<Member> {
    list.iter().map(|host| Member::Net(host.parse::<std::net::IpAddr>().unwrap().into())).collect()
}

fn listed(cluster: &Cluster, key: &str) -> Vec<String> {
    let state = cluster.engine.endpoint(&endpoint(key)).unwrap();
    let node = cluster.engine.node(&state.node).unwrap();
    node.endpoints[&endpoint(key)].addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn an_endpoint_has_every_address_in_its_list() {
    let cluster = guarded();
    assert!(cluster.allows("shop/web", "shop/db", TCP, 1));
    assert!(cluster.allows("shop/web@6", "shop/db@6", TCP, 1));
    assert!(!cluster.allows("bank/web", "shop/db", TCP, 1));
    assert!(!cluster.allows("bank/web@6", "shop/db@6", TCP, 1));
    assert_eq!(members(&cluster), hosts(&["10.0.1.1", "fd00:1::1"]));
}

#[test]
fn a_pod_is_judged_as_soon_as_an_address_is_there_and_listed_as_soon_as_it_is_bound() {
    let mut cluster = guarded();
    cluster.pod("shop/new", pod("node-9", &[], &[("app", "web")]));
    assert_eq!(listed(&cluster, "shop/new"), [""; 0]);
    assert_eq!(members(&cluster), hosts(&["10.0.1.1", "fd00:1::1"]));
    cluster.change("shop/new", |pod| pod.addresses = addresses(&["10.0.9.1"]));
    assert_eq!(listed(&cluster, "shop/new"), ["10.0.9.1"]);
    assert!(cluster.allows("shop/new", "shop/db", TCP, 1));
}

#[test]
fn it_stays_one_until_it_has_finished_or_is_gone() {
    let mut cluster = guarded();
    let delta = cluster.finish("shop/web");
    assert_eq!(members(&cluster), hosts(&[]));
    let change = delta.groups.values().next().unwrap();
    assert_eq!(change.removed.iter().copied().collect::<BTreeSet<_>>(), hosts(&["10.0.1.1", "fd00:1::1"]));
    assert!(delta.nodes["node-1"].endpoints.is_empty());
}

#[test]
fn a_list_that_turns_empty_keeps_the_old_addresses() {
    let mut cluster = guarded();
    assert_eq!(cluster.change("shop/web", |pod| pod.addresses.clear()), Delta::default());
    assert_eq!(listed(&cluster, "shop/web"), ["10.0.1.1", "fd00:1::1"]);
    assert_eq!(members(&cluster), hosts(&["10.0.1.1", "fd00:1::1"]));
}

#[test]
fn a_list_that_turns_empty_with_another_uid_keeps_nothing() {
    let mut cluster = guarded();
    cluster.pod("shop/web", pod("node-1", &[], &[("app", "web")]).uid("other", 1));
    assert_eq!(listed(&cluster, "shop/web"), [""; 0]);
    assert_eq!(members(&cluster), hosts(&[]));
}

#[test]
fn a_changed_list_replaces_the_old_addresses() {
    let mut cluster = guarded();
    cluster.change("shop/web", |pod| pod.addresses = addresses(&["10.0.1.7"]));
    assert_eq!(listed(&cluster, "shop/web"), ["10.0.1.7"]);
    assert_eq!(members(&cluster), hosts(&["10.0.1.7"]));
}

#[rstest]
#[case::the_one_whose_node_owns_the_block("node-1", 5, "node-2", 9, "shop/web")]
#[case::the_one_whose_node_owns_the_block_though_older("node-2", 5, "node-1", 1, "shop/other")]
#[case::then_the_newer("node-1", 5, "node-1", 6, "shop/other")]
#[case::then_the_newer_where_nobody_owns_the_block("node-2", 6, "node-9", 5, "shop/web")]
#[case::then_the_higher_uid("node-1", 5, "node-1", 5, "shop/web")]
fn two_live_pods_with_one_address(
    #[case] web: &str,
    #[case] web_created: i64,
    #[case] other: &str,
    #[case] other_created: i64,
    #[case] owner: &str,
) {
    for reversed in [false, true] {
        let mut cluster = guarded();
        let mut pods = [
            ("shop/web", pod(web, &["10.0.1.1"], &[("app", "web")]).uid("u-b", web_created)),
            ("shop/other", pod(other, &["10.0.1.1"], &[("app", "other")]).uid("u-a", other_created)),
        ];
        if reversed {
            pods.reverse();
        }
        for (key, pod) in pods {
            cluster.pod(key, pod);
        }
        let loser = if owner == "shop/web" { "shop/other" } else { "shop/web" };
        assert_eq!((listed(&cluster, owner), listed(&cluster, loser)), (vec!["10.0.1.1".into()], vec![]));
        let expected = if owner == "shop/web" { hosts(&["10.0.1.1"]) } else { hosts(&[]) };
        assert_eq!(members(&cluster), expected);

        cluster.finish(owner);
        assert_eq!(listed(&cluster, loser), ["10.0.1.1"]);
        let expected = if loser == "shop/web" { hosts(&["10.0.1.1"]) } else { hosts(&[]) };
        assert_eq!(members(&cluster), expected);
    }
}

#[test]
fn an_address_goes_to_the_other_pod_when_its_node_gets_the_block() {
    let mut cluster = guarded();
    cluster.pod("bank/thief", pod("node-2", &["10.0.1.1"], &[]).uid("u", 9));
    assert_eq!(listed(&cluster, "bank/thief"), [""; 0]);
    cluster.node("node-1", &[]);
    assert_eq!(listed(&cluster, "bank/thief"), ["10.0.1.1"]);
    cluster.node("node-1", &["10.0.0.0/16"]);
    assert_eq!(listed(&cluster, "shop/web"), ["10.0.1.1", "fd00:1::1"]);
}

#[test]
fn a_pod_on_the_host_network_is_its_node_so_no_pod_peer_contains_its_address() {
    let mut cluster = guarded();
    let everyone = rule(Action::Allow).from([Peer::Pods(all_pods())]);
    cluster.policy("shop/db", policy(all_pods()).ingress([everyone]));
    assert!(cluster.allows("bank/web", "shop/db", TCP, 1));
    assert!(!cluster.allows("192.168.0.1", "shop/db", TCP, 1));
    let address = rule(Action::Allow).from([block("192.168.0.1/32", &[])]);
    cluster.policy("shop/db", policy(all_pods()).ingress([address]));
    assert!(cluster.allows("192.168.0.1", "shop/db", TCP, 1));
}

#[test]
fn labels_change_membership_at_once() {
    let mut cluster = guarded();
    cluster.change("shop/web", |pod| pod.labels = labels(&[("app", "old")]));
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 1));
    cluster.change("shop/web", |pod| pod.labels = labels(&[("app", "web")]));
    assert!(cluster.allows("shop/web", "shop/db", TCP, 1));
    cluster.change("shop/db", |pod| pod.labels = labels(&[("app", "free")]));
    assert!(cluster.allows("bank/web", "shop/db", TCP, 1));
}

#[test]
fn namespace_labels_change_membership_at_once() {
    let mut cluster = guarded();
    let red = Peer::Pods(pods_where(Selector::equals("team", "red"), Selector::All));
    cluster.policy("shop/db", policy(all_pods()).ingress([rule(Action::Allow).from([red])]));
    assert!(cluster.allows("bank/web", "shop/db", TCP, 1));
    cluster.namespace("bank", &[("team", "green")]);
    assert!(!cluster.allows("bank/web", "shop/db", TCP, 1));
    cluster.namespace("shop", &[("team", "red")]);
    assert!(cluster.allows("shop/web", "shop/db", TCP, 1));
    cluster.apply(Change::Namespace("shop".into(), None));
    assert!(!cluster.allows("shop/web", "shop/db", TCP, 1));
}

#[test]
fn a_node_move_changes_the_span_at_once() {
    let mut cluster = guarded();
    assert_eq!(*cluster.engine.policy(&policy_key("shop/db")).unwrap().nodes, ["node-2".into()]);
    let delta = cluster.change("shop/db", |pod| pod.node = "node-3".into());
    assert_eq!(*cluster.engine.policy(&policy_key("shop/db")).unwrap().nodes, ["node-3".into()]);
    assert!(delta.nodes["node-2"].policies.is_empty());
    let group = delta.groups.values().next().unwrap();
    assert_eq!((&*group.span_added, &*group.span_removed), (&["node-3".into()][..], &["node-2".into()][..]));
    assert!(!cluster.allows("bank/web", "shop/db", TCP, 1));
}
