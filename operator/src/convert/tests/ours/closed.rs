//! Rules that can't be read.

use rstest::rstest;
use selvage_policy::compiled::Action;
use selvage_policy::model::{Entity, Peer, Rule};
use serde_json::{Value, json};

use super::*;
use crate::convert::Reason;

/// "An invalid rule is named in the condition and fails closed": Allow matches nothing, Deny and Pass deny everything
/// in that direction, Log is skipped.
#[rstest]
#[case::net(json!({ "source": { "nets": ["10.0.0.0/8", "010.0.0.0/8"] } }), "source.nets[1]", Reason::InvalidCIDR)]
#[case::not_net(
    json!({ "source": { "notNets": ["::ffff:10.0.0.0/104"] } }), "source.notNets[0]", Reason::InvalidCIDR
)]
#[case::a_host_name(json!({ "destination": { "nets": ["a.b"] } }), "destination.nets[0]", Reason::InvalidCIDR)]
#[case::selector(json!({ "source": { "selector": "a = 'b'" } }), "source.selector", Reason::InvalidSelector)]
#[case::not_selector(json!({ "source": { "notSelector": "a" } }), "source.notSelector", Reason::InvalidSelector)]
#[case::namespaces(
    json!({ "source": { "namespaceSelector": "(" } }), "source.namespaceSelector", Reason::InvalidSelector
)]
#[case::global_alone(
    json!({ "source": { "namespaceSelector": "global() || has(a)" } }),
    "source.namespaceSelector", Reason::InvalidSelector
)]
#[case::global_only_there(
    json!({ "source": { "selector": "global()" } }), "source.selector", Reason::InvalidSelector
)]
#[case::accounts(
    json!({ "source": { "serviceAccounts": { "names": ["a"], "selector": "!" } } }),
    "source.serviceAccounts.selector", Reason::InvalidSelector
)]
#[case::protocol(json!({ "protocol": "tcp" }), "protocol", Reason::InvalidProtocol)]
#[case::protocol_zero(json!({ "protocol": 0 }), "protocol", Reason::InvalidProtocol)]
#[case::protocol_too_large(json!({ "notProtocol": 256 }), "notProtocol", Reason::InvalidProtocol)]
#[case::icmp_alone(json!({ "icmp": { "type": 8 } }), "icmp", Reason::InvalidICMP)]
#[case::icmp_of_tcp(json!({ "protocol": "TCP", "notICMP": { "type": 8 } }), "notICMP", Reason::InvalidICMP)]
#[case::code_alone(json!({ "protocol": "ICMP", "icmp": { "code": 1 } }), "icmp.code", Reason::InvalidICMP)]
#[case::type_too_large(json!({ "protocol": "ICMP", "icmp": { "type": 256 } }), "icmp.type", Reason::InvalidICMP)]
#[case::code_negative(
    json!({ "protocol": "ICMP", "icmp": { "type": 3, "code": -1 } }), "icmp.code", Reason::InvalidICMP
)]
#[case::http(json!({ "http": { "methods": ["GET"] } }), "http", Reason::Unsupported)]
#[case::domains(json!({ "destination": { "domains": ["a.b"] } }), "destination.domains", Reason::Unsupported)]
#[case::ip_version(json!({ "ipVersion": 5 }), "ipVersion", Reason::InvalidIPVersion)]
#[case::number_alone(json!({ "destination": { "ports": [80] } }), "destination.ports[0]", Reason::InvalidPort)]
#[case::number_without_its_protocol(
    json!({ "notProtocol": "TCP", "destination": { "notPorts": [80] } }),
    "destination.notPorts[0]", Reason::InvalidPort
)]
#[case::ports_of_icmp(
    json!({ "protocol": "ICMP", "destination": { "ports": ["http"] } }),
    "destination.ports[0]", Reason::InvalidPort
)]
#[case::port_zero(
    json!({ "protocol": "TCP", "source": { "ports": [0] } }), "source.ports[0]", Reason::InvalidPort
)]
#[case::port_too_large(
    json!({ "protocol": "TCP", "source": { "ports": [1, 65536] } }), "source.ports[1]", Reason::InvalidPort
)]
#[case::a_range_that_ends_before_it_starts(
    json!({ "protocol": "TCP", "source": { "ports": ["90:80"] } }), "source.ports[0]", Reason::InvalidPort
)]
#[case::half_a_range(
    json!({ "protocol": "TCP", "source": { "ports": ["90:"] } }), "source.ports[0]", Reason::InvalidPort
)]
#[case::a_range_from_zero(
    json!({ "protocol": "TCP", "source": { "ports": ["0:80"] } }), "source.ports[0]", Reason::InvalidPort
)]
#[case::another_range(
    json!({ "protocol": "TCP", "source": { "ports": ["80-90"] } }), "source.ports[0]", Reason::InvalidPort
)]
#[case::no_name(
    json!({ "protocol": "TCP", "source": { "ports": [""] } }), "source.ports[0]", Reason::InvalidPort
)]
fn an_invalid_rule_fails_closed(#[case] parts: Value, #[case] field: &str, #[case] reason: Reason) {
    for direction in DIRECTIONS {
        let found = vec![(format!("spec.{direction}[0].{field}"), reason)];
        closes(Kind::Global, direction, &parts, &found);
        closes(Kind::Namespaced, direction, &parts, &found);
    }
}

