//! Names of ports: how many of them a rule may have, and what pods have under several.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use std::collections::BTreeSet;
use std::net::IpAddr;

use common::build::*;
use selvage_policy::compiled::{Action::Allow, End, Member, NamedPort, Service};
use selvage_policy::model::{PortTerm, Ports};
use selvage_policy::selector::Selector;

/// As many names as a list of a rule can have, each of every protocol that carries names.
fn names() -> Vec<Ports> {
    let of = |index| [TCP, UDP, SCTP].map(|protocol| named(protocol, &format!("name-{index}")));
    (0..100).flat_map(of).collect()
}

/// Conditions of the only rule for packets from pods.
fn conditions(negated: bool, end: End) -> Vec<Vec<Service>> {
    let mut cluster = Cluster::small();
    let mut given = rule(Allow);
    given.ports = vec![PortTerm { end, negated, ports: names() }];
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress([given]));
    let node = cluster.engine.node("node-1").unwrap();
    let rules = &node.policies[&policy_key("shop/p")].egress;
    assert_eq!(rules.len(), 1, "{rules:#?}");
    rules[0].services.clone()
}

#[test]
fn many_names_are_one_condition() {
    for end in [End::Source, End::Destination] {
        for negated in [false, true] {
            let conditions = conditions(negated, end);
            assert_eq!(conditions.len(), 1, "{end:?}, negated: {negated}");
            assert_eq!(conditions[0].len(), 1, "{end:?}, negated: {negated}");
        }
    }
}

#[test]
fn a_port_of_two_names_stays_until_it_has_neither() {
    let mut cluster = Cluster::small();
    let to = rule(Allow).ports([named(TCP, "http"), named(TCP, "web")]);
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress([to]));
    let web: IpAddr = "10.0.1.1".parse().unwrap();
    let port = |number| Member::Port(web, TCP, number);
    let has = |cluster: &Cluster| -> BTreeSet<Member> {
        let groups = cluster.engine.groups();
        let members = groups.iter().flat_map(|id| cluster.engine.group(*id).unwrap().members);
        members.filter(|member| matches!(member, Member::Port(address, ..) if *address == web)).collect()
    };
    assert_eq!(has(&cluster), [port(8080)].into());
    let delta = cluster.change("shop/web", |pod| *pod = pod.clone().port(TCP, "web", 8080));
    assert!(delta.groups.is_empty(), "{delta:#?}");
    let delta = cluster.change("shop/web", |pod| {
        pod.named_ports.remove(&name_of("http"));
    });
    assert!(delta.groups.is_empty(), "{delta:#?}");
    assert_eq!(has(&cluster), [port(8080)].into());
    cluster.change("shop/web", |pod| {
        pod.named_ports.remove(&name_of("web"));
    });
    assert!(has(&cluster).is_empty());
}

fn name_of(name: &str) -> NamedPort {
    NamedPort { protocol: TCP, name: name.into() }
}
