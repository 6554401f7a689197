//! Pods that run and have their addresses while nobody has told the node: closed, or open by a setting.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use selvage_nftables::render::UnknownPods;

use crate::agent::Agent;
use crate::bed::{BRIDGE_MAC, Bed, FAMILIES, FAR_POD, NODE, OUTSIDE, pod_mac};
use crate::locks::{Attack, Lock, closed_by};
use crate::matrix::{Ask, check, no, yes};
use crate::probe::{Token, listen, on_eth0, receives, send_udp};
use crate::wire::{Route, Wire, udp};
use crate::world::World;

const SOURCE: Lock = ("guard", "guard-source");
const UNKNOWN_FROM: Lock = ("from_pod", "unknown-pod");
const UNKNOWN_TO: Lock = ("to_pod", "unknown-pod");
const UNKNOWN_LOCAL: Lock = ("from_pod_local", "unknown-pod");

#[test]
fn a_pod_that_is_not_known_yet() {
    // Pod 1 runs and has its addresses; nobody has told the node.
    let bed = Bed::new(2);
    let world = World::of(&[bed.pod(0)]);
    let [known, unknown] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    let outside = Wire::attach(&bed.far, "uplink");
    let inbox = bed.node.run(|| UdpSocket::bind("[::]:7000").unwrap());
    for family in FAMILIES {
        let [zero, one] = [0, 1].map(|pod| SocketAddr::new(bed.pod(pod).addresses.of(family), 0));
        let to = |address: IpAddr| SocketAddr::new(address, 7000);
        let from_unknown = |destination: IpAddr| {
            let namespace = bed.pod(1).namespace;
            move |token: &Token| send_udp(namespace, one, to(destination), token)
        };
        let closed_for =
            |locks: &[Lock], attack: Attack<'_>| closed_by(&bed, &world, bed.pod(0), locks, &attack);
        closed_for(
            &[SOURCE, UNKNOWN_FROM],
            Attack {
                send: &from_unknown(zero.ip()),
                arrives: &|token, patience| known.sees(token, patience),
            },
        );
        closed_for(
            &[SOURCE, UNKNOWN_FROM],
            Attack {
                send: &from_unknown(OUTSIDE.of(family)),
                arrives: &|token, patience| outside.sees(token, patience),
            },
        );
        closed_for(
            &[SOURCE, UNKNOWN_LOCAL],
            Attack {
                send: &from_unknown(NODE.of(family)),
                arrives: &|token, patience| receives(&inbox, token, patience),
            },
        );
        closed_for(
            &[UNKNOWN_TO],
            Attack {
                send: &|token| send_udp(bed.pod(0).namespace, zero, to(one.ip()), token),
                arrives: &|token, patience| unknown.sees(token, patience),
            },
        );
        closed_for(
            &[UNKNOWN_TO],
            Attack {
                send: &|token| send_udp(&bed.far, (OUTSIDE.of(family), 0).into(), to(one.ip()), token),
                arrives: &|token, patience| unknown.sees(token, patience),
            },
        );
    }
}

#[test]
fn a_pod_is_open_or_closed_from_the_moment_it_is_known() {
    let bed = Bed::new(2);
    let _server = listen(bed.pod(1).namespace, 80);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0)]);
    let (zero, one) = (bed.pod(0), bed.pod(1));
    agent.apply(&world);
    // Its own node is no exception: the answers come from a source that is no endpoint.
    let closed =
        [no(zero, one, Ask::Tcp(80)), no(one, zero, Ask::Tcp(81)), no(bed.node(), one, Ask::Tcp(80))];
    check(&bed, &closed);
    world.add(one.name, one.addresses);
    agent.apply(&world);
    let open =
        [yes(zero, one, Ask::Tcp(80)), yes(one, zero, Ask::Tcp(81)), yes(bed.node(), one, Ask::Tcp(80))];
    check(&bed, &open);
    // Listed by the operator, but without an address on the node: not known.
    world.facts.addresses.retain(|key, _| &*key.name != one.name);
    agent.apply(&world);
    check(&bed, &closed);
}

#[test]
fn a_setting_opens_unknown_pods_and_no_forged_source() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0)]);
    world.settings.unknown_pods = UnknownPods::Open;
    world.select(bed.pod(0), Some(vec![]), None);
    agent.apply(&world);
    let (known, unknown) = (bed.pod(0), bed.pod(1));
    let ask = Ask::Udp(9);
    check(
        &bed,
        &[
            yes(unknown, bed.node_uplink(), ask),
            yes(unknown, bed.outside(), ask),
            yes(bed.outside(), unknown, ask),
            yes(known, unknown, ask),
            // The known pod is judged as ever.
            no(unknown, known, ask),
            no(bed.outside(), known, ask),
        ],
    );
    let sender = Wire::attach(unknown.namespace, "eth0");
    let outside = Wire::attach(&bed.far, "uplink");
    for family in FAMILIES {
        let (from, to) = (FAR_POD.of(family), OUTSIDE.of(family));
        let attack = Attack {
            send: &|token| {
                let route = Route { from_mac: pod_mac(1), to_mac: BRIDGE_MAC, from, to };
                sender.send(&udp(route, 7000, 7000, token.bytes()));
            },
            arrives: &|token, patience| outside.sees(token, patience),
        };
        assert!(attack.fails(&bed, unknown), "{family:?}");
    }
    let inbox = bed.node.run(|| UdpSocket::bind("[::]:7000").unwrap());
    let to = on_eth0(unknown.namespace, BRIDGE_MAC.link_local(), 7000);
    let attack = Attack {
        send: &|token| send_udp(unknown.namespace, "[::]:0".parse().unwrap(), to, token),
        arrives: &|token, patience| receives(&inbox, token, patience),
    };
    assert!(attack.fails(&bed, unknown));
}