/// Checks what each action becomes in a rule that can't be read.
fn closes(kind: Kind, direction: &str, parts: &Value, found: &Found) {
    let nobody = Entity::any_of(vec![Peer::Nothing]);
    for (action, becomes, destination) in [
        ("Allow", Action::Allow, nobody.clone()),
        ("Log", Action::Log, nobody),
        ("Deny", Action::Deny, Entity::default()),
        ("Pass", Action::Deny, Entity::default()),
    ] {
        let mut given = parts.clone();
        given["action"] = json!(action);
        let source = Entity::default();
        let closed = Rule { action: becomes, family: None, ports: vec![], source, destination };
        assert_eq!(rule(kind, direction, given), (closed, found.clone()), "{action} {direction}");
    }
}

#[rstest]
#[case::wrong_end(Kind::Namespaced, "ingress", "destination", json!({ "services": { "name": "a" } }), "services")]
#[case::other_wrong_end(Kind::Namespaced, "egress", "source", json!({ "services": { "name": "a" } }), "services")]
#[case::beside_nets(
    Kind::Namespaced, "ingress", "source", json!({ "services": { "name": "a" }, "nets": ["10.0.0.0/8"] }), "services"
)]
#[case::beside_not_nets(
    Kind::Namespaced, "egress", "destination",
    json!({ "services": { "name": "a" }, "notNets": ["10.0.0.0/8"] }), "services"
)]
#[case::beside_selector(
    Kind::Namespaced, "ingress", "source", json!({ "services": { "name": "a" }, "selector": "all()" }), "services"
)]
#[case::beside_not_selector(
    Kind::Namespaced, "ingress", "source", json!({ "services": { "name": "a" }, "notSelector": "all()" }), "services"
)]
#[case::beside_namespaces(
    Kind::Namespaced, "ingress", "source",
    json!({ "services": { "name": "a" }, "namespaceSelector": "all()" }), "services"
)]
#[case::beside_accounts(
    Kind::Namespaced, "ingress", "source", json!({ "services": { "name": "a" }, "serviceAccounts": {} }), "services"
)]
#[case::beside_ports(
    Kind::Namespaced, "egress", "destination",
    json!({ "services": { "name": "a" }, "ports": ["http"] }), "services"
)]
#[case::beside_not_ports(
    Kind::Namespaced, "egress", "destination",
    json!({ "services": { "name": "a" }, "notPorts": ["http"] }), "services"
)]
#[case::no_name(Kind::Namespaced, "ingress", "source", json!({ "services": { "name": "" } }), "services.name")]
#[case::no_namespace(Kind::Global, "ingress", "source", json!({ "services": { "name": "a" } }), "services.namespace")]
fn a_service_that_cannot_be_one(
    #[case] kind: Kind,
    #[case] direction: &str,
    #[case] end: &str,
    #[case] given: Value,
    #[case] field: &str,
) {
    let found = vec![(format!("spec.{direction}[0].{end}.{field}"), Reason::InvalidService)];
    closes(kind, direction, &json!({ end: given }), &found);
}

#[test]
fn all_that_is_wrong_with_a_rule_is_named_and_the_others_stay() {
    let bad = json!({
        "action": "Deny",
        "source": { "nets": ["x", "10.0.0.1/8"] },
        "destination": { "selector": "?", "notPorts": [0] },
    });
    let converted =
        convert(Kind::Global, json!({ "ingress": [{ "action": "Pass" }, bad, { "action": "Log" }] }));
    let found: Vec<_> = converted.issues.iter().map(|issue| (issue.path.as_str(), issue.reason)).collect();
    let wanted = [
        ("spec.ingress[1].source.nets[0]", Reason::InvalidCIDR),
        ("spec.ingress[1].source.nets[1]", Reason::HostBitsMasked),
        ("spec.ingress[1].destination.selector", Reason::InvalidSelector),
        ("spec.ingress[1].destination.notPorts[0]", Reason::InvalidPort),
    ];
    assert_eq!(found, wanted);
    for issue in converted.issues.iter().filter(|issue| !issue.is_note()) {
        assert!(issue.message.ends_with("the rule denies everything in its direction"), "{issue}");
    }
    let actions: Vec<_> = converted.policy.unwrap().ingress.unwrap().iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Pass, Action::Deny, Action::Log]);
}

#[test]
fn a_message_says_what_becomes_of_the_rule() {
    for (action, end) in [("Allow", "the rule allows nothing"), ("Log", "the rule is skipped")] {
        let converted = convert(Kind::Global, json!({ "egress": [{ "action": action, "ipVersion": 5 }] }));
        assert!(converted.issues[0].message.ends_with(end), "{}", converted.issues[0]);
    }
}
