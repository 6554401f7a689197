//! The holes that the design names under "The ruleset" and "Whatever the policies say", each shown closed, and open
//! without the rules that close it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use selvage_nftables::model::{CtKey, Expr};
use selvage_policy::compiled::Family;
use socket2::Domain;

use crate::bed::{
    Addresses, BRIDGE_MAC, Bed, FAMILIES, FAR_POD, GATEWAY, Host, Mac, NODE, OUTSIDE, pod_addresses, pod_mac,
};
use crate::locks::{Attack, Lock, closed_and_open, closed_by};
use crate::probe::{PATIENCE, Token, on_eth0, receives, send_udp};
use crate::wire::{BROADCAST_MAC, RawInbox, Route, Wire, icmpv6, ipip, multicast_mac, udp};
use crate::world::{Narrow, World, allow, host};

const ICMPV6: u8 = 58;
const SOURCE: Lock = ("guard", "guard-source");
const UNKNOWN_FROM: Lock = ("from_pod", "unknown-pod");
const UNKNOWN_TO: Lock = ("to_pod", "unknown-pod");
const UNKNOWN_LOCAL: Lock = ("from_pod_local", "unknown-pod");
const FRAME: Lock = ("guard", "guard-frame");
const MULTICAST: Lock = ("guard", "guard-multicast");
const BROADCAST: Lock = ("guard", "guard-broadcast");

/// Pod 0 attacks, pod 1 is attacked; nothing selects them, so that only what stands whatever the policies say is in
/// the way.
fn open_world(bed: &Bed) -> World {
    World::of(&[bed.pod(0), bed.pod(1)])
}

/// A frame from pod 0 to pod 1.
fn to_pod_1(from: IpAddr, to: IpAddr) -> Route {
    Route { from_mac: pod_mac(0), to_mac: pod_mac(1), from, to }
}

/// A frame from pod 0 to the bridge.
fn to_bridge(from: IpAddr, to: IpAddr) -> Route {
    Route { from_mac: pod_mac(0), to_mac: BRIDGE_MAC, from, to }
}

#[test]
fn link_local_between_pods() {
    let bed = Bed::new(2);
    let (sender, receiver) = (bed.pod(0).namespace, Wire::attach(bed.pod(1).namespace, "eth0"));
    let to = on_eth0(sender, pod_mac(1).link_local(), 7000);
    let attack = Attack {
        send: &|token| send_udp(sender, "[::]:0".parse().unwrap(), to, token),
        arrives: &|token, patience| receiver.sees(token, patience),
    };
    closed_by(&bed, &open_world(&bed), bed.pod(0), &[SOURCE, UNKNOWN_FROM, UNKNOWN_TO], &attack);
}

#[test]
fn link_local_to_a_neighbours_address() {
    // From a link-local address to a pod's own: the answer would not come back, one datagram is enough.
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let route = to_pod_1(pod_mac(0).link_local().into(), bed.pod(1).addresses.v6.into());
    let attack = Attack {
        send: &|token| sender.send(&udp(route, 7000, 7000, token.bytes())),
        arrives: &|token, patience| receiver.sees(token, patience),
    };
    closed_by(&bed, &open_world(&bed), bed.pod(0), &[SOURCE, UNKNOWN_FROM], &attack);
}

#[test]
fn link_local_to_the_node() {
    let bed = Bed::new(2);
    let sender = bed.pod(0).namespace;
    let inbox = bed.node.run(|| UdpSocket::bind("[::]:7000").unwrap());
    let to = on_eth0(sender, BRIDGE_MAC.link_local(), 7000);
    let attack = Attack {
        send: &|token| send_udp(sender, "[::]:0".parse().unwrap(), to, token),
        arrives: &|token, patience| receives(&inbox, token, patience),
    };
    closed_by(&bed, &open_world(&bed), bed.pod(0), &[SOURCE, UNKNOWN_LOCAL], &attack);
}

