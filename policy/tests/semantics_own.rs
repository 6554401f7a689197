//! "Our own resources" of the semantics, line by line, as far as the model and the compiler decide it.
//!
//! | the document says | here |
//! |---|---|
//! | all fields of a rule must hold; ipVersion | [`rules`] |
//! | protocol, notProtocol, icmp, notICMP, ports, notPorts, of either end | [`services`] |
//! | `selector` matches known pods and sets only; `notNets` and `notSelector` match the outside too | [`peers`] |
//! | own namespace, `all()`, `global()`, global without one | [`scopes`] |
//! | `services` | [`backends`] |
//! | given labels | [`given_labels`], and `lists::pods_have_labels_that_are_given` |
//! | the selector grammar | `selector_language` |
//! | NetworkSets | [`scopes`], `lists` |
//! | IPPool | `lists::a_node_masquerades_...`, `verdict` |
//! | all and only Log; no rules at all | `semantics_verdict::the_first_match_decides`, `lists::a_tier_counts_by_what_its_rules_do` |
//!
//! How fields become the model (defaults of `types`, what needs what, refusals, invalid rules) is
//! `operator/src/convert/tests/ours`.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::Allow;
use selvage_policy::compiled::{End, Family};
use selvage_policy::model::{
    Backends, Change, Entity, Key, Namespaces, NetworkSet, Peer, PeerTerm, PodSet, PortTerm, Ports, Rule,
    ServiceAccount, SetSelection, given,
};
use selvage_policy::selector::Selector;

/// A cluster in which shop/db takes what this rule allows.
fn guarded(rule: Rule) -> Cluster {
    let mut cluster = Cluster::small();
    let subject = pods_in("shop", Selector::equals("app", "db"));
    cluster.policy("guard", policy(subject).ingress([rule]));
    cluster
}

fn not(peers: impl IntoIterator<Item = Peer>) -> PeerTerm {
    PeerTerm { negated: true, peers: peers.into_iter().collect() }
}

fn only(peers: impl IntoIterator<Item = Peer>) -> PeerTerm {
    PeerTerm { negated: false, peers: peers.into_iter().collect() }
}

fn source(terms: impl IntoIterator<Item = PeerTerm>) -> Rule {
    Rule { source: Entity { terms: terms.into_iter().collect() }, ..rule(Allow) }
}

fn on(terms: impl IntoIterator<Item = (End, bool, Vec<Ports>)>) -> Rule {
    let terms = terms.into_iter().map(|(end, negated, ports)| PortTerm { end, negated, ports });
    Rule { ports: terms.collect(), ..rule(Allow) }
}

fn set(cluster: &mut Cluster, key: (&str, &str), pairs: &[(&str, &str)], nets: &[&str]) {
    let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    let key = Key { namespace: key.0.into(), name: key.1.into() };
    cluster.apply(Change::NetworkSet(key, Some(NetworkSet { labels: labels(pairs), nets })));
}

mod rules {
    use super::*;

    #[rstest]
    #[case::all_hold("bank/web", TCP, 80, true)]
    #[case::another_source("shop/web", TCP, 80, false)]
    #[case::another_port("bank/web", TCP, 81, false)]
    #[case::another_protocol("bank/web", UDP, 80, false)]
    #[case::another_family("bank/web@6", TCP, 80, false)]
    fn all_fields_of_a_rule_must_hold(
        #[case] from: &str,
        #[case] protocol: u8,
        #[case] port: u16,
        #[case] allowed: bool,
    ) {
        let rule = rule(Allow)
            .from([Peer::Pods(pods_in("bank", Selector::All))])
            .to([block("10.0.2.0/24", &[])])
            .ports([range(TCP, 80, 80)]);
        let cluster = guarded(rule);
        let to = if from.ends_with("@6") { "shop/db@6" } else { "shop/db" };
        assert_eq!(cluster.allows(from, to, protocol, port), allowed);
    }

    #[rstest]
    #[case(Family::V4, true, false)]
    #[case(Family::V6, false, true)]
    fn ip_version(#[case] family: Family, #[case] v4: bool, #[case] v6: bool) {
        let cluster = guarded(Rule { family: Some(family), ..rule(Allow) });
        assert_eq!(cluster.allows("bank/web", "shop/db", TCP, 80), v4);
        assert_eq!(cluster.allows("bank/web@6", "shop/db@6", TCP, 80), v6);
    }

