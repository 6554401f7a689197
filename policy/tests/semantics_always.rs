//! "Whatever the policies say" of the semantics, line by line, as the oracle reads it.
//!
//! The compiler has no part in these lines: the ruleset does what they say, held against the oracle by
//! `node-agent/nftables/tests/oracle` and shown with real packets by `node-agent/nftables/tests/packets`.
//!
//! | the document says | here | with real packets |
//! |---|---|---|
//! | 1. established or related passes; invalid and untracked are judged like a first packet | [`step_1`] | `connections`, `unusual` |
//! | the source's node asks egress, the destination's node ingress; on one node both, in that order | [`who_asks`] | `ingress`, `egress` |
//! | a node reaches its own pods; other nodes are judged by their address | [`nodes`] | `ingress::deny_all_leaves_only_the_node` |
//! | a pod's egress to its own node is judged | [`nodes`] | `egress::the_own_node_is_reached_...` |
//! | back to itself through a Service it passes | [`hairpin`] | `connections::a_pod_reaches_itself_...` |
//! | neighbour discovery and MLD pass; router advertisement and redirect from a pod are dropped | [`links`] | `neighbours`, `holes` |
//! | identity is the source address; multicast, broadcast, overlay | [`identity`] | `holes` |
//! | a pod that the node does not know yet is closed | [`unknown`] | `unknown` |
//!
//! NodePort, LoadBalancer and what is needed of the node (bridge-nf-call, kube-proxy's mode) are the cluster scenarios'.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use common::build::*;
use rstest::rstest;
use selvage_policy::compiled::Action::{Allow, Deny};
use selvage_policy::model::{Change, Node};
use selvage_policy::oracle::always::{Because, Connection, Outcome, Passage, Side, passage};
use selvage_policy::oracle::{Packet, Transport};

/// A packet of a new connection through node-1, TCP to port 80.
fn way(from: (Side, &str), to: (Side, &str)) -> Passage {
    let packet = Packet {
        source: from.1.parse().unwrap(),
        destination: to.1.parse().unwrap(),
        transport: transport(TCP, 80),
    };
    Passage {
        node: "node-1".into(),
        packet,
        from: from.0,
        to: to.0,
        connection: Connection::New,
        service: None,
        broadcast: false,
        hop_limit: 64,
    }
}

fn icmpv6(kind: u8, hop_limit: u8, way: Passage) -> Passage {
    let transport = Transport::Icmp { protocol: 58, kind, code: 0 };
    Passage { packet: Packet { transport, ..way.packet }, hop_limit, ..way }
}

/// Everything that policies can deny is denied.
fn closed() -> Cluster {
    let mut cluster = Cluster::small();
    cluster.policy("deny", policy(all_pods()).ingress([rule(Deny)]).egress([rule(Deny)]));
    cluster
}

const WEB: (Side, &str) = (Side::Pods, "10.0.1.1");
const WEB6: (Side, &str) = (Side::Pods, "fd00:1::1");
const DB: (Side, &str) = (Side::Beyond, "10.0.2.1");
const DB6: (Side, &str) = (Side::Beyond, "fd00:2::1");
const NODE: (Side, &str) = (Side::Node, "10.0.1.254");

mod step_1 {
    use super::*;

    #[rstest]
    #[case::established(Connection::Established, true)]
    #[case::related(Connection::Related, true)]
    #[case::new(Connection::New, false)]
    #[case::invalid(Connection::Invalid, false)]
    #[case::untracked(Connection::Untracked, false)]
    fn an_open_connection_passes_whatever_policies_say_now(
        #[case] connection: Connection,
        #[case] passes: bool,
    ) {
        let cluster = closed();
        for way in [way(WEB, DB), way(DB, WEB), way(WEB, NODE)] {
            let outcome = passage(&cluster.world, &Passage { connection, ..way });
            assert_eq!(outcome.passes(), passes);
        }
    }

    #[test]
    fn but_not_from_who_is_nobody() {
        let stranger = Passage { connection: Connection::Established, ..way((Side::Pods, "10.0.1.9"), DB) };
        let outcome = passage(&Cluster::small().world, &stranger);
        assert_eq!(outcome, Outcome::Dropped(Because::UnknownSource));
    }
}

mod who_asks {
    use super::*;

    #[rstest]
    #[case::the_sources_node(way(WEB, DB), true, false)]
    #[case::the_destinations_node(way(DB, WEB), false, true)]
    #[case::one_node_both(way(WEB, (Side::Pods, "10.0.1.2")), true, true)]
    #[case::a_node_between(way(DB, (Side::Beyond, "10.0.3.1")), false, false)]
    fn each_node_asks_for_its_own_ends(
        #[case] way: Passage,
        #[case] source: bool,
        #[case] destination: bool,
    ) {
        let mut cluster = Cluster::small();
        cluster.pod("shop/next", pod("node-1", &["10.0.1.2"], &[]));
        let Outcome::Judged { egress, ingress } = passage(&cluster.world, &way) else { panic!("not judged") };
        assert_eq!((egress.is_some(), ingress.is_some()), (source, destination));
    }

    #[test]
    fn egress_first() {
        let mut cluster = closed();
        cluster.pod("shop/next", pod("node-1", &["10.0.1.2"], &[]));
        let outcome = passage(&cluster.world, &way(WEB, (Side::Pods, "10.0.1.2")));
        assert!(matches!(outcome, Outcome::Judged { egress: Some(_), ingress: None }), "{outcome:?}");
    }
}

mod nodes {
    use super::*;

    #[test]
    fn a_node_reaches_its_own_pods() {
        let outcome = passage(&closed().world, &way(NODE, WEB));
        assert_eq!(outcome, Outcome::Passes(Because::FromNode));
    }