/// Addresses that pod 0 might claim: of nobody on this node, of a pod elsewhere, of the node, of the outside.
const CLAIMED: [Addresses; 4] = [
    Addresses { v4: Ipv4Addr::new(10, 244, 1, 200), v6: Ipv6Addr::new(0xfd00, 0x10, 0x244, 1, 0, 0, 0, 200) },
    FAR_POD,
    GATEWAY,
    OUTSIDE,
];

#[test]
fn forged_source_to_a_neighbour() {
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    // Pod 1 takes packets from whoever pod 0 claims to be, and not from pod 0.
    let mut world = open_world(&bed);
    let rules = CLAIMED.map(|addresses| allow().from(host(Host { addresses, ..bed.far_pod() })));
    world.select(bed.pod(1), Some(rules.to_vec()), None);
    for family in FAMILIES {
        for claimed in CLAIMED {
            let route = to_pod_1(claimed.of(family), bed.pod(1).addresses.of(family));
            let attack = Attack {
                send: &|token| sender.send(&udp(route, 7000, 7000, token.bytes())),
                arrives: &|token, patience| receiver.sees(token, patience),
            };
            closed_by(&bed, &world, bed.pod(0), &[SOURCE, UNKNOWN_FROM], &attack);
        }
    }
}

#[test]
fn forged_source_beyond_the_node() {
    let bed = Bed::new(1);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(&bed.far, "uplink");
    for family in FAMILIES {
        let route = to_bridge(CLAIMED[0].of(family), OUTSIDE.of(family));
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 7000, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        closed_by(&bed, &World::of(&[bed.pod(0)]), bed.pod(0), &[SOURCE, UNKNOWN_FROM], &attack);
    }
}

#[test]
fn forged_source_to_the_node() {
    let bed = Bed::new(1);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let inbox = bed.node.run(|| UdpSocket::bind("[::]:7000").unwrap());
    for family in FAMILIES {
        let route = to_bridge(CLAIMED[0].of(family), NODE.of(family));
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 7000, token.bytes())),
            arrives: &|token, patience| receives(&inbox, token, patience),
        };
        closed_by(&bed, &World::of(&[bed.pod(0)]), bed.pod(0), &[SOURCE, UNKNOWN_LOCAL], &attack);
    }
}

