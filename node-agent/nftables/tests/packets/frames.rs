//! Frames that bridge netfilter shows no rule of the IP layers: the table of the bridge family stops them at the pods'
//! ports, and leaves the ports of other bridges alone.

use std::net::UdpSocket;
use std::sync::Arc;

use selvage_nftables::model::Ruleset;
use selvage_nftables::render::bridge::{BridgeFacts, bridge};

use crate::agent::Agent;
use crate::bed::{Bed, FAMILIES, Mac, NODE, OUTSIDE, bound, pod_mac};
use crate::locks::{Attack, Lock, without};
use crate::matrix::{Ask, UDP, check, no, yes};
use crate::netns::Namespace;
use crate::probe::receives;
use crate::wire::{Route, Wire, udp};
use crate::world::{Narrow, World, allow, ports};

const LOCK: Lock = ("frames", "bridge-frame");

/// Tags of VLAN 0, which the receiver takes off: a customer's, a provider's, one with a priority, and one in another.
const TAGS: [&[u8]; 4] =
    [&[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 0], &[0x81, 0, 0xe0, 0], &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 0]];

/// Headers between the addresses and a packet that no stack takes off unasked: another VLAN, a PPPoE session, and
/// experimental Ethernet (IEEE 802 local).
const OTHERS: [&[u8]; 3] = [&[0x81, 0, 0, 5], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 40, 0, 0x21], &[0x88, 0xb5]];

/// The frame with a header before its type.
fn behind(header: &[u8], frame: &[u8]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    [macs, header, rest].concat()
}

/// The table where these are the ports of other bridges.
fn table(foreign: &[&str]) -> Ruleset {
    let foreign_ports = foreign.iter().map(|name| Arc::from(*name)).collect();
    bridge(&BridgeFacts { foreign_ports, ..BridgeFacts::default() })
}

/// A node whose pod 1 takes port 53 alone, under a whole `inet` table.
fn judged() -> (Bed, Agent) {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(1), Some(vec![allow().on(ports(UDP, 53, 53))]), None);
    agent.apply(&world);
    (bed, agent)
}

#[test]
fn a_tag_does_not_hide_a_packet_from_the_rules() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = bed.pod(1).namespace.run(|| UdpSocket::bind("[::]:54").unwrap());
    let mut bridge = Agent::start_bridge(&bed);
    let mut tried = 0;
    for (family, tag) in FAMILIES.into_iter().flat_map(|family| TAGS.map(|tag| (family, tag))) {
        let [from, to] = [0, 1].map(|pod| bed.pod(pod).addresses.of(family));
        let route = Route { from_mac: pod_mac(0), to_mac: pod_mac(1), from, to };
        let attack = Attack {
            send: &|token| sender.send(&behind(tag, &udp(route, 7000, 54, token.bytes()))),
            arrives: &|token, patience| receives(&receiver, token, patience),
        };
        bridge.apply_ruleset(&without(&table(&[]), &[LOCK]));
        assert!(attack.works(), "{family:?} {tag:x?}: no attack");
        bridge.apply_ruleset(&table(&[]));
        assert!(attack.fails(&bed, bed.pod(1)), "{family:?} {tag:x?} gets through");
        tried += 1;
        assert!(bridge.counted(LOCK.0, LOCK.1) > 0);
    }
    assert_eq!(tried, 8);
    check(&bed, &[yes(bed.pod(0), bed.pod(1), Ask::Udp(53)), no(bed.pod(0), bed.pod(1), Ask::Udp(54))]);
    bridge.remove();
}

#[test]
fn a_frame_that_no_rule_sees_reaches_no_pod() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let mut bridge = Agent::start_bridge(&bed);
    let [from, to] = [0, 1].map(|pod| bed.pod(pod).addresses.v4.into());
    let route = Route { from_mac: pod_mac(0), to_mac: pod_mac(1), from, to };
    for header in OTHERS {
        let attack = Attack {
            send: &|token| sender.send(&behind(header, &udp(route, 7000, 54, token.bytes()))),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        bridge.apply_ruleset(&without(&table(&[]), &[LOCK]));
        assert!(attack.works(), "{header:x?}: no attack");
        bridge.apply_ruleset(&table(&[]));
        assert!(attack.fails(&bed, bed.pod(1)), "{header:x?} gets through");
    }
    bridge.remove();
}

