//! "NetworkPolicy", row by row.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use rstest::rstest;
use selvage_policy::compiled::{NamedPort, PortRange};
use selvage_policy::model::{Entity, Namespaces, Peer, PodSet, Ports};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use crate::convert::{Converted, Reason, network_policy};

fn convert(spec: Value) -> Converted {
    let object: NetworkPolicy = serde_json::from_value(json!({
        "metadata": { "namespace": "ns", "name": "p", "uid": "u", "generation": 3 },
        "spec": spec,
    }))
    .unwrap();
    network_policy(&object).unwrap()
}

fn issues(converted: &Converted) -> Vec<(&str, Reason)> {
    converted.issues.iter().map(|issue| (issue.path.as_str(), issue.reason)).collect()
}

/// The source of the only ingress rule.
fn source(from: Value) -> (Entity, Vec<(String, Reason)>) {
    let converted = convert(json!({ "podSelector": {}, "ingress": [{ "from": from }] }));
    let found = issues(&converted).into_iter().map(|(path, reason)| (path.to_owned(), reason)).collect();
    let mut rules = converted.policy.unwrap().ingress.unwrap();
    assert_eq!(rules.len(), 1);
    (rules.remove(0).source, found)
}

/// The ports of the only egress rule.
fn ports_of(ports: Value) -> (Vec<Ports>, Vec<(String, Reason)>) {
    let converted =
        convert(json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "ports": ports }] }));
    let found = issues(&converted).into_iter().map(|(path, reason)| (path.to_owned(), reason)).collect();
    let mut rules = converted.policy.unwrap().egress.unwrap();
    assert_eq!(rules.len(), 1);
    (rules.remove(0).ports.into_iter().flat_map(|term| term.ports).collect(), found)
}

fn peers(peers: impl IntoIterator<Item = Peer>) -> Entity {
    Entity::any_of(peers.into_iter().collect())
}

fn net(net: &str) -> Peer {
    Peer::Block { net: net.parse().unwrap(), except: vec![] }
}

#[test]
fn who_it_is() {
    let converted = convert(json!({ "podSelector": { "matchLabels": { "app": "db" } } }));
    assert_eq!(converted.key.to_string(), "NetworkPolicy ns/p");
    let policy = converted.policy.unwrap();
    assert_eq!((&*policy.uid, policy.generation, &*policy.tier), ("u", 3, "default"));
    assert_eq!(policy.order.map(selvage_policy::model::Order::get), Some(1000.0));
    let subject = PodSet {
        namespaces: Namespaces::Named("ns".into()),
        accounts: Selector::All,
        pods: Selector::equals("app", "db"),
    };
    assert_eq!(policy.subject, subject);
}

#[rstest]
#[case::absent(json!({}), Some(0), None)]
#[case::empty(json!({ "policyTypes": [] }), Some(0), None)]
#[case::ingress_even_without_rules(json!({ "egress": [{}] }), Some(0), Some(1))]
#[case::an_empty_egress_is_no_egress(json!({ "egress": [] }), Some(0), None)]
#[case::just_egress(json!({ "policyTypes": ["Egress"], "ingress": [{}] }), None, Some(0))]
#[case::just_ingress(json!({ "policyTypes": ["Ingress"], "egress": [{}] }), Some(0), None)]
#[case::both(json!({ "policyTypes": ["Ingress", "Egress"] }), Some(0), Some(0))]
#[case::absent_rules_deny(json!({ "policyTypes": ["Ingress"] }), Some(0), None)]
#[case::an_empty_rule_is_a_rule(json!({ "ingress": [{}] }), Some(1), None)]
fn directions(#[case] mut spec: Value, #[case] ingress: Option<usize>, #[case] egress: Option<usize>) {
    spec["podSelector"] = json!({});
    let converted = convert(spec);
    assert_eq!(converted.issues, []);
    let policy = converted.policy.unwrap();
    assert_eq!((policy.ingress.map(|r| r.len()), policy.egress.map(|r| r.len())), (ingress, egress));
}