    #[test]
    fn both_ends_of_a_rule_count_in_either_direction() {
        let mut cluster = Cluster::small();
        let rule = rule(Allow).from([block("10.0.1.1/32", &[])]).to([block("10.0.2.1/32", &[])]);
        cluster.policy("p", policy(all_pods()).ingress([rule.clone()]).egress([rule]));
        assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
        assert!(!cluster.allows("shop/web", "bank/web", TCP, 80));
        assert!(!cluster.allows("shop/db", "shop/web", TCP, 80));
    }
}

mod services {
    use super::*;
    use End::{Destination, Source};

    const PING: u8 = 58;

    #[rstest]
    #[case::the_protocol(TCP, false)]
    #[case::another(UDP, true)]
    #[case::one_without_ports(ICMP, true)]
    #[case::one_by_number(47, true)]
    fn not_protocol(#[case] protocol: u8, #[case] allowed: bool) {
        let cluster = guarded(on([(Destination, true, vec![Ports::Protocol(TCP)])]));
        assert_eq!(cluster.allows("bank/web", "shop/db", protocol, 80), allowed);
    }

    #[rstest]
    #[case::type_alone(Ports::Icmp(ICMP, 8, None), true, false)]
    #[case::with_its_code(Ports::Icmp(ICMP, 8, Some(0)), true, false)]
    #[case::with_another_code(Ports::Icmp(ICMP, 8, Some(1)), false, false)]
    #[case::another_type(Ports::Icmp(ICMP, 0, None), false, false)]
    #[case::icmpv6(Ports::Icmp(PING, 128, None), false, true)]
    #[case::the_protocol_is_its_familys(Ports::Protocol(ICMP), true, false)]
    fn icmp_is_ipv4s_and_icmpv6_is_ipv6s(#[case] entry: Ports, #[case] v4: bool, #[case] v6: bool) {
        let cluster = guarded(on([(Destination, false, vec![entry])]));
        assert_eq!(cluster.allows("bank/web", "shop/db", ICMP, 0), v4);
        assert_eq!(cluster.allows("bank/web@6", "shop/db@6", PING, 0), v6);
        assert!(!cluster.allows("bank/web", "shop/db", TCP, 8));
    }

    #[test]
    fn not_icmp_leaves_the_other_types_of_the_protocol() {
        let not = |kind| {
            let terms = [
                (Destination, false, vec![Ports::Protocol(ICMP)]),
                (Destination, true, vec![Ports::Icmp(ICMP, kind, None)]),
            ];
            guarded(on(terms))
        };
        assert!(!not(8).allows("bank/web", "shop/db", ICMP, 0));
        assert!(not(13).allows("bank/web", "shop/db", ICMP, 0));
        assert!(!not(13).allows("bank/web", "shop/db", TCP, 80));
    }

    #[rstest]
    #[case::before(79, true)]
    #[case::the_first(80, false)]
    #[case::the_last(90, false)]
    #[case::after(91, true)]
    fn not_ports(#[case] port: u16, #[case] allowed: bool) {
        let terms =
            [(Destination, false, vec![Ports::Protocol(TCP)]), (Destination, true, vec![range(TCP, 80, 90)])];
        let cluster = guarded(on(terms));
        assert_eq!(cluster.allows("bank/web", "shop/db", TCP, port), allowed);
        assert!(!cluster.allows("bank/web", "shop/db", UDP, port));
    }

    #[test]
    fn ports_of_the_source() {
        // Packets of these tests come from port 40,000.
        let from = |first, last| guarded(on([(Source, false, vec![range(TCP, first, last)])]));
        assert!(from(40_000, 40_000).allows("bank/web", "shop/db", TCP, 80));
        assert!(!from(80, 80).allows("bank/web", "shop/db", TCP, 80));
    }

    #[test]
    fn a_name_beside_numbers_is_or() {
        let mut cluster = Cluster::small();
        let ports = [range(TCP, 9, 9), named(TCP, "http")];
        cluster.policy("p", policy(all_pods()).ingress([rule(Allow).ports(ports)]));
        assert!(cluster.allows("shop/db", "bank/web", TCP, 80), "its port of that name");
        assert!(cluster.allows("shop/db", "bank/web", TCP, 9), "the number");
        assert!(!cluster.allows("shop/db", "bank/web", TCP, 8080), "another pod's port of that name");
    }
}

