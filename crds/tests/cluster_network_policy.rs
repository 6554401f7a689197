//! Upstream's policies are read whole: what is not known here is seen, for it closes the rule that holds it.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use selvage_crds::ClusterNetworkPolicy;
use serde_json::{Value, json};

fn policy() -> Value {
    let selector = json!({"matchLabels": {"a": "b"}});
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {
            "tier": "Admin",
            "priority": 7,
            "subject": {"pods": {"namespaceSelector": selector, "podSelector": selector}},
            "ingress": [{
                "name": "in",
                "action": "Accept",
                "from": [{"namespaces": selector}, {"pods": {"namespaceSelector": {}, "podSelector": selector}}],
                "protocols": [{"tcp": {"destinationPort": {"number": 80}}}, {"destinationNamedPort": "http"}],
            }],
            "egress": [{
                "action": "Pass",
                "to": [{"nodes": selector}, {"networks": ["10.0.0.0/8"]}, {"domainNames": ["example.com"]}],
                "protocols": [
                    {"udp": {"destinationPort": {"range": {"start": 1, "end": 2}}}},
                    {"sctp": {"destinationPort": {"number": 9}}},
                ],
            }],
        },
    })
}

fn read(policy: &Value) -> ClusterNetworkPolicy {
    serde_json::from_value(policy.clone()).expect("is read")
}

#[test]
fn what_is_known_is_kept() {
    let object = read(&policy());
    assert_eq!(serde_json::to_value(&object).expect("JSON"), policy());
    let (ingress, egress) = (&object.spec.ingress[0], &object.spec.egress[0]);
    assert!(object.spec.subject.other.is_empty() && ingress.other.is_empty() && egress.other.is_empty());
    assert!(egress.to.iter().all(|peer| peer.other.is_empty()));
    assert!(egress.protocols.iter().all(|protocol| protocol.other.is_empty()));
}

#[test]
fn what_is_not_known_is_seen() {
    let mut policy = policy();
    for place in [
        "/spec/subject",
        "/spec/subject/pods",
        "/spec/ingress/0",
        "/spec/ingress/0/from/0",
        "/spec/egress/0",
        "/spec/egress/0/to/1",
        "/spec/egress/0/protocols/0",
        "/spec/egress/0/protocols/0/udp",
        "/spec/egress/0/protocols/0/udp/destinationPort",
    ] {
        policy.pointer_mut(place).expect("a place")["later"] = json!({"x": [1]});
    }
    policy["spec"]["ingress"][0]["action"] = "Perhaps".into();
    let object = read(&policy);
    assert_eq!(serde_json::to_value(&object).expect("JSON"), policy);
    let egress = &object.spec.egress[0];
    assert!(egress.to[1].other.contains_key("later"), "{egress:?}");
    assert_eq!(object.spec.ingress[0].action, "Perhaps");
}

#[test]
fn what_is_missing_is_empty() {
    let object = read(&json!({"metadata": {"name": "p"}, "spec": {"ingress": [{"from": [{}]}]}}));
    assert_eq!((&*object.spec.tier, object.spec.subject.namespaces.is_none()), ("", true));
    assert_eq!(object.spec.ingress[0].from[0], Default::default());
}
