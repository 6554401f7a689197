//! A pod that tells others that its neighbour, or the gateway, is behind its own MAC address: by ARP and by neighbour
//! discovery. What is meant for the neighbour would then come to it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use selvage_policy::compiled::Family;

use crate::bed::{Bed, FAMILIES, GATEWAY, Mac, OUTSIDE, bound, pod_addresses, pod_mac};
use crate::locks::{Attack, Lock, without};
use crate::posing::{Guard, bound_lock, judged};
use crate::probe::{Token, send_udp};
use crate::wire::{BROADCAST_MAC, Wire, advertisement, arp, multicast_mac, solicitation};
use crate::world::World;

const NOBODY: Mac = Mac([0; 6]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A lie, and the rule that stops it at a bound port and at one of which nothing is known.
struct Lie {
    what: &'static str,
    frame: Vec<u8>,
    bound: Lock,
    unbound: Option<Lock>,
}

/// Ways to say that an IPv4 address is behind pod 0's MAC address.
fn in_arp(claimed: Ipv4Addr) -> Vec<Lie> {
    let (own, to) = (pod_mac(0), pod_mac(1));
    let lie = |what, frame| Lie {
        what,
        frame,
        bound: ("arp", "posing-arp"),
        unbound: Some(("unbound", "posing-arp")),
    };
    vec![
        lie("an announcement", arp(own, BROADCAST_MAC, 1, (own, claimed), (NOBODY, claimed))),
        lie("an announcement to one", arp(own, to, 2, (own, claimed), (own, claimed))),
    ]
}

/// Ways to say that an IPv6 address is.
fn in_neighbour_discovery(claimed: Ipv6Addr) -> Vec<Lie> {
    let (own, to) = (pod_mac(0), pod_mac(1));
    let (from, victim) = (pod_addresses(0).v6, pod_addresses(1).v6);
    let lie = |what, frame| Lie {
        what,
        frame,
        bound: ("target", "posing-nd"),
        unbound: Some(("unbound", "posing-nd")),
    };
    let everybody = multicast_mac(ALL_NODES.into());
    vec![
        lie("an advertisement", advertisement(own, to, from, victim, (claimed, own))),
        lie("from a link-local address", advertisement(own, to, own.link_local(), victim, (claimed, own))),
        lie("to everybody", advertisement(own, everybody, from, ALL_NODES, (claimed, own))),
        Lie {
            what: "a question in another's name",
            frame: solicitation(own, to, claimed, victim, victim, Some(own)),
            bound: bound_lock(Family::V6),
            unbound: Some(("unbound", "posing-ipv6")),
        },
    ]
}

/// Pod 1 has talked with whoever it is that pod 0 wants to be, and then talks to it again: its packet must not come to
/// pod 0.
fn steals(bed: &Bed, guard: &mut Guard<'_>, lie: &Lie, lock: Lock, port: &str, to: SocketAddr, renew: &str) {
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let victim = bed.pod(1);
    let attack = Attack {
        send: &|token| {
            victim.namespace.ip(&["neigh flush dev eth0".to_owned()]);
            let from =
                SocketAddr::new(victim.addresses.of(if to.is_ipv4() { Family::V4 } else { Family::V6 }), 0);
            // The true answer comes first, and the lie is an update of it.
            assert!(crate::probe::echo(
                victim.namespace,
                Some(from.ip()),
                renew.parse().unwrap(),
                crate::probe::PATIENCE
            ));
            sender.send(&lie.frame);
            // What comes after the lie on the same way shows that the lie is dealt with.
            victim.namespace.run(|| std::thread::sleep(std::time::Duration::from_millis(20)));
            send_udp(victim.namespace, from, to, token);
        },
        arrives: &|token: &Token, patience| sender.sees(token, patience),
    };
    guard.closed_by(lie.what, &[lock], port, &attack);
}

#[test]
fn a_lie_about_a_neighbour() {
    let (bed, _agent) = judged();
    let neighbour = bed.pod(2).addresses;
    for (pods, port) in [(&[0, 1, 2][..], "pod0"), (&[1, 2], "unknown port")] {
        let mut guard = Guard::new(&bed, &bound(pods));
        for lie in in_arp(neighbour.v4).iter().chain(&in_neighbour_discovery(neighbour.v6)) {
            let v4 = lie.frame[12..14] == [8, 6];
            let to = neighbour.of(FAMILIES[usize::from(!v4)]);
            let lock = if pods.contains(&0) { Some(lie.bound) } else { lie.unbound };
            let Some(lock) = lock else { continue };
            steals(&bed, &mut guard, lie, lock, port, (to, 9).into(), &to.to_string());
        }
        guard.remove();
    }
}

#[test]
fn a_lie_about_the_gateway() {
    let (bed, mut agent) = judged();
    let world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    // The other table lets nothing to the pods' side that is for no pod, so that a lie about the gateway cuts off and
    // shows nothing. Here it is out of the way.
    agent.apply_ruleset(&without(&world.ruleset(), &[("to_pod", "unknown-pod")]));
    // The gateway is known without any CNI result.
    for (pods, port) in [(&[0, 1, 2][..], "pod0"), (&[], "unknown port")] {
        let mut guard = Guard::new(&bed, &bound(pods));
        for lie in in_arp(GATEWAY.v4).iter().chain(&in_neighbour_discovery(GATEWAY.v6)) {
            let v4 = lie.frame[12..14] == [8, 6];
            let family = FAMILIES[usize::from(!v4)];
            let lock = if pods.contains(&0) { Some(lie.bound) } else { lie.unbound };
            let Some(lock) = lock else { continue };
            let beyond = (OUTSIDE.of(family), 9).into();
            steals(&bed, &mut guard, lie, lock, port, beyond, &GATEWAY.of(family).to_string());
        }
        guard.remove();
    }
}
