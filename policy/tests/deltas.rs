//! What one flush says: all of what changed, and nothing else.

mod common;

use std::sync::Arc;

use common::build::*;
use selvage_policy::compiled::Action::Allow;
use selvage_policy::compiled::{GroupKind, Member, NodePolicy};
use selvage_policy::engine::{Delta, Engine};
use selvage_policy::model::{Backends, Change, Key, Node, Peer, Pod, PodSet};
use selvage_policy::selector::Selector;

fn shop_from(peers: impl IntoIterator<Item = PodSet>) -> selvage_policy::model::Policy {
    let peers: Vec<_> = peers.into_iter().map(Peer::Pods).collect();
    policy(pods_in("shop", Selector::equals("app", "db"))).ingress([rule(Allow).from(peers)])
}

fn bank() -> PodSet {
    pods_in("bank", Selector::All)
}

fn nodes(delta: &Delta) -> Vec<&str> {
    delta.nodes.keys().map(|name| &**name).collect()
}

#[test]
fn an_empty_engine_says_nothing() {
    let mut engine = Engine::new();
    assert_eq!(engine.flush(), Delta::default());
    for change in [
        Change::Namespace("a".into(), None),
        Change::Node("a".into(), None),
        Change::Pod(endpoint("a/a"), None),
        Change::Tier("a".into(), None),
        Change::Policy(policy_key("a"), None),
        Change::Namespace("a".into(), Some(Default::default())),
    ] {
        engine.apply(change);
        assert_eq!(engine.flush(), Delta::default());
    }
}

#[test]
fn a_node_has_a_policy_as_soon_as_it_exists() {
    let mut cluster = Cluster::default();
    let delta = cluster.node("node-1", &[]);
    let empty = NodePolicy { node: "node-1".into(), ..NodePolicy::default() };
    assert_eq!(*delta.nodes["node-1"], empty);
    let delta = cluster.apply(Change::Node("node-1".into(), None));
    assert!(delta.nodes.is_empty());
    assert_eq!(delta.removed_nodes, ["node-1".into()].into());
}

#[test]
fn a_node_has_a_policy_as_long_as_it_has_endpoints() {
    let mut cluster = Cluster::default();
    let delta = cluster.pod("a/a", pod("unknown", &["10.0.0.1"], &[]));
    assert_eq!(nodes(&delta), ["unknown"]);
    let node = &delta.nodes["unknown"];
    let endpoint_policy = &node.endpoints[&endpoint("a/a")];
    // No policy selects it, and still it is an endpoint.
    assert!(node.profiles[&endpoint_policy.profile].ingress.is_empty());
    assert_eq!(cluster.node("unknown", &[]), Delta::default());
    assert_eq!(cluster.apply(Change::Node("unknown".into(), None)), Delta::default());
    assert_eq!(cluster.finish("a/a").removed_nodes, ["unknown".into()].into());
}

#[test]
fn what_comes_and_goes_between_two_flushes_is_not_said() {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([bank()]));
    for change in [
        Change::Pod(endpoint("bank/x"), Some(pod("node-1", &["10.0.1.9"], &[]))),
        Change::Pod(endpoint("bank/x"), None),
        Change::Node("node-7".into(), Some(Node::default())),
        Change::Node("node-7".into(), None),
    ] {
        cluster.engine.apply(change);
    }
    assert_eq!(cluster.engine.flush(), Delta::default());
}

#[test]
fn labels_that_no_selector_asks_for_change_nothing() {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([bank()]));
    assert_eq!(cluster.change("bank/web", |pod| pod.labels = labels(&[("new", "label")])), Delta::default());
    assert_eq!(cluster.namespace("bank", &[("new", "label")]), Delta::default());
    let labelled = Node { labels: labels(&[("a", "b")]), ..cluster.world.nodes["node-1"].clone() };
    assert_eq!(cluster.apply(Change::Node("node-1".into(), Some(labelled))), Delta::default());
}

#[test]
fn a_new_group_comes_whole_with_its_span() {
    let mut cluster = Cluster::small();
    let delta = cluster.policy("shop/p", shop_from([bank()]));
    assert_eq!(nodes(&delta), ["node-2"]);
    let (id, group) = delta.groups.first_key_value().unwrap();
    assert_eq!(delta.nodes["node-2"].groups, [*id].into());
    assert!(group.created && group.removed.is_empty() && group.span_removed.is_empty());
    assert_eq!(group.kind, GroupKind::Addresses);
    let members = ["10.0.2.2/32", "fd00:2::2/128"].map(|net| Member::Net(net.parse().unwrap()));
    assert_eq!(group.added, members);
    assert_eq!(group.span_added, ["node-2".into()]);
}