mod peers {
    use super::*;

    #[rstest]
    #[case::a_pod("bank/web", true)]
    #[case::a_member_of_a_set("192.0.2.7", true)]
    #[case::outside("8.8.8.8", false)]
    #[case::in_a_pod_block_but_no_pod("10.0.1.77", false)]
    fn a_selector_matches_known_pods_and_sets_only(#[case] from: &str, #[case] allowed: bool) {
        let sets = SetSelection { namespaces: None, sets: Selector::All };
        let mut cluster = guarded(rule(Allow).from([Peer::Pods(PodSet::all()), Peer::Sets(sets)]));
        set(&mut cluster, ("", "lab"), &[], &["192.0.2.0/24"]);
        assert_eq!(cluster.allows(from, "shop/db", TCP, 80), allowed);
    }

    #[rstest]
    #[case::outside("8.8.8.8", true)]
    #[case::in_the_nets("192.0.2.7", false)]
    #[case::a_pod("bank/web", true)]
    fn not_nets_alone_match_the_outside_too(#[case] from: &str, #[case] allowed: bool) {
        let cluster = guarded(source([not([block("192.0.2.0/24", &[])])]));
        assert_eq!(cluster.allows(from, "shop/db", TCP, 80), allowed);
    }

    #[rstest]
    #[case::outside("8.8.8.8", true)]
    #[case::a_pod_that_the_selector_matches("bank/web", false)]
    #[case::another_pod("shop/db", true)]
    fn not_selector_alone_matches_the_outside_too(#[case] from: &str, #[case] allowed: bool) {
        let web = Peer::Pods(pods_where(Selector::All, Selector::equals("app", "web")));
        let mut cluster = Cluster::small();
        cluster.policy("p", policy(all_pods()).ingress([source([not([web])])]));
        assert_eq!(cluster.allows(from, "shop/web", TCP, 80), allowed);
    }

    #[test]
    fn a_selector_with_a_not_selector_is_and() {
        let pods = |pods| Peer::Pods(pods_where(Selector::All, pods));
        let terms =
            [only([pods(Selector::equals("app", "web"))]), not([Peer::Pods(pods_in("bank", Selector::All))])];
        let cluster = guarded(source(terms));
        assert!(cluster.allows("shop/web", "shop/db", TCP, 80));
        assert!(!cluster.allows("bank/web", "shop/db", TCP, 80));
        assert!(!cluster.allows("8.8.8.8", "shop/db", TCP, 80));
    }
}

mod scopes {
    use super::*;

    /// Sets with these addresses: of shop 192.0.2.1, of bank 192.0.2.2, of nobody 192.0.2.3, and 2001:db8:: alike.
    fn with_sets(selection: SetSelection) -> Cluster {
        let mut cluster = guarded(rule(Allow).from([Peer::Sets(selection)]));
        set(&mut cluster, ("shop", "s"), &[("kind", "lab")], &["192.0.2.1/32", "2001:db8::1/128"]);
        set(&mut cluster, ("bank", "s"), &[("kind", "lab")], &["192.0.2.2/32", "2001:db8::2/128"]);
        set(&mut cluster, ("", "s"), &[("kind", "lab")], &["192.0.2.3/32", "2001:db8::3/128"]);
        cluster
    }

    #[rstest]
    #[case::its_own_namespace(Some(Namespaces::Named("shop".into())), [true, false, false])]
    #[case::all_leaves_global_sets_out(Some(Namespaces::Matching(Selector::All)), [true, true, false])]
    #[case::namespaces_by_label(Some(Namespaces::Matching(Selector::equals("team", "red"))), [false, true, false])]
    #[case::global_means_just_them(None, [false, false, true])]
    fn sets_are_of_a_namespace_or_of_none(
        #[case] namespaces: Option<Namespaces>,
        #[case] expected: [bool; 3],
    ) {
        let cluster = with_sets(SetSelection { namespaces, sets: Selector::equals("kind", "lab") });
        for (last, allowed) in (1..).zip(expected) {
            assert_eq!(cluster.allows(&format!("192.0.2.{last}"), "shop/db", TCP, 80), allowed, "{last}");
            assert_eq!(cluster.allows(&format!("2001:db8::{last}"), "shop/db@6", TCP, 80), allowed, "{last}");
        }
    }