/// Two hosts on another bridge of the node: one behind a veth, and one behind a port that is none.
#[test]
fn other_bridges_keep_their_tagged_frames() {
    let (bed, _agent) = judged();
    let hosts = [Namespace::new(), Namespace::new()];
    let macs = [6, 7].map(|last| Mac([2, 0, 0, 0, 9, last]));
    bed.node.ip(&["link add trunk0 type bridge".to_owned(), "link set trunk0 up".to_owned()]);
    for (index, (host, mac)) in hosts.iter().zip(macs).enumerate() {
        bed.node.ip(&[
            format!("link add host{index} type veth peer name eth0 address {mac} netns {}", host.path()),
            format!("link set host{index} up"),
        ]);
        host.ip(&["link set eth0 up".to_owned()]);
    }
    bed.node.ip(&[
        "link set host0 master trunk0".to_owned(),
        "link add link host1 name over1 type macvlan mode passthru".to_owned(),
        "link set over1 master trunk0 up".to_owned(),
    ]);
    let wires = hosts.each_ref().map(|host| Wire::attach(host, "eth0"));
    let [from, to] = [0, 1].map(|pod| bed.pod(pod).addresses.v4.into());
    let there = Route { from_mac: macs[0], to_mac: macs[1], from, to };
    let back = Route { from_mac: macs[1], to_mac: macs[0], from: to, to: from };
    let from_veth = Attack {
        send: &|token| wires[0].send(&behind(&[0x81, 0, 0, 5], &udp(there, 7000, 54, token.bytes()))),
        arrives: &|token, patience| wires[1].sees(token, patience),
    };
    let from_other = Attack {
        send: &|token| {
            wires[1].send(&behind(&[0x81, 0, 0, 5], &udp(back, 7000, 54, token.bytes())));
        },
        arrives: &|token, patience| wires[0].sees(token, patience),
    };
    let mut bridge = Agent::start_bridge(&bed);
    bridge.apply_ruleset(&table(&["host0"]));
    assert!(from_veth.works(), "a known port of another bridge");
    assert!(from_other.works(), "a port that is no veth");
    bridge.apply_ruleset(&table(&[]));
    assert!(from_veth.fails(&bed, bed.pod(1)), "a veth that nobody knows yet is taken for a pod's");
    assert!(from_other.works(), "a port that is no veth, whoever knows it");
    bridge.remove();
}

/// A frame to an address that bridges keep to themselves does not go the way of others: the node takes it for one that
/// came in by the port as an interface of its own, past every rule on the pods' side, overlay packets included.
#[test]
fn a_reserved_address_is_no_way_past_the_rules() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let mut bridge_agent = Agent::start_bridge(&bed);
    let whole = bridge(&bound(&[0, 1]));
    bridge_agent.apply_ruleset(&whole);
    let mask = |value: &str| bed.node.ip(&[format!("link set cni0 type bridge group_fwd_mask {value}")]);
    for port in [8472, 7000] {
        let inbox = bed.node.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        for last in [0x0e, 0x03, 0x02] {
            let (from, to) = (OUTSIDE.v4.into(), NODE.v4.into());
            let to_mac = Mac([0x01, 0x80, 0xc2, 0, 0, last]);
            let route = Route { from_mac: pod_mac(0), to_mac, from, to };
            let attack = Attack {
                send: &|token| sender.send(&udp(route, 7000, port, token.bytes())),
                arrives: &|token, patience| receives(&inbox, token, patience),
            };
            // What the agent sets; the address that can't be forwarded is stopped on its other way.
            mask("0xfff8");
            assert!(attack.fails(&bed, bed.pod(1)), "{last:#x} gets through");
            if last == 0x02 {
                bridge_agent.apply_ruleset(&without(&whole, &[("reserved", "bridge-reserved")]));
                assert!(attack.works(), "{last:#x}: no attack");
                bridge_agent.apply_ruleset(&whole);
            }
            mask("0");
            match last {
                // No hook of the bridge family sees it.
                0x0e => assert!(attack.works(), "{last:#x}: no attack"),
                _ => assert!(attack.fails(&bed, bed.pod(1)), "{last:#x} gets through"),
            }
        }
    }
}
