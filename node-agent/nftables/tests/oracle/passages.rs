//! Packets on their way: which nodes they pass, by which side, and how the tracer is told of it.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use selvage_nftables::trace;
use selvage_policy::oracle::always::{Connection, Passage, Side};
use selvage_policy::oracle::who::owner;
use selvage_policy::oracle::{Objects, Packet, Transport};

use crate::common::random::packet::{packet, transport};
use crate::common::random::{NODES, address_of, blocks, node_addresses};
use crate::node::BRIDGE;

/// A packet and how it is sent.
#[derive(Debug, Clone)]
pub struct Case {
    pub packet: Packet,
    pub connection: Connection,
    /// It was sent to a Service, and DNAT has put the destination there.
    pub service: bool,
    pub broadcast: bool,
    pub hop_limit: u8,
    /// It comes from the pods' side of this node, whoever it says it is.
    pub forged_at: Option<u8>,
}

/// Mostly the first packet of a connection as its sender would send it; sometimes anything.
pub fn case() -> impl Strategy<Value = Case> {
    let plain = packet().prop_map(|packet| Case {
        packet,
        connection: Connection::New,
        service: false,
        broadcast: false,
        hop_limit: 64,
        forged_at: None,
    });
    prop_oneof![4 => plain, 1 => unusual()]
}

fn unusual() -> impl Strategy<Value = Case> {
    use Connection::{Established, Invalid, New, Related, Untracked};
    let packet = prop_oneof![1 => packet(), 2 => any::<bool>().prop_flat_map(odd_packet)];
    let connection = select(&[New, New, New, Established, Related, Invalid, Untracked][..]);
    let hop_limit = select(&[1u8, 64, 255, 255][..]);
    let broadcast = prop::bool::weighted(0.15);
    (packet, connection, prop::bool::weighted(0.3), broadcast, hop_limit, option::of(0..NODES)).prop_map(
        |(packet, connection, service, broadcast, hop_limit, forged_at)| Case {
            packet,
            connection: if tracked(packet.transport) { connection } else { Untracked },
            service,
            broadcast,
            hop_limit,
            forged_at,
        },
    )
}

/// Conntrack does not look at what links need (`icmpv6_error` of nf_conntrack_proto_icmpv6.c).
fn tracked(transport: Transport) -> bool {
    !matches!(transport, Transport::Icmp { protocol: 58, kind: 130..=136 | 143, .. })
}

/// What links need, what no pod may send, and a pod to itself.
fn odd_packet(v4: bool) -> BoxedStrategy<Packet> {
    let (link_local, group): (IpAddr, IpAddr) = match v4 {
        true => ([169, 254, 0, 9].into(), [224, 0, 0, 251].into()),
        false => ("fe80::9".parse().unwrap(), "ff02::1".parse().unwrap()),
    };
    let all: IpAddr = if v4 { [255; 4].into() } else { group };
    let overlay = prop_oneof![
        select(&[8472u16, 4789][..]).prop_map(|destination| Transport::Ports {
            protocol: 17,
            source: 9,
            destination
        }),
        Just(Transport::Other(4)),
    ];
    let (protocol, kinds, needed) = match v4 {
        true => (1, 8u8..10, &[8u8][..]),
        false => (58, 128..145, &[133, 134, 135, 136, 137][..]),
    };
    let kinds = prop_oneof![kinds, select(needed)];
    let icmp = kinds.prop_map(move |kind| Transport::Icmp { protocol, kind, code: 0 });
    let source = prop_oneof![3 => address_of(v4), 1 => Just(link_local)];
    let node = (0..NODES).prop_map(move |node| node_addresses(node)[usize::from(!v4)]);
    let destination = prop_oneof![4 => address_of(v4), 2 => node, 1 => Just(group), 1 => Just(all)];
    let itself = prop::bool::weighted(0.2);
    (source, destination, prop_oneof![transport(v4), icmp, overlay], itself)
        .prop_map(|(source, destination, transport, itself)| {
            let destination = if itself { source } else { destination };
            Packet { source, destination, transport }
        })
        .boxed()
}

