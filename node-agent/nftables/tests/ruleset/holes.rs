//! Every hole that the design names: closed by the ruleset, and open once the rules that close it are taken out.

use rstest::rstest;
use selvage_nftables::model::{Expr, Ruleset};
use selvage_nftables::trace::{Conntrack, Packet, Routing, Transport, trace};
use selvage_policy::compiled::Action;

use crate::build::{World, all, ip, step, tcp, udp};

const NODE: &str = "192.168.0.1";

/// Two pods that nothing selects, and one that may neither send nor receive.
fn world() -> World {
    let deny = || vec![step("default", Action::Deny, &["deny"])];
    World::new()
        .pod("a", &["10.244.1.10", "fd00:1::10"], 1)
        .pod("b", &["10.244.1.11", "fd00:1::11"], 1)
        .pod("shut", &["10.244.1.12", "fd00:1::12"], 2)
        .profile(2, deny(), deny())
        .rules("deny", vec![], vec![])
}

fn without(mut ruleset: Ruleset, ids: &[&str]) -> Ruleset {
    for chain in ruleset.chains.values_mut() {
        chain.rules.retain(|rule| !ids.contains(&&*rule.id));
    }
    ruleset
}

fn bridged(source: &str, destination: &str, transport: Transport) -> Packet {
    Packet::new("cni0", "cni0", ip(source), ip(destination), transport)
}

fn to_node(source: &str, destination: &str, transport: Transport) -> Packet {
    bridged(source, destination, transport).to_node()
}

fn icmpv6(kind: u8) -> Transport {
    Transport::Icmp { protocol: 58, kind, code: 0 }
}

fn established(packet: Packet) -> Packet {
    Packet { conntrack: Conntrack { state: 2, status: 0, reply: false }, ..packet }
}

fn frame(packet: Packet, packet_type: u8) -> Packet {
    Packet { packet_type, ..packet }
}

fn broadcast(packet: Packet) -> Packet {
    Packet { routing: Routing { destination_type: 3, source_routed: true }, ..packet }
}

#[rstest]
#[case::link_local_between_pods(bridged("fe80::1", "fe80::2", tcp(80)), &["guard-source", "unknown-pod"])]
#[case::link_local_to_the_node(to_node("fe80::1", "fe80::ff", tcp(22)), &["guard-source", "unknown-pod"])]
#[case::link_local_established(established(bridged("fe80::1", "fe80::2", tcp(80))), &["guard-source"])]
#[case::forged_source(bridged("203.0.113.9", "10.244.1.11", udp(53)), &["guard-source", "unknown-pod"])]
#[case::forged_source_v6(bridged("2001:db8::9", "fd00:1::11", udp(53)), &["guard-source", "unknown-pod"])]
#[case::forged_source_in_a_known_flow(
    established(bridged("203.0.113.9", "10.244.1.11", udp(53))), &["guard-source"]
)]
#[case::broadcast_frame(
    frame(bridged("10.244.1.10", "10.244.1.11", udp(67)), 1), &["guard-frame"]
)]
#[case::multicast_frame(frame(bridged("10.244.1.10", "10.244.1.11", udp(67)), 2), &["guard-frame"])]
#[case::subnet_broadcast(
    broadcast(bridged("10.244.1.10", "10.244.1.255", udp(67))), &["guard-broadcast", "unknown-pod"]
)]
#[case::subnet_broadcast_to_the_node(
    broadcast(to_node("10.244.1.10", "10.244.1.255", udp(67))), &["guard-broadcast"]
)]
#[case::limited_broadcast(
    to_node("10.244.1.10", "255.255.255.255", udp(67)), &["guard-broadcast"]
)]
#[case::multicast(to_node("10.244.1.10", "224.0.0.251", udp(5353)), &["guard-multicast"])]
#[case::multicast_v6(to_node("fd00:1::10", "ff02::fb", udp(5353)), &["guard-multicast"])]
#[case::unknown_pod_sends(
    bridged("10.244.1.99", "10.244.1.11", tcp(80)), &["guard-source", "unknown-pod"]
)]
#[case::unknown_pod_sends_to_the_node(
    to_node("10.244.1.99", NODE, tcp(80)), &["guard-source", "unknown-pod"]
)]
#[case::unknown_pod_receives(
    Packet::new("eth0", "cni0", ip("10.244.2.10"), ip("10.244.1.99"), tcp(80)), &["unknown-pod"]
)]
#[case::router_advertisement(bridged("fd00:1::10", "fd00:1::11", icmpv6(134)), &["guard-router"])]
#[case::redirect(bridged("fd00:1::10", "fd00:1::11", icmpv6(137)), &["guard-redirect"])]
#[case::vxlan_of_linux(to_node("10.244.1.10", NODE, udp(8472)), &["guard-vxlan-linux"])]
#[case::vxlan_of_iana(to_node("10.244.1.10", NODE, udp(4789)), &["guard-vxlan-iana"])]
#[case::vxlan_to_another_node(
    Packet::new("cni0", "eth0", ip("10.244.1.10"), ip("192.168.0.2"), udp(8472)), &["guard-vxlan-linux"]
)]
#[case::ipip(to_node("10.244.1.10", NODE, Transport::Other(4)), &["guard-ipip"])]
#[case::discovery_from_afar(
    Packet { hop_limit: 254, ..bridged("fe80::1", "fd00:1::11", icmpv6(136)) }, &["guard-source", "unknown-pod"]
)]
#[case::listener_report_from_a_foreign_address(
    Packet { hop_limit: 1, ..to_node("2001:db8::1", "fd00::1", icmpv6(143)) }, &["guard-source", "unknown-pod"]
)]
fn closed_and_open_without_its_rules(#[case] packet: Packet, #[case] closing: &[&str]) {
    let ruleset = world().render().ruleset;
    let closed = trace(&ruleset, &packet).unwrap();
    assert!(!closed.accepted, "let through: {closed:?}");
    let decided = closed.decided_by.as_deref().unwrap();
    assert!(closing.contains(&decided), "closed by {decided}");
    let open = trace(&without(ruleset.clone(), closing), &packet).unwrap();
    assert!(open.accepted, "still closed: {open:?}");
    for kept in closing.iter().filter(|_| closing.len() > 1) {
        let fewer: Vec<&str> = closing.iter().copied().filter(|id| id != kept).collect();
        let trace = trace(&without(ruleset.clone(), &fewer), &packet).unwrap();
        assert!(!trace.accepted, "{kept} alone does not close it");
    }
}

