//! Who a rule is about.

use rstest::rstest;
use selvage_policy::compiled::{Action, End, Family};
use selvage_policy::model::{Entity, Key, Namespaces, Peer, PeerTerm, PortTerm, Ports, Rule, given};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use super::*;
use crate::convert::Reason;

#[rstest]
#[case::allow("Allow", Action::Allow)]
#[case::deny("Deny", Action::Deny)]
#[case::pass("Pass", Action::Pass)]
#[case::log("Log", Action::Log)]
fn a_rule_that_says_nothing_else_matches_anything(#[case] name: &str, #[case] action: Action) {
    for (kind, direction) in [Kind::Global, Kind::Namespaced].into_iter().zip(DIRECTIONS) {
        let any = Entity::default();
        let (source, destination) = (any.clone(), any);
        let wanted = Rule { action, family: None, ports: vec![], source, destination };
        let empty = json!({ "action": name, "source": {}, "destination": {} });
        for given in [json!({ "action": name }), empty] {
            assert_eq!(rule(kind, direction, given), (wanted.clone(), vec![]));
        }
    }
}

/// "All fields of a rule must hold."
#[test]
fn every_field_of_a_rule_is_a_condition_of_its_own() {
    let given = json!({
        "action": "Deny", "ipVersion": 4, "protocol": "TCP", "notProtocol": "SCTP",
        "source": {
            "nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"], "selector": "has(x)", "notSelector": "a == 'b'",
            "ports": [1], "notPorts": [2],
        },
        "destination": { "notNets": ["fd00::/8"], "ports": [3], "notPorts": [4] },
    });
    let (read, found) = rule(Kind::Global, "ingress", given);
    assert_eq!(found, []);
    assert_eq!((read.action, read.family), (Action::Deny, Some(Family::V4)));
    let conditions = [
        protocol(6),
        not_at(End::Destination, vec![Ports::Protocol(132)]),
        at(End::Source, vec![range(6, 1, 1)]),
        not_at(End::Source, vec![range(6, 2, 2)]),
        at(End::Destination, vec![range(6, 3, 3)]),
        not_at(End::Destination, vec![range(6, 4, 4)]),
    ];
    assert_eq!(read.ports, conditions);
    let terms = [
        is(vec![net("10.0.0.0/8")]),
        is_not(vec![net("10.1.0.0/16")]),
        is(anything(x())),
        is_not(anything(Selector::equals("a", "b"))),
    ];
    assert_eq!(read.source.terms, terms);
    assert_eq!(read.destination.terms, [is_not(vec![net("fd00::/8")])]);
}

/// "In a namespaced policy a peer without namespaceSelector means its own namespace once selector, notSelector or
/// serviceAccounts (even `{}`) is used; `nets` alone is free."
#[rstest]
#[case::nets_alone_is_free(json!({ "nets": ["192.0.2.0/24"] }), vec![is(vec![net("192.0.2.0/24")])])]
#[case::not_nets_alone_is_free(json!({ "notNets": ["192.0.2.0/24"] }), vec![is_not(vec![net("192.0.2.0/24")])])]
#[case::selector(json!({ "selector": "has(x)" }), vec![is(within(own(), x()))])]
#[case::all_is_not_any_address(json!({ "selector": "all()" }), vec![is(within(own(), Selector::All))])]
#[case::not_selector(
    json!({ "notSelector": "has(x)" }), vec![is(within(own(), Selector::All)), is_not(within(own(), x()))]
)]
#[case::service_accounts(json!({ "serviceAccounts": {} }), vec![is(accounts(own(), Selector::All, Selector::All))])]
#[case::beside_nets(
    json!({ "nets": ["192.0.2.0/24"], "selector": "has(x)" }),
    vec![is(vec![net("192.0.2.0/24")]), is(within(own(), x()))]
)]
#[case::all_namespaces(
    json!({ "namespaceSelector": "all()" }), vec![is(within(everywhere(), Selector::All))]
)]
#[case::some_namespaces(
    json!({ "namespaceSelector": "team == 'a'", "selector": "has(x)", "notSelector": "has(y)" }),
    vec![
        is(within(Namespaces::Matching(Selector::equals("team", "a")), x())),
        is_not(within(Namespaces::Matching(Selector::equals("team", "a")), Selector::exists("y"))),
    ]
)]
#[case::global_sets(json!({ "namespaceSelector": "global()" }), vec![is(vec![sets(None, Selector::All)])])]
#[case::some_global_sets(
    json!({ "namespaceSelector": " global() ", "selector": "has(x)" }), vec![is(vec![sets(None, x())])]
)]
#[case::blank_is_not_set(
    json!({ "selector": "", "notSelector": " ", "namespaceSelector": "" }), vec![]
)]
#[case::empty_lists_are_not_set(json!({ "nets": [], "notNets": [], "ports": [], "notPorts": [] }), vec![])]
fn peers_of_a_namespaced_policy(#[case] given: Value, #[case] terms: Vec<PeerTerm>) {
    assert_eq!(source(Kind::Namespaced, given), (terms, vec![]));
}

