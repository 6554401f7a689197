//! Tiers, sets and pools, row by row.

use kube::core::ObjectMeta;
use rstest::rstest;
use selvage_policy::compiled::{Action, PolicyKind};
use selvage_policy::model::{self, Key, Order};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use crate::convert::{Issue, Read, Reason, global_network_set, ip_pool, network_set, tier, unreadable};

fn found(issues: &[Issue]) -> Vec<(&str, Reason)> {
    issues.iter().map(|issue| (issue.path.as_str(), issue.reason)).collect()
}

/// "Its `defaultAction` (Deny unless it says Pass)."
#[rstest]
#[case::nothing(json!({}), None, Action::Deny)]
#[case::deny(json!({ "order": 10, "defaultAction": "Deny" }), Some(10.0), Action::Deny)]
#[case::pass(json!({ "order": -1.5, "defaultAction": "Pass" }), Some(-1.5), Action::Pass)]
fn tiers(#[case] spec: Value, #[case] order: Option<f64>, #[case] default_action: Action) {
    let object = json!({ "metadata": { "name": "t", "uid": "u", "generation": 2 }, "spec": spec });
    let (name, read) = tier(&serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!((&*name, &*read.uid, read.generation), ("t", "u", 2));
    assert_eq!(read.value, Some(model::Tier { order: order.and_then(Order::new), default_action }));
    assert_eq!(read.issues, []);
}

/// A set's networks, and what is wrong with it.
fn set(nets: Value) -> (Vec<String>, Vec<Issue>) {
    let metadata = json!({ "namespace": "ns", "name": "s", "labels": { "role": "partner" } });
    let object = json!({ "metadata": metadata, "spec": { "nets": nets } });
    let (key, read) = network_set(&serde_json::from_value(object.clone()).unwrap()).unwrap();
    assert_eq!(key, Key { namespace: "ns".into(), name: "s".into() });
    let (key, global) = global_network_set(&serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(key, Key { namespace: "".into(), name: "s".into() });
    assert_eq!(read, global);
    let set = read.value.unwrap();
    assert_eq!(set.labels.get("role").map(|value| &**value), Some("partner"));
    (set.nets.iter().map(ToString::to_string).collect(), read.issues)
}

/// "NetworkSets: CIDRs and addresses of both families."
#[rstest]
#[case::empty(json!([]), &[])]
#[case::both_families(json!(["10.0.0.0/8", "2001:db8::/32"]), &["10.0.0.0/8", "2001:db8::/32"])]
#[case::addresses(json!(["192.0.2.1", "2001:db8::1"]), &["192.0.2.1/32", "2001:db8::1/128"])]
#[case::once(json!(["10.0.0.0/8", "192.0.2.1", "192.0.2.1/32", "10.0.0.0/8"]), &["10.0.0.0/8", "192.0.2.1/32"])]
#[case::everything(json!(["0.0.0.0/0", "::/0"]), &["0.0.0.0/0", "::/0"])]
fn sets(#[case] nets: Value, #[case] read: &[&str]) {
    let (nets, issues) = set(nets);
    assert_eq!(nets, read);
    assert_eq!(issues, []);
}

#[test]
fn entries_of_a_set_that_cannot_be_read_are_left_out() {
    let (nets, issues) = set(json!(["010.0.0.0/8", "10.0.0.1/8", "", "::ffff:10.0.0.1", "192.0.2.1"]));
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32"]);
    let wanted = [
        ("spec.nets[0]", Reason::InvalidCIDR),
        ("spec.nets[2]", Reason::InvalidCIDR),
        ("spec.nets[3]", Reason::InvalidCIDR),
        ("spec.nets[1]", Reason::HostBitsMasked),
    ];
    assert_eq!(found(&issues), wanted);
}

#[test]
fn of_very_many_entries_the_first_are_named() {
    let entries: Vec<String> =
        (0..100).flat_map(|number| [format!("rubbish {number}"), format!("10.{number}.0.1/16")]).collect();
    let (nets, issues) = set(json!(entries));
    assert_eq!(nets.len(), 100);
    assert_eq!(issues.len(), 41);
    assert!(issues.iter().any(|issue| issue.path == "spec.nets" && issue.message.starts_with("100 entries")));
}

#[test]
fn domain_names_of_a_set_are_named_and_ignored() {
    let object = json!({
        "metadata": { "name": "s" }, "spec": { "nets": ["10.0.0.0/8"], "allowedEgressDomains": ["a.b"] },
    });
    let (_, read) = global_network_set(&serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(found(&read.issues), [("spec.allowedEgressDomains", Reason::Unsupported)]);
    assert_eq!(read.value.map(|set| set.nets.len()), Some(1));
}

fn pool(spec: Value) -> (Option<model::Pool>, Vec<Issue>) {
    let object = json!({ "metadata": { "name": "pods" }, "spec": spec });
    let (name, read) = ip_pool(&serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(&*name, "pods");
    (read.value, read.issues)
}

/// "IPPool: cidr, natOutgoing, disabled (still inside), nodeSelector (nodes that masquerade)."
#[rstest]
#[case::just_a_network(json!({ "cidr": "10.244.0.0/16" }), "10.244.0.0/16", false, Selector::All)]
#[case::masquerading(
    json!({ "cidr": "fd00::/56", "natOutgoing": true, "nodeSelector": "role == 'edge'" }),
    "fd00::/56", true, Selector::equals("role", "edge")
)]
#[case::blank_is_every_node(
    json!({ "cidr": "10.0.0.0/16", "natOutgoing": true, "nodeSelector": "" }), "10.0.0.0/16", true, Selector::All
)]
#[case::disabled(
    json!({ "cidr": "10.0.0.0/16", "natOutgoing": true, "disabled": true }), "10.0.0.0/16", true, Selector::All
)]
#[case::nodes_have_no_given_labels(
    json!({ "cidr": "10.0.0.0/16", "nodeSelector": "projectcalico.org/name == 'a'" }),
    "10.0.0.0/16", false, Selector::equals("projectcalico.org/name", "a")
)]
fn pools(#[case] spec: Value, #[case] net: &str, #[case] nat_outgoing: bool, #[case] nodes: Selector) {
    let wanted = model::Pool { net: net.parse().unwrap(), nat_outgoing, nodes };
    assert_eq!(pool(spec), (Some(wanted), vec![]));
}