#[test]
fn forged_source_into_an_open_connection() {
    // A pod of another node talks to pod 1; pod 0 slips a datagram into that flow, which is established, so that only
    // what stands before connection tracking can stop it.
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    for family in FAMILIES {
        let (from, to) = (FAR_POD.of(family), bed.pod(1).addresses.of(family));
        let theirs = bed.far.run(|| UdpSocket::bind((from, 7001)).unwrap());
        let ours = bed.pod(1).namespace.run(|| UdpSocket::bind((to, 7002)).unwrap());
        let both_ways = || {
            let token = Token::new();
            theirs.send_to(token.bytes(), (to, 7002)).unwrap();
            assert!(receives(&ours, &token, PATIENCE));
            ours.send_to(token.bytes(), (from, 7001)).unwrap();
            assert!(receives(&theirs, &token, PATIENCE));
        };
        let mut world = open_world(&bed);
        world.select(bed.pod(1), Some(vec![allow().from(host(bed.far_pod()))]), None);
        let attack = Attack {
            send: &|token| {
                both_ways();
                sender.send(&udp(to_pod_1(from, to), 7001, 7002, token.bytes()));
            },
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        closed_by(&bed, &world, bed.pod(0), &[SOURCE], &attack);
    }
}

#[test]
fn broadcast_and_multicast_to_pods() {
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let all_nodes: IpAddr = "ff02::1".parse().unwrap();
    let mdns: IpAddr = "224.0.0.251".parse().unwrap();
    let limited: IpAddr = Ipv4Addr::BROADCAST.into();
    let subnet: IpAddr = "10.244.1.255".parse().unwrap();
    let pod = |family| bed.pod(1).addresses.of(family);
    // By the frame and by the packet: a frame to one neighbour may carry a packet to all, and the other way round.
    let cases: [(Mac, IpAddr, &[Lock]); 9] = [
        (BROADCAST_MAC, limited, &[FRAME, BROADCAST, UNKNOWN_TO]),
        (BROADCAST_MAC, subnet, &[FRAME, BROADCAST, UNKNOWN_TO]),
        (multicast_mac(mdns), mdns, &[FRAME, MULTICAST, UNKNOWN_TO]),
        (multicast_mac(all_nodes), all_nodes, &[FRAME, MULTICAST, UNKNOWN_TO]),
        (pod_mac(1), limited, &[BROADCAST, UNKNOWN_TO]),
        (pod_mac(1), mdns, &[MULTICAST, UNKNOWN_TO]),
        (pod_mac(1), all_nodes, &[MULTICAST, UNKNOWN_TO]),
        (BROADCAST_MAC, pod(Family::V4), &[FRAME]),
        (multicast_mac(all_nodes), pod(Family::V6), &[FRAME]),
    ];
    for (to_mac, to, locks) in cases {
        let from = if to.is_ipv4() { pod_addresses(0).v4.into() } else { pod_addresses(0).v6.into() };
        let frame =
            |token: &Token| udp(Route { from_mac: pod_mac(0), to_mac, from, to }, 7000, 7000, token.bytes());
        let attack = Attack {
            send: &|token| sender.send(&frame(token)),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        closed_by(&bed, &open_world(&bed), bed.pod(0), locks, &attack);
    }
}

#[test]
fn broadcast_and_multicast_to_the_node() {
    let bed = Bed::new(1);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let inbox = bed.node.run(|| UdpSocket::bind("[::]:7000").unwrap());
    let groups = bed.node.run(|| {
        let group = UdpSocket::bind("[::]:7001").unwrap();
        let index = nix::net::if_::if_nametoindex("cni0").unwrap();
        group.join_multicast_v6(&"ff02::fb".parse().unwrap(), index).unwrap();
        group
    });
    let mdns: IpAddr = "ff02::fb".parse().unwrap();
    let cases: [(Mac, IpAddr, &UdpSocket, u16, &[Lock]); 3] = [
        (BROADCAST_MAC, Ipv4Addr::BROADCAST.into(), &inbox, 7000, &[FRAME, BROADCAST]),
        (BROADCAST_MAC, "10.244.1.255".parse().unwrap(), &inbox, 7000, &[FRAME, BROADCAST]),
        (multicast_mac(mdns), mdns, &groups, 7001, &[FRAME, MULTICAST]),
    ];
    for (to_mac, to, inbox, port, locks) in cases {
        let from = if to.is_ipv4() { pod_addresses(0).v4.into() } else { pod_addresses(0).v6.into() };
        let route = Route { from_mac: pod_mac(0), to_mac, from, to };
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, port, token.bytes())),
            arrives: &|token, patience| receives(inbox, token, patience),
        };
        closed_by(&bed, &World::of(&[bed.pod(0)]), bed.pod(0), locks, &attack);
    }
}