/// "`namespaceSelector: all()` leaves GlobalNetworkSets out; `global()` means just them. Global without one: all pods,
/// NetworkSets and GlobalNetworkSets. `notNets`, and in a global policy `notSelector`, alone match the outside too."
#[rstest]
#[case::selector(json!({ "selector": "has(x)" }), vec![is(anything(x()))])]
#[case::all_is_not_any_address(json!({ "selector": "all()" }), vec![is(anything(Selector::All))])]
#[case::not_selector_alone(json!({ "notSelector": "has(x)" }), vec![is_not(anything(x()))])]
#[case::not_nets_alone(json!({ "notNets": ["fd00::/8"] }), vec![is_not(vec![net("fd00::/8")])])]
#[case::not_selector_within_namespaces(
    json!({ "namespaceSelector": "all()", "notSelector": "has(x)" }),
    vec![is(within(everywhere(), Selector::All)), is_not(within(everywhere(), x()))]
)]
#[case::all_leaves_global_sets_out(
    json!({ "namespaceSelector": "all()", "selector": "has(x)" }), vec![is(within(everywhere(), x()))]
)]
#[case::by_namespace(
    json!({ "namespaceSelector": "projectcalico.org/name == 'a'" }),
    vec![is(within(Namespaces::Matching(Selector::equals(given::NAME, "a")), Selector::All))]
)]
#[case::global_sets(
    json!({ "namespaceSelector": "global()", "selector": "has(x)" }), vec![is(vec![sets(None, x())])]
)]
#[case::not_in_global_sets(
    json!({ "namespaceSelector": "global()", "notSelector": "has(x)" }),
    vec![is(vec![sets(None, Selector::All)]), is_not(vec![sets(None, x())])]
)]
#[case::a_given_label(
    json!({ "selector": "selvage.io/namespace == 'a'" }), vec![is(anything(Selector::equals(given::NAMESPACE, "a")))]
)]
#[case::any_account(
    json!({ "serviceAccounts": {} }), vec![is(accounts(everywhere(), Selector::All, Selector::All))]
)]
#[case::accounts_by_name(
    json!({ "serviceAccounts": { "names": ["a", "b"] } }),
    vec![is(accounts(everywhere(), Selector::within(given::NAME, ["a".into(), "b".into()]), Selector::All))]
)]
#[case::accounts_by_name_and_label(
    json!({ "serviceAccounts": { "names": ["a"], "selector": "has(x)" }, "namespaceSelector": "has(n)", "selector": "has(p)" }),
    vec![is(accounts(
        Namespaces::Matching(Selector::exists("n")),
        Selector::all_of([Selector::equals(given::NAME, "a"), x()]),
        Selector::exists("p"),
    ))]
)]
#[case::no_set_has_an_account(
    json!({ "serviceAccounts": { "names": ["a"] }, "namespaceSelector": "global()" }), vec![is(vec![])]
)]
fn peers_of_a_global_policy(#[case] given: Value, #[case] terms: Vec<PeerTerm>) {
    assert_eq!(source(Kind::Global, given), (terms, vec![]));
}

#[test]
fn networks_are_masked_and_noted() {
    let given = json!({ "nets": ["10.0.0.1/8", "192.0.2.7", "2001:db8::1"], "notNets": ["10.1.2.3/16"] });
    let (terms, found) = source(Kind::Global, given);
    let nets = vec![net("10.0.0.0/8"), net("192.0.2.7/32"), net("2001:db8::1/128")];
    assert_eq!(terms, [is(nets), is_not(vec![net("10.1.0.0/16")])]);
    let path = "spec.ingress[0].source";
    let notes = [
        (format!("{path}.nets[0]"), Reason::HostBitsMasked),
        (format!("{path}.notNets[0]"), Reason::HostBitsMasked),
    ];
    assert_eq!(found, notes);
}

/// "`services` (egress destination, ingress source): all EndpointSlice addresses, for egress with their ports; global
/// names a namespace."
#[rstest]
#[case::own_namespace(Kind::Namespaced, json!({ "name": "db" }), "ns")]
#[case::blank_namespace(Kind::Namespaced, json!({ "name": "db", "namespace": "" }), "ns")]
#[case::another_namespace(Kind::Namespaced, json!({ "name": "db", "namespace": "other" }), "other")]
#[case::global(Kind::Global, json!({ "name": "db", "namespace": "other" }), "other")]
fn services(#[case] kind: Kind, #[case] service: Value, #[case] namespace: &str) {
    let key = Key { namespace: namespace.into(), name: "db".into() };
    let given = json!({ "action": "Allow", "source": { "services": service } });
    let (read, found) = rule(kind, "ingress", given);
    assert_eq!(found, []);
    assert_eq!(read.source.terms, [is(vec![Peer::Backends(key.clone())])]);
    assert_eq!((read.destination, read.ports), (Entity::default(), vec![]));

    let given = json!({ "action": "Allow", "destination": { "services": service } });
    let (read, found) = rule(kind, "egress", given);
    assert_eq!(found, []);
    assert_eq!((read.source, read.destination), (Entity::default(), Entity::default()));
    assert_eq!(read.ports, [PortTerm::any_of(vec![Ports::Backends(key)])]);
}

#[test]
fn a_source_service_may_stand_beside_ports() {
    let given = json!({
        "action": "Allow", "protocol": "TCP",
        "source": { "services": { "name": "db" }, "ports": [1] }, "destination": { "ports": [2] },
    });
    let (read, found) = rule(Kind::Namespaced, "ingress", given);
    assert_eq!(found, []);
    let conditions =
        [protocol(6), at(End::Source, vec![range(6, 1, 1)]), at(End::Destination, vec![range(6, 2, 2)])];
    assert_eq!(read.ports, conditions);
}
