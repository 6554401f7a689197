//! Random clusters put on the bed, and random packets sent through the kernel: each arrives just where the oracle says.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use proptest::collection::vec;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};
use selvage_nftables::trace::trace;
use selvage_policy::model::Change;
use selvage_policy::oracle::always::{Connection, Passage, Side, passage};
use selvage_policy::oracle::{Objects, Packet, Transport};
use socket2::Domain;

use crate::agent::Agent;
use crate::bed::{BRIDGE_MAC, Bed, FAMILIES, Mac, pod_mac};
use crate::common::random::{self, HOSTS, NODES, cluster, host, node_addresses};
use crate::common::world::{WorldExt, engine};
use crate::matrix::{SCTP, TCP, UDP};
use crate::node::{received, rendered};
use crate::passages::{Case, case, overlay, passages, traced};
use crate::probe::{GRACE, PATIENCE, Token, send_udp};
use crate::seed::{seed, setting};
use crate::wire::{RawInbox, Route, Wire, icmp, packet, sctp_init, tcp, udp};

const CLUSTERS: u32 = 16;
const PACKETS: usize = 60;
/// The bed's node in the random clusters.
const NODE: u8 = 1;
/// A MAC address for the node's uplink.
const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 3, 1]);
const FAR_MAC: Mac = Mac([2, 0, 0, 0, 3, 2]);

#[test]
fn the_kernel_does_what_the_oracle_reads_in_the_objects() {
    let clusters = setting("SELVAGE_ORACLE_CLUSTERS").map_or(CLUSTERS, |clusters: u32| clusters / 25 + 1);
    let seed = seed("real packets");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let strategy = (cluster(), vec(case(), PACKETS));
    let bed = bed();
    let mut agent = Agent::start(&bed);
    let (mut passed, mut dropped) = ([0; 2], [0; 2]);
    for index in 0..clusters {
        let (changes, cases) = strategy.new_tree(&mut runner).unwrap().current();
        let objects = placed(changes);
        let engine = engine(objects.list());
        let (policy, groups) = received(&engine, &name()).unwrap();
        let ruleset = rendered(&policy, &groups).ruleset;
        agent.apply_ruleset(&ruleset);
        forget_connections(&agent, &bed);
        let shots = shots(&objects, &cases);
        let arrived = send(&bed, &shots);
        for shot in &shots {
            let v6 = usize::from(shot.way.packet.source.is_ipv6());
            *if shot.passes { &mut passed[v6] } else { &mut dropped[v6] } += 1;
            assert_eq!(
                arrived.contains(&shot.index),
                shot.passes,
                "SELVAGE_ORACLE_SEED={seed}, cluster {index}: {:?}\n{:?}\n{:?}",
                shot.way,
                passage(&objects, &shot.way),
                trace(&ruleset, &traced(&shot.way)),
            );
        }
    }
    println!("passed {passed:?}, dropped {dropped:?} (IPv4, IPv6)");
    if clusters >= CLUSTERS {
        assert!(passed.iter().chain(&dropped).sum::<usize>() >= 200, "too few packets");
        assert!(passed.iter().chain(&dropped).all(|count| *count >= 30), "one-sided");
    }
}

fn name() -> std::sync::Arc<str> {
    format!("node-{NODE}").into()
}

/// The bed, and behind its node everything that random clusters speak of.
fn bed() -> Bed {
    let bed = Bed::new(usize::from(HOSTS));
    let uplink = |mac: Mac| format!("link set uplink address {mac}");
    let mut far = vec![uplink(FAR_MAC)];
    let mut node = vec![uplink(UPLINK_MAC)];
    let mut add = |address: IpAddr| match address {
        IpAddr::V4(address) => far.push(format!("addr replace {address}/32 dev uplink")),
        IpAddr::V6(address) => far.push(format!("addr replace {address}/128 dev uplink nodad")),
    };
    for other in (0..NODES).filter(|other| *other != NODE) {
        (0..HOSTS).flat_map(|index| host(other, index)).for_each(&mut add);
        node_addresses(other).into_iter().for_each(&mut add);
    }
    random::OUTSIDE.iter().map(|address| address.parse().unwrap()).for_each(&mut add);
    for (net, via) in [
        ("10.244.0.0/24", bed.far_node().addresses.v4.to_string()),
        ("10.244.200.0/24", bed.far_node().addresses.v4.to_string()),
        ("fd00:10:244::/64", bed.far_node().addresses.v6.to_string()),
    ] {
        node.push(format!("route add {net} via {via}"));
    }
    node.push("neigh flush dev uplink".to_owned());
    far.push("neigh flush dev uplink".to_owned());
    bed.node.ip(&node);
    bed.far.ip(&far);
    bed.wait_until_reachable(bed.far_node());
    bed
}