    #[test]
    fn other_nodes_are_judged_by_the_address_they_arrive_with() {
        let mut cluster = Cluster::small();
        cluster.policy("p", policy(all_pods()).ingress([rule(Allow).from([block("192.168.0.2/32", &[])])]));
        let from = |address| passage(&cluster.world, &way((Side::Beyond, address), WEB)).passes();
        assert!(from("192.168.0.2"));
        assert!(!from("192.168.0.3"));
    }

    #[test]
    fn a_pods_egress_to_its_own_node_is_judged() {
        assert!(!passage(&closed().world, &way(WEB, NODE)).passes());
        assert!(passage(&Cluster::small().world, &way(WEB, NODE)).passes());
    }
}

mod hairpin {
    use super::*;

    #[test]
    fn a_pod_reaches_itself_through_its_service() {
        let service = Some("10.96.0.1".parse().unwrap());
        let outcome = passage(&closed().world, &Passage { service, ..way(WEB, WEB) });
        assert_eq!(outcome, Outcome::Passes(Because::Hairpin));
    }

    #[test]
    fn what_only_looks_like_it_is_judged() {
        let cluster = closed();
        assert!(!passage(&cluster.world, &way(WEB, WEB)).passes(), "no Service");
        let service = Some("10.96.0.1".parse().unwrap());
        assert!(!passage(&cluster.world, &Passage { service, ..way(WEB, DB) }).passes(), "another pod");
    }
}

mod links {
    use super::*;

    #[rstest]
    #[case::router_solicitation(133, 255)]
    #[case::neighbour_solicitation(135, 255)]
    #[case::neighbour_advertisement(136, 255)]
    #[case::listener_query(130, 1)]
    #[case::listener_report(131, 1)]
    #[case::listener_done(132, 1)]
    #[case::listener_report_2(143, 1)]
    fn neighbour_discovery_and_mld_pass(#[case] kind: u8, #[case] hop_limit: u8) {
        let from = (Side::Pods, "fe80::1");
        for to in [(Side::Pods, "ff02::1"), (Side::Node, "fe80::2")] {
            let outcome = passage(&closed().world, &icmpv6(kind, hop_limit, way(from, to)));
            assert_eq!(outcome, Outcome::Passes(Because::NeighbourDiscovery));
        }
    }

    #[rstest]
    #[case::from_further_away(135, 254)]
    #[case::listener_report_from_further_away(143, 64)]
    fn what_only_looks_like_it_does_not(#[case] kind: u8, #[case] hop_limit: u8) {
        let outcome =
            passage(&closed().world, &icmpv6(kind, hop_limit, way(WEB6, (Side::Pods, "fd00:1::1"))));
        assert!(!outcome.passes());
    }

    #[rstest]
    #[case::router_advertisement(134)]
    #[case::redirect(137)]
    fn router_messages_from_a_pod_are_dropped(#[case] kind: u8) {
        let world = &Cluster::small().world;
        let outcome = passage(world, &icmpv6(kind, 255, way(WEB6, DB6)));
        assert_eq!(outcome, Outcome::Dropped(Because::RouterMessage));
        assert!(passage(world, &icmpv6(kind, 255, way(DB6, WEB6))).passes(), "not from a pod");
    }
}

mod identity {
    use super::*;

    #[rstest]
    #[case::no_pods("10.0.1.9")]
    #[case::a_pods_of_another_node("10.0.2.1")]
    #[case::the_nodes("10.0.1.254")]
    #[case::outside("8.8.8.8")]
    #[case::link_local("169.254.0.1")]
    fn a_source_that_is_no_endpoint_of_this_node_is_dropped(#[case] source: &str) {
        let outcome = passage(&Cluster::small().world, &way((Side::Pods, source), DB));
        assert_eq!(outcome, Outcome::Dropped(Because::UnknownSource));
    }

    #[rstest]
    #[case::multicast("224.0.0.251", false)]
    #[case::broadcast("255.255.255.255", false)]
    #[case::broadcast_of_the_link("10.0.1.255", true)]
    fn what_goes_to_many_is_dropped(#[case] destination: &str, #[case] broadcast: bool) {
        let way = Passage { broadcast, ..way(WEB, (Side::Pods, destination)) };
        assert_eq!(passage(&Cluster::small().world, &way), Outcome::Dropped(Because::Multicast));
    }

    #[rstest]
    #[case::vxlan(Transport::Ports { protocol: UDP, source: 9, destination: 8472 })]
    #[case::ip_in_ip(Transport::Other(4))]
    fn overlay_traffic_to_a_node_is_dropped(#[case] transport: Transport) {
        let mut cluster = Cluster::small();
        let node = Node { addresses: addresses(&["192.168.0.2"]), ..Node::default() };
        cluster.apply(Change::Node("node-2".into(), Some(node)));
        for to in [NODE, (Side::Beyond, "192.168.0.2")] {
            let mut way = way(WEB, to);
            way.packet.transport = transport;
            assert_eq!(passage(&cluster.world, &way), Outcome::Dropped(Because::Overlay));
        }
    }
}

mod unknown {
    use super::*;

    #[test]
    fn a_pod_that_the_node_does_not_know_yet_is_closed_both_ways() {
        let mut cluster = Cluster::small();
        let (to, from) = (way(DB, (Side::Pods, "10.0.1.7")), way((Side::Pods, "10.0.1.7"), DB));
        assert_eq!(passage(&cluster.world, &to), Outcome::Dropped(Because::UnknownDestination));
        assert_eq!(passage(&cluster.world, &from), Outcome::Dropped(Because::UnknownSource));
        cluster.pod("shop/new", pod("node-1", &["10.0.1.7"], &[]));
        assert!(passage(&cluster.world, &to).passes() && passage(&cluster.world, &from).passes());
    }
}
