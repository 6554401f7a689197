//! "Our own resources": whole policies, row by row.

use rstest::rstest;
use selvage_policy::compiled::Action;
use selvage_policy::model::{Namespaces, Order, PodSet, given};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use crate::convert::{Converted, Reason, global_network_policy, selvage_network_policy};

fn global(spec: Value) -> Converted {
    let metadata = json!({ "name": "p", "uid": "u", "generation": 3 });
    let object = json!({ "metadata": metadata, "spec": spec });
    global_network_policy(&serde_json::from_value(object).unwrap()).unwrap()
}

fn namespaced(spec: Value) -> Converted {
    let metadata = json!({ "namespace": "ns", "name": "p", "uid": "u", "generation": 3 });
    let object = json!({ "metadata": metadata, "spec": spec });
    selvage_network_policy(&serde_json::from_value(object).unwrap()).unwrap()
}

fn issues(converted: &Converted) -> Vec<(&str, Reason)> {
    converted.issues.iter().map(|issue| (issue.path.as_str(), issue.reason)).collect()
}

#[test]
fn a_global_policy_without_a_word() {
    let converted = global(json!({}));
    assert_eq!(converted.key.to_string(), "GlobalNetworkPolicy p");
    assert_eq!(converted.issues, []);
    let policy = converted.policy.unwrap();
    assert_eq!((&*policy.uid, policy.generation), ("u", 3));
    assert_eq!((&*policy.tier, policy.order), ("default", None));
    assert_eq!(policy.subject, PodSet::all());
    assert_eq!((policy.ingress, policy.egress), (Some(vec![]), None));
}

#[test]
fn a_namespaced_policy_without_a_word() {
    let converted = namespaced(json!({}));
    assert_eq!(converted.key.to_string(), "SelvageNetworkPolicy ns/p");
    assert_eq!(converted.issues, []);
    let subject = PodSet { namespaces: Namespaces::Named("ns".into()), ..PodSet::all() };
    assert_eq!(converted.policy.unwrap().subject, subject);
}

#[test]
fn no_object_without_a_name() {
    let object = json!({ "metadata": {}, "spec": {} });
    assert_eq!(global_network_policy(&serde_json::from_value(object.clone()).unwrap()), None);
    let object = json!({ "metadata": { "name": "p" }, "spec": {} });
    assert_eq!(selvage_network_policy(&serde_json::from_value(object).unwrap()), None);
}

#[rstest]
#[case::absent(json!({}), "default", None)]
#[case::blank(json!({ "tier": "" }), "default", None)]
#[case::named(json!({ "tier": "security", "order": 10 }), "security", Some(10.0))]
#[case::an_upstream_tier(json!({ "tier": "kube-admin" }), "kube-admin", None)]
#[case::fractions_and_signs(json!({ "order": -0.5 }), "default", Some(-0.5))]
fn tier_and_order(#[case] spec: Value, #[case] tier: &str, #[case] order: Option<f64>) {
    for converted in [global(spec.clone()), namespaced(spec)] {
        assert_eq!(converted.issues, []);
        let policy = converted.policy.unwrap();
        assert_eq!((&*policy.tier, policy.order.map(Order::get)), (tier, order));
    }
}

#[rstest]
#[case::nothing_means_all(json!({}), PodSet::all())]
#[case::blank_is_all(
    json!({ "selector": "", "namespaceSelector": " ", "serviceAccountSelector": "" }), PodSet::all()
)]
#[case::all(json!({ "selector": "all()", "namespaceSelector": "all()" }), PodSet::all())]
#[case::every_part_must_hold(
    json!({ "selector": "app == 'db'", "namespaceSelector": "team == 'a'", "serviceAccountSelector": "tier == 'x'" }),
    PodSet {
        namespaces: Namespaces::Matching(Selector::equals("team", "a")),
        accounts: Selector::equals("tier", "x"),
        pods: Selector::equals("app", "db"),
    }
)]
#[case::given_labels(
    json!({
        "selector": "projectcalico.org/namespace == 'a' && selvage.io/serviceaccount == 'b' \
                     && has(projectcalico.org/orchestrator)",
        "namespaceSelector": "selvage.io/name == 'c'",
        "serviceAccountSelector": "projectcalico.org/name in { 'd' }",
    }),
    PodSet {
        namespaces: Namespaces::Matching(Selector::equals(given::NAME, "c")),
        accounts: Selector::equals(given::NAME, "d"),
        pods: Selector::all_of([
            Selector::equals(given::NAMESPACE, "a"),
            Selector::equals(given::SERVICE_ACCOUNT, "b"),
            Selector::exists(given::ORCHESTRATOR),
        ]),
    }
)]
#[case::two_names_of_one_given_label(
    json!({ "selector": "projectcalico.org/namespace == 'a' || !(selvage.io/namespace != 'b')" }),
    PodSet { pods: Selector::within(given::NAMESPACE, ["a".into(), "b".into()]), ..PodSet::all() }
)]
#[case::a_label_that_is_not_given_there_is_a_real_one(
    json!({ "selector": "projectcalico.org/name == 'a'", "namespaceSelector": "selvage.io/namespace == 'b'" }),
    PodSet {
        namespaces: Namespaces::Matching(Selector::equals("selvage.io/namespace", "b")),
        pods: Selector::equals("projectcalico.org/name", "a"),
        ..PodSet::all()
    }
)]
fn the_subject_of_a_global_policy(#[case] spec: Value, #[case] subject: PodSet) {
    let converted = global(spec);
    assert_eq!(converted.issues, []);
    assert_eq!(converted.policy.unwrap().subject, subject);
}

