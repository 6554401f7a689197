//! "ClusterNetworkPolicy v1alpha2", row by row.

use rstest::rstest;
use selvage_policy::compiled::{Action, NamedPort, PortRange};
use selvage_policy::model::{Entity, Namespaces, Order, Peer, PodSet, PortTerm, Ports, Rule};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use crate::convert::{Converted, Reason, cluster_network_policy};

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

fn convert(change: Value) -> Converted {
    let mut spec = json!({ "tier": "Admin", "priority": 10, "subject": { "namespaces": {} } });
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let metadata = json!({ "name": "p", "uid": "u", "generation": 3 });
    let object = json!({ "metadata": metadata, "spec": spec });
    cluster_network_policy(&serde_json::from_value(object).unwrap()).unwrap()
}

fn issues(converted: &Converted) -> Vec<(String, Reason)> {
    converted.issues.iter().map(|issue| (issue.path.clone(), issue.reason)).collect()
}

/// The only rule in this direction.
fn rule(direction: &str, rule: &Value) -> (Rule, Vec<(String, Reason)>) {
    let converted = convert(json!({ direction: [rule] }));
    let found = issues(&converted);
    let policy = converted.policy.unwrap();
    let (rules, other) = match direction {
        "ingress" => (policy.ingress, policy.egress),
        _ => (policy.egress, policy.ingress),
    };
    assert_eq!(other, None, "a direction without rules is untouched");
    (rules.unwrap().remove(0), found)
}

fn matching(key: &str, value: &str) -> Namespaces {
    Namespaces::Matching(Selector::equals(key, value))
}

fn pods(namespaces: Namespaces, pods: Selector) -> PodSet {
    PodSet { namespaces, accounts: Selector::All, pods }
}

fn net(net: &str) -> Peer {
    Peer::Block { net: net.parse().unwrap(), except: vec![] }
}

#[rstest]
#[case::admin("Admin", 0, "kube-admin")]
#[case::baseline("Baseline", 1000, "kube-baseline")]
fn tier_and_priority(#[case] given: &str, #[case] priority: i32, #[case] tier: &str) {
    let converted = convert(json!({ "tier": given, "priority": priority }));
    assert_eq!(converted.key.to_string(), "ClusterNetworkPolicy p");
    assert_eq!(converted.issues, []);
    let policy = converted.policy.unwrap();
    assert_eq!((&*policy.uid, policy.generation, &*policy.tier), ("u", 3, tier));
    assert_eq!(policy.order.map(Order::get), Some(f64::from(priority)));
}

/// "No implicit deny; a direction without rules is untouched."
#[rstest]
#[case::absent(json!({}))]
#[case::empty(json!({ "ingress": [], "egress": [] }))]
fn a_direction_without_rules_is_untouched(#[case] change: Value) {
    let policy = convert(change).policy.unwrap();
    assert_eq!((policy.ingress, policy.egress), (None, None));
}

#[rstest]
#[case::all_namespaces(json!({ "namespaces": {} }), PodSet::all())]
#[case::some_namespaces(
    json!({ "namespaces": { "matchLabels": { "team": "a" } } }), pods(matching("team", "a"), Selector::All)
)]
#[case::pods(
    json!({ "pods": {
        "namespaceSelector": { "matchLabels": { "team": "a" } }, "podSelector": { "matchLabels": { "app": "db" } },
    } }),
    pods(matching("team", "a"), Selector::equals("app", "db"))
)]
#[case::pods_of_all_namespaces(
    json!({ "pods": { "podSelector": { "matchLabels": { "app": "db" } } } }),
    pods(Namespaces::Matching(Selector::All), Selector::equals("app", "db"))
)]
#[case::real_labels_alone(
    json!({ "namespaces": { "matchLabels": { "projectcalico.org/name": "a" } } }),
    pods(matching("projectcalico.org/name", "a"), Selector::All)
)]
fn subjects(#[case] given: Value, #[case] subject: PodSet) {
    let converted = convert(json!({ "subject": given }));
    assert_eq!(converted.issues, []);
    assert_eq!(converted.policy.unwrap().subject, subject);
}