#[test]
fn an_unknown_policy_type_isolates_nothing() {
    let converted = convert(json!({ "podSelector": {}, "policyTypes": ["Sideways"] }));
    assert_eq!(issues(&converted), [("spec.policyTypes[0]", Reason::InvalidPolicyType)]);
    let policy = converted.policy.unwrap();
    assert_eq!((policy.ingress, policy.egress), (None, None));
}

#[rstest]
#[case::absent(json!(null))]
#[case::empty(json!([]))]
fn no_peers_and_no_ports_are_any(#[case] list: Value) {
    let rule = json!({ "from": list.clone(), "to": list.clone(), "ports": list });
    let converted = convert(json!({ "podSelector": {}, "ingress": [rule.clone()], "egress": [rule] }));
    let policy = converted.policy.unwrap();
    for rule in policy.ingress.unwrap().into_iter().chain(policy.egress.unwrap()) {
        assert_eq!((rule.source, rule.destination), (Entity::default(), Entity::default()));
        assert!(rule.ports.is_empty());
    }
}

#[test]
fn the_judged_end_is_free() {
    let peer = json!([{ "ipBlock": { "cidr": "10.0.0.0/8" } }]);
    let spec = json!({ "podSelector": {}, "ingress": [{ "from": peer }], "egress": [{ "to": peer }] });
    let policy = convert(spec).policy.unwrap();
    let (ingress, egress) = (policy.ingress.unwrap().remove(0), policy.egress.unwrap().remove(0));
    assert_eq!((ingress.source, ingress.destination), (peers([net("10.0.0.0/8")]), Entity::default()));
    assert_eq!((egress.source, egress.destination), (Entity::default(), peers([net("10.0.0.0/8")])));
}

#[rstest]
#[case::this_namespace(
    json!({ "podSelector": { "matchLabels": { "a": "b" } } }),
    Namespaces::Named("ns".into()), Selector::equals("a", "b")
)]
#[case::all_here(json!({ "podSelector": {} }), Namespaces::Named("ns".into()), Selector::All)]
#[case::every_namespace(json!({ "namespaceSelector": {} }), Namespaces::Matching(Selector::All), Selector::All)]
#[case::both_are_and(
    json!({ "namespaceSelector": { "matchLabels": { "n": "1" } }, "podSelector": { "matchLabels": { "p": "2" } } }),
    Namespaces::Matching(Selector::equals("n", "1")), Selector::equals("p", "2")
)]
#[case::expressions(
    json!({ "podSelector": { "matchExpressions": [
        { "key": "a", "operator": "In", "values": ["x", "y"] },
        { "key": "b", "operator": "NotIn", "values": ["z"] },
        { "key": "c", "operator": "Exists" },
        { "key": "d", "operator": "DoesNotExist" },
    ] } }),
    Namespaces::Named("ns".into()),
    Selector::all_of([
        Selector::within("a", ["x".into(), "y".into()]),
        Selector::without("b", ["z".into()]),
        Selector::exists("c"),
        Selector::absent("d"),
    ])
)]
#[case::a_value_no_label_can_have_is_literal(
    json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "In", "values": ["not/a value"] }] } }),
    Namespaces::Named("ns".into()), Selector::equals("a", "not/a value")
)]
fn pod_peers(#[case] peer: Value, #[case] namespaces: Namespaces, #[case] pods: Selector) {
    let (source, issues) = source(json!([peer]));
    assert_eq!(issues, []);
    assert_eq!(source, peers([Peer::Pods(PodSet { namespaces, accounts: Selector::All, pods })]));
}