/// A pod on the same bridge writes its neighbour's address in both fields: its own policy must judge that.
#[test]
fn a_forged_hairpin_is_judged() {
    let forged = bridged("10.244.1.12", "10.244.1.12", tcp(80));
    let ruleset = world().render().ruleset;
    assert!(!trace(&ruleset, &forged).unwrap().accepted);
    let mut weak = ruleset.clone();
    for rule in weak.chains.values_mut().flat_map(|chain| &mut chain.rules).filter(|r| &*r.id == "hairpin") {
        let at = rule.expressions.iter().position(|e| matches!(e, Expr::Ct { .. })).unwrap();
        rule.expressions.drain(at..at + 3);
    }
    assert!(trace(&weak, &forged).unwrap().accepted, "without the NAT bit the pair alone opens it");
}

/// Through a Service to itself a pod passes, whatever its policy; to a neighbour it does not.
#[rstest]
#[case("10.244.1.12", "10.244.1.12", true)]
#[case("fd00:1::12", "fd00:1::12", true)]
#[case("10.244.1.10", "10.244.1.12", false)]
#[case("10.244.1.12", "10.244.1.10", false)]
fn hairpin_passes_for_the_pod_itself(#[case] source: &str, #[case] destination: &str, #[case] passes: bool) {
    let service = if source.contains(':') { ip("fd00:ffff::5") } else { ip("10.96.0.5") };
    let packet = Packet {
        original_destination: Some(service),
        conntrack: Conntrack { state: 8, status: 32, reply: false },
        ..bridged(source, destination, tcp(80))
    };
    let trace = trace(&world().render().ruleset, &packet).unwrap();
    assert_eq!(trace.accepted, passes, "{trace:?}");
}