#[rstest]
#[case::empty(json!({ "subject": {} }), "spec.subject", Reason::InvalidSubject)]
#[case::unknown(json!({ "subject": { "machines": {} } }), "spec.subject.machines", Reason::Unsupported)]
#[case::two(
    json!({ "subject": { "namespaces": {}, "pods": { "podSelector": {} } } }), "spec.subject", Reason::InvalidSubject
)]
#[case::selector(
    json!({ "subject": { "namespaces": { "matchExpressions": [{ "key": "a", "operator": "Near" }] } } }),
    "spec.subject.namespaces.matchExpressions[0].operator", Reason::InvalidSelector
)]
#[case::pod_selector(
    json!({ "subject": { "pods": { "podSelector": { "matchExpressions": [{ "key": "a", "operator": "In" }] } } } }),
    "spec.subject.pods.podSelector.matchExpressions[0].values", Reason::InvalidSelector
)]
fn a_policy_whose_subject_cannot_be_read_is_not_enforced(
    #[case] change: Value,
    #[case] path: &str,
    #[case] reason: Reason,
) {
    let converted = convert(change);
    assert_eq!(converted.policy, None);
    assert_eq!(issues(&converted), [(path.to_owned(), reason)]);
    assert!(converted.issues[0].message.ends_with("the policy is not enforced"));
}

#[rstest]
#[case::accept("Accept", Action::Allow)]
#[case::deny("Deny", Action::Deny)]
#[case::pass("Pass", Action::Pass)]
fn peers_of_both_directions(#[case] name: &str, #[case] action: Action) {
    for (direction, field) in DIRECTIONS {
        let given = json!({ "name": "a rule", "action": name, field: [
            { "namespaces": { "matchLabels": { "team": "a" } } },
            { "pods": { "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "db" } } } },
        ] });
        let (read, found) = rule(direction, &given);
        assert_eq!(found, []);
        let peers = Entity::any_of(vec![
            Peer::Pods(pods(matching("team", "a"), Selector::All)),
            Peer::Pods(pods(Namespaces::Matching(Selector::All), Selector::equals("app", "db"))),
        ]);
        let any = Entity::default();
        let (source, destination) = if direction == "ingress" { (peers, any) } else { (any, peers) };
        // "No `protocols`: every one, ICMP too."
        assert_eq!(read, Rule { action, family: None, ports: vec![], source, destination });
    }
}

/// "`networks` match pods too; `nodes` are the IPs in status.addresses."
#[test]
fn peers_of_egress_alone() {
    let given = json!({ "action": "Deny", "to": [
        { "networks": ["10.0.0.0/8", "fd00::/8"] },
        { "nodes": { "matchLabels": { "role": "edge" } } },
        { "nodes": {} },
    ] });
    let (read, found) = rule("egress", &given);
    assert_eq!(found, []);
    let peers = vec![
        net("10.0.0.0/8"),
        net("fd00::/8"),
        Peer::Nodes(Selector::equals("role", "edge")),
        Peer::Nodes(Selector::All),
    ];
    assert_eq!(read.destination, Entity::any_of(peers));
}

#[test]
fn host_bits_are_masked_and_noted() {
    let (read, found) = rule("egress", &json!({ "action": "Deny", "to": [{ "networks": ["10.0.0.1/8"] }] }));
    assert_eq!(read.destination, Entity::any_of(vec![net("10.0.0.0/8")]));
    assert_eq!(found, [("spec.egress[0].to[0].networks[0]".to_owned(), Reason::HostBitsMasked)]);
}

fn range(protocol: u8, first: u16, last: u16) -> Vec<Ports> {
    vec![Ports::Range(protocol, PortRange { first, last })]
}

#[rstest]
#[case::tcp(json!({ "tcp": { "destinationPort": { "number": 80 } } }), range(6, 80, 80))]
#[case::udp(json!({ "udp": { "destinationPort": { "number": 53 } } }), range(17, 53, 53))]
#[case::sctp(
    json!({ "sctp": { "destinationPort": { "range": { "start": 1, "end": 65535 } } } }), range(132, 1, 65535)
)]
// "Whatever protocol carries the name."
#[case::named(
    json!({ "destinationNamedPort": "http" }),
    [6, 17, 132].map(|protocol| Ports::Named(NamedPort { protocol, name: "http".into() })).to_vec()
)]
fn protocols(#[case] given: Value, #[case] entries: Vec<Ports>) {
    for (direction, field) in DIRECTIONS {
        let given = json!({ "action": "Accept", field: [{ "namespaces": {} }], "protocols": [given] });
        let (read, found) = rule(direction, &given);
        assert_eq!((read.ports, found), (vec![PortTerm::any_of(entries.clone())], vec![]));
    }
}