/// The cluster, with the pods where the bed has them, and the nodes' addresses as they are.
fn placed(changes: Vec<Change>) -> Objects {
    let mut objects = Objects::default();
    let seed = random::seed();
    seed.iter().cloned().chain(changes).for_each(|change| objects.apply(change));
    for change in seed {
        match change {
            Change::Pod(key, Some(seed)) => {
                if let Some(pod) = objects.pods.get_mut(&key) {
                    (pod.node, pod.addresses) = (seed.node, seed.addresses);
                }
            }
            Change::Node(key, Some(seed)) => {
                let node = objects.nodes.entry(key).or_default();
                (node.blocks, node.addresses) = (seed.blocks, seed.addresses);
            }
            _ => {}
        }
    }
    objects
}

fn forget_connections(agent: &Agent, bed: &Bed) {
    let pods = (0..NODES).flat_map(|node| (0..HOSTS).flat_map(move |index| host(node, index)));
    let nodes = (0..NODES).flat_map(node_addresses);
    let outside = random::OUTSIDE.iter().map(|address| address.parse().unwrap());
    agent.forget_connections(bed, &pods.chain(nodes).chain(outside).collect::<Vec<_>>());
}

/// A packet to send, and whether it must arrive.
struct Shot {
    index: usize,
    way: Passage,
    token: Token,
    passes: bool,
}

/// The cases that the bed can send: through its node, not from it; and no two of one connection.
fn shots(objects: &Objects, cases: &[Case]) -> Vec<Shot> {
    let mut connections = BTreeSet::new();
    let mut shots = Vec::new();
    for case in cases {
        let Packet { source, destination, transport } = case.packet;
        let sendable = matches!(case.connection, Connection::New | Connection::Untracked)
            && !case.service
            && !case.broadcast
            && !destination.is_multicast()
            && destination != IpAddr::from([255; 4])
            && source != destination;
        let connection = format!("{source} {destination} {transport:?}");
        let back = match transport {
            Transport::Ports { protocol, source: from, destination: to } => {
                let transport = Transport::Ports { protocol, source: to, destination: from };
                format!("{destination} {source} {transport:?}")
            }
            _ => format!("{destination} {source} {transport:?}"),
        };
        if !sendable || connections.contains(&back) || !connections.insert(connection) {
            continue;
        }
        let case = Case { hop_limit: 64, ..case.clone() };
        let way = passages(objects, &case).into_iter().find(|way| way.node == name());
        // The kernel routes nothing that is of one link alone (RFC 4291, 2.5.6), rules or no rules.
        let stuck = |way: &Passage| way.from == Side::Beyond && link_local(source);
        let Some(way) = way.filter(|way| way.from != Side::Node && !stuck(way)) else { continue };
        let passes = passage(objects, &way).passes() && !overlay(&way);
        shots.push(Shot { index: shots.len(), way, token: Token::new(), passes });
    }
    shots
}

fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Sends all, and gives those that arrived where they should go.
fn send(bed: &Bed, shots: &[Shot]) -> BTreeSet<usize> {
    let pods: Vec<Wire> =
        (0..usize::from(HOSTS)).map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0")).collect();
    let far = Wire::attach(&bed.far, "uplink");
    let inboxes: Vec<(usize, RawInbox)> = shots
        .iter()
        .filter(|shot| shot.way.to == Side::Node)
        .map(|shot| {
            let domain = Domain::for_address((shot.way.packet.destination, 0).into());
            (shot.index, RawInbox::open(&bed.node, domain, shot.way.packet.transport.protocol()))
        })
        .collect();
    let pod_of = |address: IpAddr| (0..HOSTS).position(|index| host(NODE, index).contains(&address));
    for shot in shots {
        let Passage { packet: Packet { source, destination, .. }, from, to, .. } = &shot.way;
        let (wire, from_mac, to_mac) = match from {
            Side::Pods => {
                let pod = pod_of(*source).unwrap_or(0);
                let to_mac = match (to, pod_of(*destination)) {
                    (Side::Pods, Some(other)) => pod_mac(other),
                    _ => BRIDGE_MAC,
                };
                (&pods[pod], pod_mac(pod), to_mac)
            }
            _ => (&far, FAR_MAC, UPLINK_MAC),
        };
        wire.send(&frame(shot, Route { from_mac, to_mac, from: *source, to: *destination }));
    }
    let mut arrived = BTreeSet::new();
    for (index, inbox) in &inboxes {
        let patience = if shots[*index].passes { PATIENCE } else { GRACE };
        if inbox.sees(&shots[*index].token, patience) {
            arrived.insert(*index);
        }
    }
    for (pod, wire) in pods.iter().enumerate() {
        let here =
            |shot: &Shot| shot.way.to == Side::Pods && pod_of(shot.way.packet.destination) == Some(pod);
        let end = fence(bed, &bed.pod(pod).addresses.both());
        arrived.extend(seen(wire, &end, shots, here));
    }
    let end = fence(bed, &bed.far_node().addresses.both());
    arrived.extend(seen(&far, &end, shots, |shot| shot.way.to == Side::Beyond));
    arrived
}

/// Packets from the node, which no policy closes, that come after all others.
fn fence(bed: &Bed, to: &[IpAddr; 2]) -> Vec<Token> {
    std::thread::sleep(Duration::from_millis(20));
    let tokens = FAMILIES.iter().zip(to).map(|(_, to)| {
        let token = Token::new();
        let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0_u16; 8]) };
        send_udp(&bed.node, (any, 0).into(), (*to, 7).into(), &token);
        token
    });
    tokens.collect()
}

/// Of the packets that should come here, those that did: until all that must have come and the fence stands, and a while
/// longer for those that must not.
fn seen(wire: &Wire, fence: &[Token], shots: &[Shot], here: impl Fn(&Shot) -> bool) -> BTreeSet<usize> {
    let found = RefCell::new((BTreeSet::new(), 0));
    let mine: Vec<&Shot> = shots.iter().filter(|shot| here(shot)).collect();
    let note = |frame: &[u8]| {
        let (arrived, fences) = &mut *found.borrow_mut();
        arrived.extend(mine.iter().filter(|shot| shot.token.is_in(frame)).map(|shot| shot.index));
        *fences += fence.iter().filter(|token| token.is_in(frame)).count();
        *fences == fence.len()
            && mine.iter().filter(|shot| shot.passes).all(|shot| arrived.contains(&shot.index))
    };
    wire.finds(PATIENCE, note);
    wire.finds(GRACE, |frame| {
        note(frame);
        false
    });
    let (arrived, fences) = found.into_inner();
    assert_eq!(fences, fence.len(), "the node's own packets are lost");
    arrived
}

fn frame(shot: &Shot, route: Route) -> Vec<u8> {
    let payload = shot.token.bytes();
    match shot.way.packet.transport {
        Transport::Ports { protocol: TCP, source, destination } => {
            tcp(route, source, destination, [true, false, false], payload)
        }
        Transport::Ports { protocol: UDP, source, destination } => udp(route, source, destination, payload),
        Transport::Ports { source, destination, .. } => {
            packet(route, SCTP, &sctp_init(source, destination, &shot.token))
        }
        Transport::Icmp { kind, code, .. } => {
            icmp(route, kind, code, u16::try_from(shot.index).unwrap(), payload)
        }
        Transport::Other(protocol) => packet(route, protocol, payload),
    }
}