#[test]
fn a_group_that_grows_touches_no_node_policy_but_that_of_the_new_pods_node() {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([bank()]));
    let delta = cluster.pod("bank/new", pod("node-1", &["10.0.1.9"], &[]));
    assert_eq!(nodes(&delta), ["node-1"]);
    let group = delta.groups.values().next().unwrap();
    assert!(!group.created && group.removed.is_empty() && group.span_added.is_empty());
    assert_eq!(group.added, [Member::Net("10.0.1.9/32".parse().unwrap())]);
}

#[test]
fn a_group_of_ports_has_address_protocol_and_port() {
    let mut cluster = Cluster::small();
    let rule = rule(Allow).to([Peer::Pods(all_pods())]).ports([named(TCP, "http")]);
    let delta = cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress([rule]));
    let group = delta.groups.values().next().unwrap();
    assert_eq!(group.kind, GroupKind::Ports);
    let member = |address: &str, port| Member::Port(address.parse().unwrap(), TCP, port);
    let expected = [("10.0.1.1", 8080), ("10.0.2.2", 80), ("fd00:1::1", 8080), ("fd00:2::2", 80)]
        .map(|(a, p)| member(a, p));
    assert_eq!(group.added, expected);
    assert_eq!(group.span_added, ["node-1".into(), "node-2".into()]);

    let delta = cluster.change("bank/web", |pod| *pod = pod.clone().port(TCP, "http", 81));
    let group = delta.groups.values().next().unwrap();
    assert_eq!(group.added, [member("10.0.2.2", 81), member("fd00:2::2", 81)]);
    assert!(group.removed.is_empty());
}

#[test]
fn a_group_that_no_node_needs_is_not_reported() {
    let mut cluster = Cluster::small();
    let subject = pods_in("empty", Selector::All);
    let from_bank = rule(Allow).from([Peer::Pods(bank())]);
    let delta = cluster.policy("empty/p", policy(subject).ingress([from_bank]));
    assert!(delta.groups.is_empty() && delta.nodes.is_empty());
    assert!(cluster.engine.groups().is_empty());
    // The first pod that the policy selects brings the group, the last takes it along.
    let delta = cluster.pod("empty/a", pod("node-1", &["10.0.1.9"], &[]));
    assert!(delta.groups.values().all(|group| group.created));
    assert_eq!(delta.groups.len(), 1);
    let delta = cluster.finish("empty/a");
    assert_eq!(delta.removed_groups.len(), 1);
    assert!(delta.groups.is_empty());
}

#[test]
fn equal_meaning_shares_one_group() {
    let mut cluster = Cluster::small();
    let spellings = [
        pods_in("bank", Selector::All),
        pods_where(Selector::equals("kubernetes.io/metadata.name", "bank"), Selector::All),
        pods_in("bank", Selector::And(vec![Selector::All, Selector::Or(vec![Selector::All])])),
    ];
    for (index, spelling) in spellings.into_iter().enumerate() {
        cluster.policy(&format!("shop/p{index}"), shop_from([spelling]));
    }
    assert_eq!(cluster.engine.groups().len(), 1);
    cluster.policy("shop/other", shop_from([pods_in("shop", Selector::All)]));
    assert_eq!(cluster.engine.groups().len(), 2);
}

#[test]
fn group_names_are_the_same_for_ever() {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([bank()]));
    let names: Vec<_> = cluster.engine.groups().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["05457266cc865d488ab0e9caf1b01d29"]);
}

#[test]
fn a_policy_is_shared_by_the_nodes_it_is_on() {
    let mut cluster = Cluster::small();
    let delta = cluster.policy("all", policy(all_pods()).ingress([]));
    assert_eq!(nodes(&delta), ["node-1", "node-2"]);
    let [a, b] = ["node-1", "node-2"].map(|node| &delta.nodes[node].policies[&policy_key("all")]);
    assert!(Arc::ptr_eq(a, b));
}

#[test]
fn pods_that_the_same_policies_select_share_a_profile() {
    let mut cluster = Cluster::small();
    cluster.policy("all", policy(all_pods()).ingress([]));
    let node = cluster.engine.node("node-2").unwrap();
    assert_eq!((node.endpoints.len(), node.profiles.len()), (2, 1));
    // Names that the rules use keep those apart whose ports differ.
    cluster.policy("all", policy(all_pods()).ingress([rule(Allow).ports([named(TCP, "http")])]));
    let node = cluster.engine.node("node-2").unwrap();
    assert_eq!(node.profiles.len(), 2);
}