#[test]
fn entries_of_protocols_are_alternatives() {
    let protocols = json!([
        { "tcp": { "destinationPort": { "number": 53 } } }, { "udp": { "destinationPort": { "number": 53 } } },
    ]);
    let (read, _) = rule(
        "egress",
        &json!({
            "action": "Accept", "to": [{ "namespaces": {} }], "protocols": protocols,
        }),
    );
    assert_eq!(read.ports, [PortTerm::any_of([range(6, 53, 53), range(17, 53, 53)].concat())]);
}

/// "A rule with a peer or protocol entry that is empty, unknown, unsupported or unreadable, or a named port beside
/// networks / nodes / domainNames, fails closed as a whole."
#[rstest]
#[case::empty_peer(json!({ "to": [{ "namespaces": {} }, {}] }), "to[1]", Reason::InvalidPeer)]
#[case::unknown_peer(json!({ "to": [{ "galaxies": {} }] }), "to[0].galaxies", Reason::Unsupported)]
#[case::no_peer(json!({ "to": [] }), "to", Reason::InvalidPeer)]
#[case::two_fields(json!({ "to": [{ "namespaces": {}, "nodes": {} }] }), "to[0]", Reason::InvalidPeer)]
#[case::no_network(json!({ "to": [{ "networks": [] }] }), "to[0].networks", Reason::InvalidPeer)]
#[case::domain_names(json!({ "to": [{ "domainNames": ["a.b"] }] }), "to[0].domainNames", Reason::Unsupported)]
#[case::network(
    json!({ "to": [{ "networks": ["10.0.0.0/8", "010.0.0.0/8"] }] }), "to[0].networks[1]", Reason::InvalidCIDR
)]
#[case::an_address_is_no_network(
    json!({ "to": [{ "networks": ["10.0.0.1"] }] }), "to[0].networks[0]", Reason::InvalidCIDR
)]
#[case::namespaces(
    json!({ "to": [{ "namespaces": { "matchExpressions": [{ "key": "a", "operator": "Near" }] } }] }),
    "to[0].namespaces.matchExpressions[0].operator", Reason::InvalidSelector
)]
#[case::pods(
    json!({ "to": [{ "pods": { "podSelector": { "matchExpressions": [{ "key": "", "operator": "Exists" }] } } }] }),
    "to[0].pods.podSelector.matchExpressions[0].key", Reason::InvalidSelector
)]
#[case::nodes(
    json!({ "to": [{ "nodes": { "matchExpressions": [{ "key": "a", "operator": "Gt", "values": ["1"] }] } }] }),
    "to[0].nodes.matchExpressions[0].operator", Reason::InvalidSelector
)]
#[case::a_value_no_label_can_have(
    json!({ "to": [{ "namespaces": { "matchLabels": { "a": "not/a value" } } }] }),
    "to[0].namespaces.matchLabels", Reason::InvalidSelector
)]
#[case::a_key_no_label_can_have(
    json!({ "to": [{ "namespaces": { "matchLabels": { "@name": "a" } } }] }),
    "to[0].namespaces.matchLabels", Reason::InvalidSelector
)]
#[case::values_no_label_can_have(
    json!({ "to": [{ "namespaces": { "matchExpressions": [{ "key": "a", "operator": "NotIn", "values": ["b", "-"] }] } }] }),
    "to[0].namespaces.matchExpressions[0].values", Reason::InvalidSelector
)]
#[case::beside_a_known_field(
    json!({ "to": [{ "pods": { "podSelector": {}, "color": 1 } }] }), "to[0].pods.color", Reason::Unsupported
)]
#[case::a_field_of_a_port(
    json!({ "protocols": [{ "tcp": { "destinationPort": { "number": 1 }, "sourcePort": {} } }] }),
    "protocols[0].tcp.sourcePort", Reason::Unsupported
)]
#[case::another_way_to_say_a_port(
    json!({ "protocols": [{ "tcp": { "destinationPort": { "service": "http" } } }] }),
    "protocols[0].tcp.destinationPort.service", Reason::Unsupported
)]
#[case::a_field_of_the_rule(json!({ "unless": [] }), "unless", Reason::Unsupported)]
#[case::empty_protocol(json!({ "protocols": [{}] }), "protocols[0]", Reason::InvalidProtocol)]
#[case::unknown_protocol(json!({ "protocols": [{ "icmp": {} }] }), "protocols[0].icmp", Reason::Unsupported)]
#[case::nothing_of_tcp(json!({ "protocols": [{ "tcp": {} }] }), "protocols[0].tcp", Reason::InvalidProtocol)]
#[case::two_protocols(
    json!({ "protocols": [{
        "tcp": { "destinationPort": { "number": 1 } }, "udp": { "destinationPort": { "number": 1 } },
    }] }),
    "protocols[0]", Reason::InvalidProtocol
)]
#[case::a_name_beside_a_protocol(
    json!({ "protocols": [{ "destinationNamedPort": "http", "tcp": { "destinationPort": { "number": 1 } } }] }),
    "protocols[0]", Reason::InvalidProtocol
)]
#[case::empty_port(
    json!({ "protocols": [{ "tcp": { "destinationPort": {} } }] }), "protocols[0].tcp.destinationPort", Reason::InvalidPort
)]
#[case::two_ports(
    json!({ "protocols": [{ "udp": { "destinationPort": { "number": 1, "range": { "start": 1, "end": 2 } } } }] }),
    "protocols[0].udp.destinationPort", Reason::InvalidPort
)]
#[case::port_zero(
    json!({ "protocols": [{ "udp": { "destinationPort": { "number": 0 } } }] }),
    "protocols[0].udp.destinationPort.number", Reason::InvalidPort
)]
#[case::port_too_large(
    json!({ "protocols": [{ "sctp": { "destinationPort": { "range": { "start": 1, "end": 65536 } } } }] }),
    "protocols[0].sctp.destinationPort.range.end", Reason::InvalidPort
)]
#[case::a_range_that_ends_before_it_starts(
    json!({ "protocols": [{ "sctp": { "destinationPort": { "range": { "start": 2, "end": 1 } } } }] }),
    "protocols[0].sctp.destinationPort.range.end", Reason::InvalidPort
)]
#[case::no_name(
    json!({ "protocols": [{ "destinationNamedPort": "80" }] }),
    "protocols[0].destinationNamedPort", Reason::InvalidPort
)]
#[case::a_name_beside_networks(
    json!({
        "to": [{ "namespaces": {} }, { "networks": ["10.0.0.0/8"] }], "protocols": [{ "destinationNamedPort": "http" }],
    }),
    "protocols[0].destinationNamedPort", Reason::InvalidPort
)]
#[case::a_name_beside_nodes(
    json!({ "to": [{ "nodes": {} }], "protocols": [{ "destinationNamedPort": "http" }] }),
    "protocols[0].destinationNamedPort", Reason::InvalidPort
)]
fn a_rule_that_cannot_be_read_fails_closed(
    #[case] parts: Value,
    #[case] field: &str,
    #[case] reason: Reason,
) {
    let nobody = Entity::any_of(vec![Peer::Nothing]);
    for (action, becomes, destination) in [
        ("Accept", Action::Allow, nobody),
        ("Deny", Action::Deny, Entity::default()),
        ("Pass", Action::Deny, Entity::default()),
    ] {
        let mut given = json!({ "to": [{ "namespaces": {} }], "action": action });
        for (key, value) in parts.as_object().unwrap() {
            given[key] = value.clone();
        }
        let source = Entity::default();
        let closed = Rule { action: becomes, family: None, ports: vec![], source, destination };
        let found = vec![(format!("spec.egress[0].{field}"), reason)];
        assert_eq!(rule("egress", &given), (closed, found), "{action}");
    }
}