/// The node and its side where an address is at home.
fn home(objects: &Objects, address: IpAddr) -> (Option<Arc<str>>, Side) {
    if let Some((_, pod)) = owner(objects, address) {
        return (Some(pod.node.clone()), Side::Pods);
    }
    let node = |wanted: &dyn Fn(u8) -> bool| (0..NODES).find(|node| wanted(*node)).map(name);
    if let Some(node) = node(&|node| node_addresses(node).contains(&address)) {
        return (Some(node), Side::Node);
    }
    // Routed to the pods' side of a node, where nobody has it.
    match node(&|node| blocks(node).iter().any(|block| block.contains(&address))) {
        Some(node) => (Some(node), Side::Pods),
        None => (None, Side::Beyond),
    }
}

fn name(node: u8) -> Arc<str> {
    format!("node-{node}").into()
}

/// The nodes that it passes, in order. What goes to everybody stays on its link, and what is nobody's passes no node.
pub fn passages(objects: &Objects, case: &Case) -> Vec<Passage> {
    let Packet { source, destination, .. } = case.packet;
    let (source_node, source_side) = match case.forged_at {
        Some(node) => (Some(name(node)), Side::Pods),
        None => home(objects, source),
    };
    let to_all = case.broadcast || destination.is_multicast() || destination == IpAddr::from([255; 4]);
    let (mut node, mut side) = home(objects, destination);
    if to_all {
        (node, side) = (source_node.clone(), if source_side == Side::Pods { Side::Pods } else { Side::Node });
    }
    let passage = |node: Arc<str>, from, to| Passage {
        node,
        packet: case.packet,
        from,
        to,
        connection: case.connection,
        service: case.service.then(|| match destination {
            IpAddr::V4(_) => [10, 96, 0, 10].into(),
            IpAddr::V6(_) => "fd00:10:96::a".parse().unwrap(),
        }),
        broadcast: case.broadcast,
        hop_limit: case.hop_limit,
    };
    match (source_node, node) {
        (Some(from), Some(to)) if from == to => vec![passage(from, source_side, side)],
        (from, to) => {
            let first = from.map(|node| passage(node, source_side, Side::Beyond));
            let second = to.map(|node| passage(node, Side::Beyond, side));
            first.into_iter().chain(second).collect()
        }
    }
}

/// The passage as the tracer takes it.
pub fn traced(passage: &Passage) -> trace::Packet {
    let interface = |side| match side {
        Side::Pods => Some(Arc::from(BRIDGE)),
        Side::Node => None,
        Side::Beyond => Some(Arc::from("flannel.1")),
    };
    let state = match passage.connection {
        Connection::Invalid => 1,
        Connection::Established => 2,
        Connection::Related => 4,
        Connection::New => 8,
        Connection::Untracked => 64,
    };
    let transport = match passage.packet.transport {
        Transport::Ports { protocol, source, destination } => {
            trace::Transport::Ports { protocol, source, destination }
        }
        Transport::Icmp { protocol, kind, code } => trace::Transport::Icmp { protocol, kind, code },
        Transport::Other(protocol) => trace::Transport::Other(protocol),
    };
    let destination_type = match (passage.broadcast, passage.to) {
        (true, _) => 3,
        (false, Side::Node) => 2,
        (false, _) => 1,
    };
    trace::Packet {
        iif: interface(passage.from),
        oif: interface(passage.to),
        source: passage.packet.source,
        destination: passage.packet.destination,
        original_destination: passage.service,
        hop_limit: passage.hop_limit,
        packet_type: u8::from(passage.broadcast),
        transport,
        conntrack: trace::Conntrack {
            state,
            status: if passage.service.is_some() { 32 } else { 0 },
            reply: false,
        },
        routing: trace::Routing { destination_type, source_routed: true },
    }
}

/// The rules drop a pod's overlay traffic wherever it goes, not to nodes alone: they do not know every node's addresses
/// (docs/state.md).
pub fn overlay(way: &Passage) -> bool {
    let overlay = match way.packet.transport {
        Transport::Ports { protocol: 17, destination, .. } => matches!(destination, 8472 | 4789),
        Transport::Other(protocol) => protocol == 4,
        _ => false,
    };
    way.from == Side::Pods && overlay
}