#[test]
fn hairpin_forged_by_a_neighbour() {
    // Pod 0 sends pod 1 a packet that claims to come from pod 1 itself, as one that comes back through a Service.
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let mut world = open_world(&bed);
    world.select(bed.pod(1), Some(vec![]), Some(vec![]));
    let whole = world.ruleset();
    let mut gullible = whole.clone();
    let chains = ["from_pod", "to_pod"];
    for chain in chains {
        let rules = &mut gullible.chains.get_mut(chain).unwrap().rules;
        for rule in rules.iter_mut().filter(|rule| &*rule.id == "hairpin") {
            // The status is loaded, masked and compared: three expressions.
            let status = |e: &Expr| matches!(e, Expr::Ct { key: CtKey::Status, .. });
            let at = rule.expressions.iter().position(status).expect("the hairpin rule asks for NAT");
            rule.expressions.drain(at..at + 3);
        }
    }
    assert_ne!(whole, gullible);
    for family in FAMILIES {
        let own = bed.pod(1).addresses.of(family);
        let attack = Attack {
            send: &|token| sender.send(&udp(to_pod_1(own, own), 7000, 7000, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        closed_and_open(&bed, bed.pod(0), &whole, &gullible, &attack);
    }
}

#[test]
fn router_advertisement_and_redirect_from_a_pod() {
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let node = RawInbox::open(&bed.node, Domain::IPV6, ICMPV6);
    let (own, link_local) = (bed.pod(0).addresses.v6, pod_mac(0).link_local());
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    for (kind, lock) in [(134, ("guard", "guard-router")), (137, ("guard", "guard-redirect"))] {
        // Neither tells anybody anything: no lifetime and no options, and a redirect for no destination.
        let send = |to_mac: Mac, from: Ipv6Addr, to: Ipv6Addr, token: &Token| {
            let head: &[u8] = if kind == 134 { &[64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] } else { &[0; 36] };
            sender.send(&icmpv6(pod_mac(0), to_mac, from, to, kind, &[head, token.bytes()].concat()));
        };
        let closed_for = |locks: &[Lock], attack: Attack<'_>| {
            closed_by(&bed, &open_world(&bed), bed.pod(0), locks, &attack);
        };
        let at_pod = |token: &Token, patience| receiver.sees(token, patience);
        let at_node = |token: &Token, patience| node.sees(token, patience);
        // As a true one looks.
        let everybody = multicast_mac(all_nodes.into());
        closed_for(
            &[lock, SOURCE, FRAME, MULTICAST, UNKNOWN_FROM, UNKNOWN_TO],
            Attack { send: &|token| send(everybody, link_local, all_nodes, token), arrives: &at_pod },
        );
        closed_for(
            &[lock, SOURCE, FRAME, MULTICAST, UNKNOWN_LOCAL],
            Attack { send: &|token| send(everybody, link_local, all_nodes, token), arrives: &at_node },
        );
        // From an address that is the pod's own, so that only its type gives it away.
        let to = bed.pod(1).addresses.v6;
        closed_for(&[lock], Attack { send: &|token| send(pod_mac(1), own, to, token), arrives: &at_pod });
        closed_for(
            &[lock],
            Attack { send: &|token| send(BRIDGE_MAC, own, GATEWAY.v6, token), arrives: &at_node },
        );
    }
}

#[test]
fn overlay_packets_from_a_pod_to_a_node() {
    let bed = Bed::new(1);
    let world = World::of(&[bed.pod(0)]);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    for (port, lock) in [(8472, ("guard", "guard-vxlan-linux")), (4789, ("guard", "guard-vxlan-iana"))] {
        let inbox = bed.node.run(|| UdpSocket::bind(("::", port)).unwrap());
        let far = Wire::attach(&bed.far, "uplink");
        for family in FAMILIES {
            let from = SocketAddr::new(bed.pod(0).addresses.of(family), 0);
            for own in [NODE, GATEWAY] {
                let to = SocketAddr::new(own.of(family), port);
                let attack = Attack {
                    send: &|token| send_udp(bed.pod(0).namespace, from, to, token),
                    arrives: &|token, patience| receives(&inbox, token, patience),
                };
                closed_by(&bed, &world, bed.pod(0), &[lock], &attack);
            }
            let to = SocketAddr::new(bed.far_node().addresses.of(family), port);
            let attack = Attack {
                send: &|token| send_udp(bed.pod(0).namespace, from, to, token),
                arrives: &|token, patience| far.sees(token, patience),
            };
            closed_by(&bed, &world, bed.pod(0), &[lock], &attack);
        }
    }
    let inbox = RawInbox::open(&bed.node, Domain::IPV4, 4);
    let route = to_bridge(pod_addresses(0).v4.into(), NODE.v4.into());
    let attack = Attack {
        send: &|token| sender.send(&ipip(route, FAR_POD.v4, pod_addresses(0).v4, token.bytes())),
        arrives: &|token, patience| inbox.sees(token, patience),
    };
    closed_by(&bed, &world, bed.pod(0), &[("guard", "guard-ipip")], &attack);
}
