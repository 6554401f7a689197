//! Packets that are not a plain first packet of a connection: fragments, and what connection tracking can't place.

use crate::agent::Agent;
use crate::bed::{BRIDGE_MAC, Bed, FAMILIES, pod_mac};
use crate::matrix::{Ask, TCP, UDP, check, yes};
use crate::probe::{GRACE, PATIENCE, Token, send_payload};
use crate::wire::{Route, Wire, tcp, udp};
use crate::world::{Narrow, World, allow, ports};

/// Pod 1 takes UDP 53 and TCP 80 alone.
fn world(bed: &Bed) -> World {
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    let rules = [ports(UDP, 53, 53), ports(TCP, 80, 80)].map(|service| allow().on(service));
    world.select(bed.pod(1), Some(rules.to_vec()), None);
    world
}

/// A later packet of an allowed flow arrives: what was sent before would have.
fn control(bed: &Bed) {
    check(bed, &[yes(bed.node(), bed.pod(1), Ask::Udp(7))]);
}

#[test]
fn fragments_are_judged_as_the_datagram_they_make() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    agent.apply(&world(&bed));
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    for family in FAMILIES {
        for from in [bed.pod(0), bed.far_pod()] {
            // The ends are fragments of their own: only the first has ports.
            let send = |port: u16| {
                let ends = [Token::new(), Token::new()];
                let payload = [ends[0].bytes(), &[0; 4000], ends[1].bytes()].concat();
                let source = (from.addresses.of(family), 0).into();
                send_payload(
                    from.namespace,
                    source,
                    (bed.pod(1).addresses.of(family), port).into(),
                    &payload,
                );
                ends
            };
            let [first, last] = send(53);
            assert!(receiver.sees(&first, PATIENCE) && receiver.sees(&last, PATIENCE), "{}", from.name);
            let [first, last] = send(54);
            control(&bed);
            assert!(!receiver.finds(GRACE, |frame| first.is_in(frame) || last.is_in(frame)), "{}", from.name);
        }
    }
}

#[test]
fn what_connection_tracking_cannot_place_is_judged_like_a_first_packet() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    agent.apply(&world(&bed));
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let near = Wire::attach(bed.pod(0).namespace, "eth0");
    for family in FAMILIES {
        // An acknowledgement of no connection counts as new; opening and closing at once is invalid.
        for (syn, ack, fin) in [(false, true, false), (true, false, true)] {
            let passes = |port: u16, patience| {
                let token = Token::new();
                let route = Route {
                    from_mac: pod_mac(0),
                    to_mac: pod_mac(1),
                    from: bed.pod(0).addresses.of(family),
                    to: bed.pod(1).addresses.of(family),
                };
                near.send(&tcp(route, 7000, port, [syn, ack, fin], token.bytes()));
                control(&bed);
                receiver.sees(&token, patience)
            };
            assert!(passes(80, PATIENCE), "{family:?} {syn} {ack} {fin}");
            assert!(!passes(81, GRACE), "{family:?} {syn} {ack} {fin}");
        }
    }
}

#[test]
fn the_way_through_the_nodes_mac_address_is_judged_too() {
    // The bridge hands such a frame to the node, which routes it back to the bridge.
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let near = Wire::attach(bed.pod(0).namespace, "eth0");
    for closed_side in [0, 1] {
        let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
        let rules = Some(vec![allow().on(ports(UDP, 53, 53))]);
        let (ingress, egress) = if closed_side == 1 { (rules, None) } else { (None, rules) };
        world.select(bed.pod(closed_side), ingress, egress);
        agent.apply(&world);
        for family in FAMILIES {
            let passes = |port: u16, patience| {
                let token = Token::new();
                let [from, to] = [0, 1].map(|pod| bed.pod(pod).addresses.of(family));
                let route = Route { from_mac: pod_mac(0), to_mac: BRIDGE_MAC, from, to };
                near.send(&udp(route, 7000, port, token.bytes()));
                control(&bed);
                receiver.sees(&token, patience)
            };
            assert!(passes(53, PATIENCE), "{family:?}");
            assert!(!passes(54, GRACE), "{family:?}");
        }
    }
}