/// What must go on working for pods that may do nothing else.
#[rstest]
#[case::solicitation(Packet { hop_limit: 255, packet_type: 2, ..bridged("fe80::1", "ff02::1:ff00:11", icmpv6(135)) })]
#[case::duplicate_detection(Packet { hop_limit: 255, packet_type: 2, ..bridged("::", "ff02::1:ff00:11", icmpv6(135)) })]
#[case::advertisement(Packet { hop_limit: 255, ..bridged("fd00:1::12", "fd00:1::10", icmpv6(136)) })]
#[case::router_solicitation(Packet { hop_limit: 255, packet_type: 2, ..to_node("fe80::1", "ff02::2", icmpv6(133)) })]
#[case::listener_report(Packet { hop_limit: 1, packet_type: 2, ..to_node("fe80::1", "ff02::16", icmpv6(143)) })]
#[case::early_listener_report(Packet { hop_limit: 1, packet_type: 2, ..bridged("::", "ff02::16", icmpv6(143)) })]
#[case::listener_done(Packet { hop_limit: 1, packet_type: 2, ..bridged("fe80::1", "ff02::2", icmpv6(132)) })]
#[case::reply(established(bridged("10.244.1.12", "10.244.1.10", tcp(40_000))))]
#[case::from_the_node(Packet { iif: None, ..bridged("10.244.1.1", "10.244.1.12", tcp(80)) })]
#[case::no_pods_traffic(Packet::new("eth0", "eth1", ip("198.51.100.1"), ip("203.0.113.1"), udp(8472)))]
#[case::to_the_node_from_outside(Packet::new("eth0", "", ip("198.51.100.1"), ip(NODE), tcp(22)).to_node())]
fn passes_whatever_the_policies_say(#[case] packet: Packet) {
    let trace = trace(&world().render().ruleset, &packet).unwrap();
    assert!(trace.accepted, "{trace:?}");
}

/// A pod's egress to its own node is judged, in the input hook.
#[test]
fn a_pod_to_its_node_is_judged() {
    let ruleset = world().render().ruleset;
    assert!(trace(&ruleset, &to_node("10.244.1.10", NODE, tcp(10250))).unwrap().accepted);
    assert!(!trace(&ruleset, &to_node("10.244.1.12", NODE, tcp(10250))).unwrap().accepted);
}

/// Invalid and untracked packets are judged like first ones.
#[rstest]
fn what_conntrack_does_not_know_is_judged(#[values(1, 8, 64)] state: u32) {
    let packet = Packet {
        conntrack: Conntrack { state, status: 0, reply: false },
        ..bridged("10.244.1.10", "10.244.1.12", tcp(80))
    };
    assert!(!trace(&world().render().ruleset, &packet).unwrap().accepted);
}

/// Open unknown pods: they reach and are reached, yet a source that is not routed to the bridge stays forged.
#[test]
fn unknown_pods_can_be_opened() {
    let mut world = world();
    world.settings.unknown_pods = selvage_nftables::render::UnknownPods::Open;
    let ruleset = world.render().ruleset;
    let passes = |packet: &Packet| trace(&ruleset, packet).unwrap().accepted;
    let unknown = bridged("10.244.1.99", "10.244.1.11", tcp(80));
    assert!(passes(&unknown));
    assert!(passes(&Packet::new("eth0", "cni0", ip("10.244.2.10"), ip("10.244.1.99"), tcp(80))));
    assert!(!passes(&bridged("10.244.1.99", "10.244.1.12", tcp(80))), "the known pod's policy stays");
    let forged = Routing { destination_type: 1, source_routed: false };
    assert!(!passes(&Packet { routing: forged, ..unknown }));
    assert!(!passes(&bridged("fe80::1", "fe80::2", tcp(80))));
}

/// An endpoint that the node policy lists and that has no address yet, or an address without an endpoint, is closed.
#[test]
fn half_known_pods_are_closed() {
    let mut world = world();
    world.policy.endpoints.remove(&crate::build::endpoint("a"));
    world.facts.addresses.remove(&crate::build::endpoint("b"));
    let ruleset = world.render().ruleset;
    for (source, destination) in [("10.244.1.10", "10.244.1.11"), ("10.244.1.11", "10.244.1.10")] {
        assert!(!trace(&ruleset, &bridged(source, destination, tcp(80))).unwrap().accepted);
    }
}

/// A rule that allows everything does not open what the guard closes.
#[test]
fn allow_all_does_not_open_the_guard() {
    let allow = || vec![step("default", Action::Deny, &["allow"])];
    let world = world().profile(1, allow(), allow()).rules(
        "allow",
        vec![all(Action::Allow)],
        vec![all(Action::Allow)],
    );
    let ruleset = world.render().ruleset;
    assert!(trace(&ruleset, &bridged("10.244.1.10", "10.244.1.11", tcp(80))).unwrap().accepted);
    assert!(!trace(&ruleset, &bridged("fe80::1", "fe80::2", tcp(80))).unwrap().accepted);
    assert!(!trace(&ruleset, &to_node("10.244.1.10", NODE, udp(8472))).unwrap().accepted);
}