#[test]
fn a_new_generation_changes_the_policy_and_no_profile() {
    let mut cluster = Cluster::small();
    cluster.policy("all", policy(all_pods()).ingress([]));
    let before = cluster.engine.node("node-1").unwrap();
    let mut changed = policy(all_pods()).ingress([]);
    changed.generation = 2;
    let delta = cluster.policy("all", changed);
    let after = &delta.nodes["node-1"];
    assert_eq!(after.profiles, before.profiles);
    assert_eq!(after.policies[&policy_key("all")].generation, 2);
}

#[test]
fn a_policys_status_changes_with_the_pods_it_selects() {
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([bank()]));
    let status = |cluster: &Cluster| {
        let status = cluster.engine.policy(&policy_key("shop/p")).unwrap();
        (status.endpoints, status.nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    };
    assert_eq!(status(&cluster), (1, "node-2".into()));
    let delta = cluster.pod("shop/db2", pod("node-1", &[], &[("app", "db")]));
    assert!(delta.policies.contains(&policy_key("shop/p")));
    assert_eq!(status(&cluster), (2, "node-1 node-2".into()));
    let delta = cluster.change("shop/db2", |pod| pod.labels.clear());
    assert!(delta.policies.contains(&policy_key("shop/p")));
    assert_eq!(status(&cluster), (1, "node-2".into()));
    let delta = cluster.apply(Change::Policy(policy_key("shop/p"), None));
    assert!(delta.policies.contains(&policy_key("shop/p")));
    assert_eq!(cluster.engine.policy(&policy_key("shop/p")), None);
}

#[test]
fn an_address_that_goes_from_one_member_to_another_is_said_of_both() {
    let address: std::net::IpAddr = "10.0.1.9".parse().unwrap();
    let member = Member::Net(address.into());
    let at = |uid: &str| model_pod(uid, "10.0.1.9");
    let mut cluster = Cluster::small();
    cluster.policy("shop/p", shop_from([pods_in("bank", Selector::equals("app", "teller"))]));
    let delta = cluster.pod("bank/old", at("1"));
    assert_eq!(delta.handed_over, [(address, false)].into());
    let group = delta.groups.values().next().unwrap();
    assert!(group.of_pods && group.renewed.is_empty());
    assert_eq!(cluster.engine.owner(address).map(|uid| &**uid), Some("1"));

    // Both between two flushes: no member came or went.
    cluster.engine.apply(Change::Pod(endpoint("bank/old"), None));
    let delta = cluster.pod("bank/new", at("2"));
    let group = delta.groups.values().next().unwrap();
    assert_eq!((&*group.added, &*group.removed, &*group.renewed), (&[][..], &[][..], &[member][..]));
    assert_eq!(delta.handed_over, [(address, true)].into());
    assert_eq!(cluster.engine.owner(address).map(|uid| &**uid), Some("2"));

    // The same pod, out of the group and in again: nothing happened.
    let relabelled = Pod { labels: labels(&[("a", "b")]), ..at("2") };
    cluster.engine.apply(Change::Pod(endpoint("bank/new"), Some(relabelled)));
    assert!(cluster.pod("bank/new", at("2")).is_empty());

    let delta = cluster.finish("bank/new");
    assert_eq!(delta.groups.values().next().unwrap().removed, [member]);
    assert_eq!(delta.handed_over, [(address, true)].into());
    assert_eq!(cluster.engine.owner(address), None);
}

#[test]
fn backends_are_another_pods_too() {
    let mut cluster = Cluster::small();
    let member = Member::Net("10.0.1.9/32".parse().unwrap());
    cluster.pod("bank/old", model_pod("1", "10.0.1.9"));
    let key = |name: &str| Key { namespace: "bank".into(), name: name.into() };
    let backends = Backends {
        service: "db".into(),
        addresses: addresses(&["10.0.1.9"]),
        ports: Default::default(),
        whole: Default::default(),
    };
    cluster.apply(Change::Backends(key("db-1"), Some(backends)));
    let to = rule(Allow).to([Peer::Backends(key("db"))]);
    let delta = cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress([to]));
    let group = delta.groups.values().find(|group| group.added.contains(&member)).unwrap();
    assert!(group.of_pods);
    let delta = cluster.finish("bank/old");
    let renewed: Vec<_> = delta.groups.values().flat_map(|group| &group.renewed).collect();
    assert_eq!(renewed, [&member], "it is listed, and no pod's");
}

fn model_pod(uid: &str, address: &str) -> Pod {
    Pod { uid: uid.into(), ..pod("node-1", &[address], &[("app", "teller")]) }
}