/// Upstream's ingress peers are namespaces and pods: any other field is one that is not known here.
#[rstest]
#[case::nodes("nodes", json!({}))]
#[case::networks("networks", json!(["10.0.0.0/8"]))]
fn an_ingress_peer_that_only_egress_has_is_unknown(#[case] field: &str, #[case] value: Value) {
    let (read, found) = rule("ingress", &json!({ "action": "Pass", "from": [{ field: value }] }));
    assert_eq!(found, [(format!("spec.ingress[0].from[0].{field}"), Reason::Unsupported)]);
    assert_eq!(
        (read.action, read.source, read.destination),
        (Action::Deny, Entity::default(), Entity::default())
    );
}

#[test]
fn everything_is_denied_in_that_direction_and_rules_around_it_stay() {
    let good = json!({ "action": "Accept", "to": [{ "namespaces": {} }] });
    let bad = json!({ "action": "Pass", "to": [{}] });
    let converted = convert(json!({ "egress": [good, bad, good] }));
    let message = &converted.issues[0].message;
    assert!(message.ends_with("the rule denies everything in its direction"), "{message}");
    let actions: Vec<_> = converted.policy.unwrap().egress.unwrap().iter().map(|rule| rule.action).collect();
    assert_eq!(actions, [Action::Allow, Action::Deny, Action::Allow]);
}