#[test]
fn a_pool_whose_network_cannot_be_read_is_none() {
    let (pool, issues) = pool(json!({ "cidr": "010.0.0.0/16", "nodeSelector": "all()" }));
    assert_eq!(pool, None);
    assert_eq!(found(&issues), [("spec.cidr", Reason::InvalidCIDR)]);
}

#[test]
fn a_pool_whose_nodes_cannot_be_told_masquerades_nowhere() {
    let (pool, issues) =
        pool(json!({ "cidr": "10.0.0.0/16", "natOutgoing": true, "nodeSelector": "role ==" }));
    assert_eq!(pool.map(|pool| pool.nodes), Some(Selector::nothing()));
    assert_eq!(found(&issues), [("spec.nodeSelector", Reason::InvalidSelector)]);
    assert!(issues[0].message.ends_with("no node masquerades for the pool"), "{}", issues[0]);
}

#[test]
fn a_pool_with_host_bits_is_masked_and_noted() {
    let (pool, issues) = pool(json!({ "cidr": "10.0.0.1/16" }));
    assert_eq!(pool.map(|pool| pool.net.to_string()), Some("10.0.0.0/16".into()));
    assert_eq!(found(&issues), [("spec.cidr", Reason::HostBitsMasked)]);
}

/// Of an object that can't be decoded nothing is enforced, and the condition says why.
#[rstest]
#[case::network_policy(PolicyKind::NetworkPolicy, "NetworkPolicy ns/p")]
#[case::namespaced(PolicyKind::SelvageNetworkPolicy, "SelvageNetworkPolicy ns/p")]
#[case::global(PolicyKind::GlobalNetworkPolicy, "GlobalNetworkPolicy p")]
#[case::cluster(PolicyKind::ClusterNetworkPolicy, "ClusterNetworkPolicy p")]
fn an_unreadable_policy(#[case] kind: PolicyKind, #[case] key: &str) {
    let object = json!({ "namespace": "ns", "name": "p", "uid": "u", "generation": 4 });
    let metadata: ObjectMeta = serde_json::from_value(object).unwrap();
    let converted = unreadable(kind, &metadata, "spec.order: a number was expected").unwrap();
    assert_eq!((converted.key.to_string().as_str(), &*converted.uid, converted.generation), (key, "u", 4));
    assert_eq!(converted.policy, None);
    assert_eq!(found(&converted.issues), [("spec", Reason::Unreadable)]);
    assert!(converted.issues[0].message.starts_with("spec.order: a number was expected"));
    assert_eq!(unreadable(kind, &ObjectMeta::default(), ""), None);
}

#[test]
fn any_other_unreadable_object() {
    let metadata = ObjectMeta { generation: Some(4), uid: Some("u".into()), ..ObjectMeta::default() };
    let read = Read::<model::NetworkSet>::unreadable(&metadata, "no list");
    assert_eq!((read.value, read.generation, &*read.uid), (None, 4, "u"));
    assert_eq!(found(&read.issues), [("spec", Reason::Unreadable)]);
}