#[rstest]
#[case::nothing(json!({}), "spec.ingress[0].from[0]", Reason::InvalidPeer)]
#[case::block_and_pods(
    json!({ "ipBlock": { "cidr": "10.0.0.0/8" }, "podSelector": {} }),
    "spec.ingress[0].from[0]", Reason::InvalidPeer
)]
#[case::block_and_namespaces(
    json!({ "ipBlock": { "cidr": "10.0.0.0/8" }, "namespaceSelector": {} }),
    "spec.ingress[0].from[0]", Reason::InvalidPeer
)]
#[case::octal(
    json!({ "ipBlock": { "cidr": "010.0.0.0/8" } }), "spec.ingress[0].from[0].ipBlock.cidr", Reason::InvalidCIDR
)]
#[case::mapped(
    json!({ "ipBlock": { "cidr": "::ffff:10.0.0.0/104" } }),
    "spec.ingress[0].from[0].ipBlock.cidr", Reason::InvalidCIDR
)]
#[case::no_cidr(json!({ "ipBlock": {} }), "spec.ingress[0].from[0].ipBlock.cidr", Reason::InvalidCIDR)]
#[case::except_unreadable(
    json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "010.2.0.0/16"] } }),
    "spec.ingress[0].from[0].ipBlock.except[1]", Reason::InvalidExcept
)]
#[case::except_outside(
    json!({ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"] } }),
    "spec.ingress[0].from[0].ipBlock.except[0]", Reason::InvalidExcept
)]
#[case::except_around(
    json!({ "ipBlock": { "cidr": "10.0.0.0/16", "except": ["10.0.0.0/8"] } }),
    "spec.ingress[0].from[0].ipBlock.except[0]", Reason::InvalidExcept
)]
#[case::except_of_the_other_family(
    json!({ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["::/0"] } }),
    "spec.ingress[0].from[0].ipBlock.except[0]", Reason::InvalidExcept
)]
#[case::operator(
    json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Near", "values": ["b"] }] } }),
    "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator", Reason::InvalidSelector
)]
#[case::in_without_values(
    json!({ "namespaceSelector": { "matchExpressions": [{ "key": "a", "operator": "In", "values": [] }] } }),
    "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values", Reason::InvalidSelector
)]
#[case::exists_with_values(
    json!({ "podSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists", "values": ["b"] }] } }),
    "spec.ingress[0].from[0].podSelector.matchExpressions[0].values", Reason::InvalidSelector
)]
#[case::a_given_label_is_no_label(
    json!({ "podSelector": { "matchExpressions": [{ "key": "@namespace", "operator": "Exists" }] } }),
    "spec.ingress[0].from[0].podSelector.matchExpressions[0].key", Reason::InvalidSelector
)]
#[case::a_key_with_two_slashes(
    json!({ "podSelector": { "matchLabels": { "a/b/c": "d" } } }),
    "spec.ingress[0].from[0].podSelector.matchLabels", Reason::InvalidSelector
)]
#[case::empty_key(
    json!({ "podSelector": { "matchLabels": { "": "b" } } }),
    "spec.ingress[0].from[0].podSelector.matchLabels", Reason::InvalidSelector
)]
fn an_unreadable_peer_matches_nothing(#[case] peer: Value, #[case] path: &str, #[case] reason: Reason) {
    let (alone, found) = source(json!([peer]));
    assert_eq!(alone, peers([Peer::Nothing]), "never any");
    assert_eq!(found, [(path.to_owned(), reason)]);
    let (beside, _) = source(json!([peer, { "ipBlock": { "cidr": "192.0.2.0/24" } }]));
    assert_eq!(beside, peers([Peer::Nothing, net("192.0.2.0/24")]), "the rest stays");
}

#[test]
fn host_bits_are_masked_and_noted() {
    let block = json!({ "cidr": "10.0.0.1/8", "except": ["10.1.2.3/16"] });
    let (source, issues) = source(json!([{ "ipBlock": block }]));
    let except = vec!["10.1.0.0/16".parse().unwrap()];
    assert_eq!(source, peers([Peer::Block { net: "10.0.0.0/8".parse().unwrap(), except }]));
    let path = "spec.ingress[0].from[0].ipBlock";
    assert_eq!(
        issues,
        [
            (format!("{path}.cidr"), Reason::HostBitsMasked),
            (format!("{path}.except[0]"), Reason::HostBitsMasked)
        ]
    );
}

