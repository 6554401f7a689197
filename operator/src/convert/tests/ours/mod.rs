//! "Our own resources", row by row.

mod closed;
mod peers;
mod policy;
mod ports;

use selvage_policy::compiled::{End, NamedPort, PortRange};
use selvage_policy::model::{Namespaces, Peer, PeerTerm, PodSet, PortTerm, Ports, Rule, SetSelection};
use selvage_policy::selector::Selector;
use serde_json::{Value, json};

use crate::convert::{Converted, Reason, global_network_policy, selvage_network_policy};

pub(super) type Found = Vec<(String, Reason)>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Global,
    Namespaced,
}

pub(super) const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

pub(super) fn convert(kind: Kind, spec: Value) -> Converted {
    let object = json!({ "metadata": { "namespace": "ns", "name": "p" }, "spec": spec });
    match kind {
        Kind::Global => global_network_policy(&serde_json::from_value(object).unwrap()),
        Kind::Namespaced => selvage_network_policy(&serde_json::from_value(object).unwrap()),
    }
    .unwrap()
}

/// The only rule in this direction.
pub(super) fn rule(kind: Kind, direction: &str, rule: Value) -> (Rule, Found) {
    let converted = convert(kind, json!({ direction: [rule] }));
    let found = converted.issues.into_iter().map(|issue| (issue.path, issue.reason)).collect();
    let policy = converted.policy.unwrap();
    let rules = if direction == "ingress" { policy.ingress } else { policy.egress };
    (rules.unwrap().remove(0), found)
}

/// What an Allow says, at both ends of both directions: they are read alike.
pub(super) fn source(kind: Kind, source: Value) -> (Vec<PeerTerm>, Found) {
    let (read, found) = rule(kind, "ingress", json!({ "action": "Allow", "source": source.clone() }));
    let (other, _) = rule(kind, "egress", json!({ "action": "Allow", "destination": source }));
    assert_eq!((&read.source, &read.destination), (&other.destination, &other.source));
    (read.source.terms, found)
}

pub(super) fn ports(parts: Value) -> (Vec<PortTerm>, Found) {
    let mut given = json!({ "action": "Allow" });
    for (key, value) in parts.as_object().unwrap() {
        given[key] = value.clone();
    }
    let (read, found) = rule(Kind::Global, "ingress", given);
    (read.ports, found)
}

pub(super) fn is(peers: Vec<Peer>) -> PeerTerm {
    PeerTerm { negated: false, peers }
}

pub(super) fn is_not(peers: Vec<Peer>) -> PeerTerm {
    PeerTerm { negated: true, peers }
}

pub(super) fn net(net: &str) -> Peer {
    Peer::Block { net: net.parse().unwrap(), except: vec![] }
}

pub(super) fn pods(namespaces: Namespaces, pods: Selector) -> Peer {
    Peer::Pods(PodSet { namespaces, accounts: Selector::All, pods })
}

pub(super) fn sets(namespaces: Option<Namespaces>, sets: Selector) -> Peer {
    Peer::Sets(SetSelection { namespaces, sets })
}

pub(super) fn everywhere() -> Namespaces {
    Namespaces::Matching(Selector::All)
}

pub(super) fn own() -> Namespaces {
    Namespaces::Named("ns".into())
}

pub(super) fn x() -> Selector {
    Selector::exists("x")
}

/// Pods and NetworkSets there.
pub(super) fn within(namespaces: Namespaces, selector: Selector) -> Vec<Peer> {
    vec![pods(namespaces.clone(), selector.clone()), sets(Some(namespaces), selector)]
}

/// "Global without one: all pods, NetworkSets and GlobalNetworkSets."
pub(super) fn anything(selector: Selector) -> Vec<Peer> {
    let mut peers = within(everywhere(), selector.clone());
    peers.push(sets(None, selector));
    peers
}

pub(super) fn accounts(namespaces: Namespaces, accounts: Selector, pods: Selector) -> Vec<Peer> {
    vec![Peer::Pods(PodSet { namespaces, accounts, pods })]
}

pub(super) fn at(end: End, ports: Vec<Ports>) -> PortTerm {
    PortTerm { end, negated: false, ports }
}

pub(super) fn not_at(end: End, ports: Vec<Ports>) -> PortTerm {
    PortTerm { end, negated: true, ports }
}

pub(super) fn protocol(number: u8) -> PortTerm {
    PortTerm::any_of(vec![Ports::Protocol(number)])
}

pub(super) fn range(protocol: u8, first: u16, last: u16) -> Ports {
    Ports::Range(protocol, PortRange { first, last })
}

pub(super) fn named(protocol: u8, name: &str) -> Ports {
    Ports::Named(NamedPort { protocol, name: name.into() })
}

pub(super) fn every_protocol(name: &str) -> Vec<Ports> {
    [6, 17, 132].map(|protocol| named(protocol, name)).to_vec()
}
