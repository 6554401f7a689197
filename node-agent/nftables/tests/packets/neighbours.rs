//! What every IPv6 link needs works with everything closed: neighbour discovery, duplicate address detection, and the
//! multicast listener reports that the bridge learns from.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use selvage_nftables::model::Ruleset;
use socket2::Domain;

use crate::agent::Agent;
use crate::bed::{BRIDGE_MAC, Bed, GATEWAY, pod_addresses, pod_mac};
use crate::locks::{Attack, Lock, closed_by, without};
use crate::probe::{PATIENCE, Token, on_eth0, send_udp};
use crate::wire::{RawInbox, Wire, icmpv6, multicast_mac};
use crate::world::World;

const ICMPV6: u8 = 58;
/// The rules that let neighbour discovery and listener reports through, chain by chain.
const NEIGHBOUR: [Lock; 4] = [
    ("guard", "neighbour"),
    ("from_pod", "neighbour"),
    ("to_pod", "neighbour"),
    ("from_pod_local", "neighbour"),
];

/// Both pods are known and may neither send nor receive.
fn closed(bed: &Bed) -> Ruleset {
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    for pod in [bed.pod(0), bed.pod(1)] {
        world.select(pod, Some(vec![]), Some(vec![]));
    }
    world.ruleset()
}

/// Whether a condition comes true in time.
fn becomes_true(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn a_pod_finds_its_gateway_and_its_neighbour() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let pod = bed.pod(0).namespace;
    let neighbours = [GATEWAY.v6, BRIDGE_MAC.link_local(), bed.pod(1).addresses.v6, pod_mac(1).link_local()];
    let resolves = |address: Ipv6Addr, patience| {
        // A link-local address is asked for on the interface; the others by the routing table.
        pod.ip(&["neigh flush dev eth0".to_owned()]);
        let to = if address.is_unicast_link_local() { on_eth0(pod, address, 9) } else { (address, 9).into() };
        send_udp(pod, "[::]:0".parse().unwrap(), to, &Token::new());
        becomes_true(patience, || {
            let show = ["-6", "neigh", "show", &address.to_string(), "dev", "eth0"];
            pod.command("ip", &show, "").contains("lladdr")
        })
    };
    agent.apply_ruleset(&closed(&bed));
    for address in neighbours {
        assert!(resolves(address, PATIENCE), "{address} is not found");
    }
    agent.apply_ruleset(&without(&closed(&bed), &NEIGHBOUR));
    for address in neighbours {
        assert!(!resolves(address, Duration::from_millis(300)), "{address} is found without the rules");
    }
}

#[test]
fn the_node_finds_its_pod() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    agent.apply_ruleset(&closed(&bed));
    bed.node.ip(&["neigh flush dev cni0".to_owned()]);
    bed.wait_until_reachable(bed.pod(0));
}

#[test]
fn a_starting_pod_detects_a_duplicate_address() {
    // Nothing but the answer of pod 0, which has the address, tells pod 2 that it is taken; so its detection works
    // only where question and answer pass. The starting pod is not known to the node.
    for open in [true, false] {
        let mut bed = Bed::new(2);
        let mut agent = Agent::start(&bed);
        let whole = closed(&bed);
        agent.apply_ruleset(&if open { whole } else { without(&whole, &NEIGHBOUR) });
        let starting = bed.add_pod(pod_addresses(2));
        let starting = bed.pod(starting).namespace;
        for path in ["ipv6/conf/all/accept_dad", "ipv6/conf/eth0/accept_dad"] {
            starting.sysctl(path, "1");
        }
        let addresses = || starting.command("ip", &["-6", "addr", "show", "dev", "eth0"], "");
        let (taken, free) = (bed.pod(0).addresses.v6, "fd00:10:244:1::77");
        starting.ip(&[format!("addr add {taken}/64 dev eth0"), format!("addr add {free}/64 dev eth0")]);
        let state_of = |address: &str| {
            let text = addresses();
            let line = text.lines().find(|line| line.contains(&format!("{address}/"))).unwrap_or_default();
            line.to_owned()
        };
        // Detection takes up to two seconds; an address that nobody has comes through it in any case.
        let done =
            || !addresses().lines().any(|line| line.contains("tentative") && !line.contains("dadfailed"));
        assert!(becomes_true(2 * PATIENCE, done), "detection does not end: {}", addresses());
        let duplicate = state_of(&taken.to_string());
        assert_eq!(duplicate.contains("dadfailed"), open, "{duplicate}");
        assert!(!state_of(free).is_empty() && !state_of(free).contains("dadfailed"), "{}", addresses());
    }
}

#[test]
fn the_bridge_hears_listener_reports() {
    for open in [true, false] {
        let bed = Bed::new(2);
        let mut agent = Agent::start(&bed);
        let whole = closed(&bed);
        agent.apply_ruleset(&if open { whole } else { without(&whole, &NEIGHBOUR) });
        let pod = bed.pod(0).namespace;
        let _member = pod.run(|| {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            let index = nix::net::if_::if_nametoindex("eth0").unwrap();
            socket.join_multicast_v6(&"ff05::5e1".parse().unwrap(), index).unwrap();
            socket
        });
        let heard = || bed.node.command("bridge", &["mdb", "show", "dev", "cni0"], "").contains("ff05::5e1");
        let patience = if open { PATIENCE } else { Duration::from_millis(300) };
        assert_eq!(becomes_true(patience, heard), open);
    }
}

#[test]
fn a_router_solicitation_reaches_the_node() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let inbox = RawInbox::open(&bed.node, Domain::IPV6, ICMPV6);
    agent.apply_ruleset(&closed(&bed));
    let all_routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let token = Token::new();
    let body = [&[0; 4], token.bytes()].concat();
    let to_mac = multicast_mac(all_routers.into());
    sender.send(&icmpv6(pod_mac(0), to_mac, pod_mac(0).link_local(), all_routers, 133, &body));
    assert!(inbox.sees(&token, PATIENCE));
}

#[test]
fn what_only_looks_like_neighbour_discovery_is_judged() {
    // A neighbour advertisement whose hop limit says that it may have crossed a router carries anything at all from
    // pod to pod, if it were let through.
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let (from, to) = (pod_mac(0).link_local(), bed.pod(1).addresses.v6);
    let true_one = |token: &Token| {
        let body = [&[0; 4], to.octets().as_slice(), token.bytes()].concat();
        icmpv6(pod_mac(0), pod_mac(1), from, to, 136, &body)
    };
    let attack = Attack {
        send: &|token| {
            let mut frame = true_one(token);
            // The hop limit, which no checksum covers, at byte 7 of the IPv6 header.
            frame[14 + 7] = 254;
            sender.send(&frame);
        },
        arrives: &|token, patience| receiver.sees(token, patience),
    };
    let world = World::of(&[bed.pod(0), bed.pod(1)]);
    closed_by(&bed, &world, bed.pod(0), &[("guard", "guard-source"), ("from_pod", "unknown-pod")], &attack);
    let mut agent = Agent::start(&bed);
    agent.apply_ruleset(&closed(&bed));
    let token = Token::new();
    sender.send(&true_one(&token));
    assert!(receiver.sees(&token, PATIENCE), "a true one passes");
}