#[test]
fn an_except_of_all_leaves_nothing() {
    let (source, issues) = source(json!([{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"] } }]));
    let all = "10.0.0.0/8".parse().unwrap();
    assert_eq!(source, peers([Peer::Block { net: all, except: vec![all] }]));
    assert_eq!(issues, []);
}

#[rstest]
#[case::tcp_by_default(json!({ "port": 80 }), Ports::Range(6, PortRange { first: 80, last: 80 }))]
#[case::udp(json!({ "port": 53, "protocol": "UDP" }), Ports::Range(17, PortRange { first: 53, last: 53 }))]
#[case::sctp(json!({ "protocol": "SCTP" }), Ports::Protocol(132))]
#[case::no_port_is_all_of_tcp(json!({}), Ports::Protocol(6))]
#[case::range(json!({ "port": 80, "endPort": 90 }), Ports::Range(6, PortRange { first: 80, last: 90 }))]
#[case::range_of_one(json!({ "port": 80, "endPort": 80 }), Ports::Range(6, PortRange { first: 80, last: 80 }))]
#[case::last(json!({ "port": 65535 }), Ports::Range(6, PortRange { first: 65535, last: 65535 }))]
#[case::named(json!({ "port": "http" }), Ports::Named(NamedPort { protocol: 6, name: "http".into() }))]
#[case::named_udp(
    json!({ "port": "dns", "protocol": "UDP" }), Ports::Named(NamedPort { protocol: 17, name: "dns".into() })
)]
fn ports_read(#[case] port: Value, #[case] meaning: Ports) {
    assert_eq!(ports_of(json!([port])), (vec![meaning], vec![]));
}

#[rstest]
#[case::zero(json!({ "port": 0 }), "port", Reason::InvalidPort)]
#[case::negative(json!({ "port": -1 }), "port", Reason::InvalidPort)]
#[case::too_large(json!({ "port": 65536 }), "port", Reason::InvalidPort)]
#[case::would_wrap(json!({ "port": 65616 }), "port", Reason::InvalidPort)]
#[case::end_below(json!({ "port": 90, "endPort": 80 }), "endPort", Reason::InvalidPort)]
#[case::end_too_large(json!({ "port": 90, "endPort": 70000 }), "endPort", Reason::InvalidPort)]
#[case::end_alone(json!({ "endPort": 80 }), "endPort", Reason::InvalidPort)]
#[case::end_with_a_name(json!({ "port": "http", "endPort": 80 }), "endPort", Reason::InvalidPort)]
#[case::a_number_as_text(json!({ "port": "80" }), "port", Reason::InvalidPort)]
#[case::an_empty_name(json!({ "port": "" }), "port", Reason::InvalidPort)]
#[case::a_long_name(json!({ "port": "abcdefghijklmnop" }), "port", Reason::InvalidPort)]
#[case::no_such_protocol(json!({ "port": 80, "protocol": "ICMP" }), "protocol", Reason::InvalidProtocol)]
#[case::case_matters(json!({ "protocol": "tcp" }), "protocol", Reason::InvalidProtocol)]
#[case::an_empty_protocol(json!({ "protocol": "" }), "protocol", Reason::InvalidProtocol)]
fn an_unreadable_port_matches_nothing(#[case] port: Value, #[case] field: &str, #[case] reason: Reason) {
    let found = vec![(format!("spec.egress[0].ports[0].{field}"), reason)];
    assert_eq!(ports_of(json!([port])), (vec![Ports::Nothing], found), "never every port");
}

#[test]
fn a_policy_whose_subject_cannot_be_read_is_not_enforced() {
    let term = json!({ "key": "a", "operator": "Near", "values": ["b"] });
    let converted = convert(json!({ "podSelector": { "matchExpressions": [term] } }));
    assert_eq!(converted.policy, None);
    let path = "spec.podSelector.matchExpressions[0].operator";
    assert_eq!(issues(&converted), [(path, Reason::InvalidSelector)]);
    assert!(converted.issues.iter().all(|issue| issue.message.contains("not enforced")));
}

#[test]
fn an_empty_object_is_read() {
    let object: NetworkPolicy =
        serde_json::from_value(json!({ "metadata": { "namespace": "ns", "name": "p" } })).unwrap();
    let policy = network_policy(&object).unwrap().policy.unwrap();
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None), "all of the namespace is isolated");
    assert_eq!(network_policy(&NetworkPolicy::default()), None);
}