    #[test]
    fn sets_are_matched_by_their_labels() {
        let selection = |value| SetSelection { namespaces: None, sets: Selector::equals("kind", value) };
        assert!(with_sets(selection("lab")).allows("192.0.2.3", "shop/db", TCP, 80));
        assert!(!with_sets(selection("office")).allows("192.0.2.3", "shop/db", TCP, 80));
    }
}

mod backends {
    use super::*;

    fn with_slice(cluster: &mut Cluster) {
        let backends = Backends {
            service: "api".into(),
            addresses: addresses(&["10.0.2.2", "192.0.2.9"]),
            ports: [(TCP, 80)].into(),
            whole: [UDP].into(),
        };
        let key = Key { namespace: "bank".into(), name: "api-1".into() };
        cluster.apply(Change::Backends(key, Some(backends)));
    }

    fn api() -> Key {
        Key { namespace: "bank".into(), name: "api".into() }
    }

    #[rstest]
    #[case::an_address_with_its_port("10.0.2.2", TCP, 80, true)]
    #[case::another_port("10.0.2.2", TCP, 81, false)]
    #[case::every_port_of_a_protocol_without_a_number("10.0.2.2", UDP, 80, true)]
    #[case::another_protocol("10.0.2.2", SCTP, 80, false)]
    #[case::one_that_is_no_pod("192.0.2.9", TCP, 80, true)]
    #[case::no_backend("10.0.2.1", TCP, 80, false)]
    fn for_egress_addresses_with_their_ports(
        #[case] to: &str,
        #[case] protocol: u8,
        #[case] port: u16,
        #[case] allowed: bool,
    ) {
        let mut cluster = Cluster::small();
        let rule = rule(Allow).ports([Ports::Backends(api())]);
        cluster.policy("p", policy(pods_in("shop", Selector::All)).egress([rule]));
        with_slice(&mut cluster);
        assert_eq!(cluster.allows("shop/web", to, protocol, port), allowed);
    }

    #[rstest]
    #[case::a_backend("bank/web", true)]
    #[case::one_that_is_no_pod("192.0.2.9", true)]
    #[case::another_pod("shop/web", false)]
    fn for_ingress_addresses_alone(#[case] from: &str, #[case] allowed: bool) {
        let mut cluster = guarded(rule(Allow).from([Peer::Backends(api())]));
        with_slice(&mut cluster);
        assert_eq!(cluster.allows(from, "shop/db", TCP, 5), allowed);
    }
}

mod given_labels {
    use super::*;

    #[test]
    fn own_namespace_and_account_labels_are_kept_apart() {
        let mut cluster = guarded(
            rule(Allow)
                .from([Peer::Pods(PodSet { accounts: Selector::equals("app", "web"), ..PodSet::all() })]),
        );
        assert!(!cluster.allows("bank/web", "shop/db", TCP, 80), "the pod's own label is not its account's");
        let account = ServiceAccount { labels: labels(&[("app", "web")]) };
        let key = Key { namespace: "bank".into(), name: "default".into() };
        cluster.apply(Change::ServiceAccount(key, Some(account)));
        assert!(cluster.allows("bank/web", "shop/db", TCP, 80));

        let team = Peer::Pods(pods_where(Selector::All, Selector::equals("team", "red")));
        let cluster = guarded(rule(Allow).from([team]));
        assert!(!cluster.allows("bank/web", "shop/db", TCP, 80), "the namespace's label is not the pod's");
    }

    #[test]
    fn nobody_can_forge_them() {
        let bank = Peer::Pods(pods_where(Selector::equals(given::NAME, "bank"), Selector::All));
        let mut cluster = guarded(rule(Allow).from([bank]));
        cluster.namespace("shop", &[("projectcalico.org/name", "bank"), ("selvage.io/name", "bank")]);
        assert!(!cluster.allows("shop/web", "shop/db", TCP, 80));
        assert!(cluster.allows("bank/web", "shop/db", TCP, 80));
    }
}