#[test]
fn the_subject_of_a_namespaced_policy() {
    let spec = json!({ "selector": "app == 'db'", "serviceAccountSelector": "has(x)" });
    let subject = PodSet {
        namespaces: Namespaces::Named("ns".into()),
        accounts: Selector::exists("x"),
        pods: Selector::equals("app", "db"),
    };
    assert_eq!(namespaced(spec).policy.unwrap().subject, subject);
}

#[rstest]
#[case::selector(json!({ "selector": "app ==" }), "spec.selector")]
#[case::namespaces(json!({ "namespaceSelector": "has(" }), "spec.namespaceSelector")]
#[case::accounts(json!({ "serviceAccountSelector": "a b" }), "spec.serviceAccountSelector")]
#[case::global_is_for_peers(json!({ "namespaceSelector": "global()" }), "spec.namespaceSelector")]
fn a_policy_whose_own_subject_cannot_be_read_is_not_enforced(#[case] spec: Value, #[case] path: &str) {
    let converted = global(spec);
    assert_eq!(converted.policy, None);
    assert_eq!(issues(&converted), [(path, Reason::InvalidSelector)]);
    let message = &converted.issues[0].message;
    assert!(message.ends_with("the policy is not enforced"), "{message}");
}

#[test]
fn an_error_says_the_column() {
    let message = &global(json!({ "selector": "app == 'a' or" })).issues[0].message;
    assert!(message.contains("column 12"), "{message}");
}

#[test]
fn what_else_is_wrong_with_a_policy_that_is_not_enforced_is_named_too() {
    let rule = json!({ "action": "Allow", "source": { "nets": ["010.0.0.0/8"] } });
    let converted = global(json!({ "selector": "?", "ingress": [rule] }));
    assert_eq!(converted.policy, None);
    let found =
        [("spec.selector", Reason::InvalidSelector), ("spec.ingress[0].source.nets[0]", Reason::InvalidCIDR)];
    assert_eq!(issues(&converted), found);
}

/// "`types` absent: Ingress if there are ingress rules or none at all; Egress if there are egress rules."
#[rstest]
#[case::none_at_all(json!({}), Some(0), None)]
#[case::empty_lists(json!({ "types": [], "ingress": [], "egress": [] }), Some(0), None)]
#[case::ingress_rules(json!({ "ingress": [{ "action": "Deny" }] }), Some(1), None)]
#[case::egress_rules(json!({ "egress": [{ "action": "Deny" }] }), None, Some(1))]
#[case::both(json!({ "ingress": [{ "action": "Deny" }], "egress": [{ "action": "Deny" }] }), Some(1), Some(1))]
#[case::just_ingress(json!({ "types": ["Ingress"], "egress": [{ "action": "Deny" }] }), Some(0), None)]
#[case::just_egress(json!({ "types": ["Egress"], "ingress": [{ "action": "Deny" }] }), None, Some(0))]
#[case::both_said(json!({ "types": ["Egress", "Ingress"] }), Some(0), Some(0))]
fn types(#[case] spec: Value, #[case] ingress: Option<usize>, #[case] egress: Option<usize>) {
    for converted in [global(spec.clone()), namespaced(spec)] {
        assert_eq!(converted.issues, []);
        let policy = converted.policy.unwrap();
        let rules = (policy.ingress.map(|rules| rules.len()), policy.egress.map(|rules| rules.len()));
        assert_eq!(rules, (ingress, egress));
    }
}

#[test]
fn rules_keep_their_order() {
    let rules = json!(["Log", "Pass", "Deny", "Allow"].map(|action| json!({ "action": action })));
    let policy = namespaced(json!({ "ingress": rules })).policy.unwrap();
    let actions: Vec<_> = policy.ingress.unwrap().into_iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Log, Action::Pass, Action::Deny, Action::Allow]);
}

/// "Declared and refused by the schema, never pruned": what gets by it is named, and the rest enforced.
#[test]
fn fields_of_calico_that_are_not_supported() {
    let fields = ["doNotTrack", "preDNAT", "applyOnForward"];
    let mut spec = json!({ "performanceHints": ["x"] });
    for field in fields {
        spec[field] = json!(true);
    }
    let paths = ["spec.doNotTrack", "spec.preDNAT", "spec.applyOnForward", "spec.performanceHints"];
    let mut wanted = paths.map(|path| (path, Reason::Unsupported)).to_vec();
    let converted = global(spec.clone());
    assert_eq!(issues(&converted), wanted);
    assert_eq!(converted.policy.unwrap().subject, PodSet::all());

    spec["namespaceSelector"] = json!("all()");
    wanted.push(("spec.namespaceSelector", Reason::Unsupported));
    let converted = namespaced(spec);
    assert_eq!(issues(&converted), wanted);
    assert_eq!(converted.policy.unwrap().subject.namespaces, Namespaces::Named("ns".into()));
}
