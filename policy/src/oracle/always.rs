//! "Whatever the policies say": what becomes of a packet at one node, policies included.
//!
//! "The source's node asks the source's egress, the destination's node the destination's ingress; on one node both, in that
//! order." A packet from one node's pod to another's is therefore two [passages](Passage), and must pass both.

use std::net::IpAddr;
use std::sync::Arc;

use super::verdict::{Direction, Verdict, judge};
use super::{Objects, Packet, Transport, who};
use crate::compiled::EndpointKey;

/// A packet on its way through one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// The node's name.
    pub node: Arc<str>,
    /// What it is, with the addresses that this node sees: another node may have put its own for the source's.
    pub packet: Packet,
    /// Where it comes in.
    pub from: Side,
    /// Where it goes out.
    pub to: Side,
    /// What conntrack calls it.
    pub connection: Connection,
    /// The address it was sent to, where DNAT has put the destination in its place: a Service's.
    pub service: Option<IpAddr>,
    /// It was sent to everybody on the link, by frame or by address.
    pub broadcast: bool,
    /// Its TTL or hop limit, as it comes in.
    pub hop_limit: u8,
}

/// A side of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The pods' side.
    Pods,
    /// The node itself: its processes, and pods on the host network.
    Node,
    /// Everything else: other nodes, and what lies outside.
    Beyond,
}

/// What conntrack calls a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Connection {
    /// The first of a connection.
    New,
    /// Of an open connection.
    Established,
    /// About an open connection, as an ICMP error.
    Related,
    /// Nothing that it understands.
    Invalid,
    /// Not looked at.
    Untracked,
}

/// What becomes of a packet at a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passes without a policy being asked.
    Passes(Because),
    /// It is dropped without a policy being asked, or though they let it go.
    Dropped(Because),
    /// Its ends on this node were asked; the destination only where the source lets it go. With no end here nobody is.
    Judged {
        /// What the source's egress says.
        egress: Option<Verdict>,
        /// What the destination's ingress says.
        ingress: Option<Verdict>,
    },
}

/// Why policies had no say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Because {
    /// Neighbour discovery or MLD.
    NeighbourDiscovery,
    /// A router advertisement or redirect from a pod.
    RouterMessage,
    /// From the pods' side, by an address of no endpoint of this node.
    UnknownSource,
    /// From the pods' side, to many.
    Multicast,
    /// From the pods' side, overlay traffic to a node.
    Overlay,
    /// Established or related.
    OpenConnection,
    /// The node itself sends it.
    FromNode,
    /// A pod to itself through a Service.
    Hairpin,
    /// To the pods' side, to an address of no endpoint of this node.
    UnknownDestination,
}

/// What becomes of the packet at the node.
pub fn passage(objects: &Objects, passage: &Passage) -> Outcome {
    let Passage { packet, from, to, .. } = passage;
    // "IPv6 neighbour discovery and MLD pass."
    if neighbour_discovery(passage) {
        return Outcome::Passes(Because::NeighbourDiscovery);
    }
    let (source, destination) =
        (here(objects, passage, packet.source), here(objects, passage, packet.destination));
    // "Identity is the source address. What comes from the pods' side is dropped before step 1 if ..."
    if *from == Side::Pods {
        // "router advertisement and redirect (134, 137) from a pod are dropped"
        if matches!(icmpv6(packet), Some(134 | 137)) {
            return Outcome::Dropped(Because::RouterMessage);
        }
        // "... its source is no known endpoint of this node (link-local too)"
        if source.is_none() {
            return Outcome::Dropped(Because::UnknownSource);
        }
        // "... its destination is multicast or broadcast": what it was sent to, before DNAT.
        let sent_to = passage.service.unwrap_or(packet.destination);
        if passage.broadcast || sent_to.is_multicast() || sent_to == IpAddr::from([255; 4]) {
            return Outcome::Dropped(Because::Multicast);
        }
        // "... it is overlay traffic to a node (UDP 8472, IPIP)"; UDP 4789 is VXLAN too.
        let to_node = *to == Side::Node
            || objects.nodes.values().any(|node| node.addresses.contains(&packet.destination));
        if overlay(packet.transport) && to_node {
            return Outcome::Dropped(Because::Overlay);
        }
    }
    // Step 1 of the verdict: "A packet of an established or related connection passes. What conntrack calls invalid or
    // untracked is judged like a first packet."
    if matches!(passage.connection, Connection::Established | Connection::Related) {
        return Outcome::Passes(Because::OpenConnection);
    }
    // "A node reaches its own pods", and what it sends to others is their nodes' business.
    if *from == Side::Node {
        return Outcome::Passes(Because::FromNode);
    }
    // "Back to itself through a Service it passes."
    if passage.service.is_some() && *to != Side::Node && source.is_some() && source == destination {
        return Outcome::Passes(Because::Hairpin);
    }
    let egress = source.map(|pod| judge(objects, pod, Direction::Egress, packet));
    if egress.as_ref().is_some_and(|verdict| !verdict.allowed) {
        return Outcome::Judged { egress, ingress: None };
    }
    // To the node itself: "A pod's egress to its own node is judged", and there is no ingress.
    let ingress = match (to, destination) {
        (Side::Node, _) => None,
        (_, Some(pod)) => Some(judge(objects, pod, Direction::Ingress, packet)),
        // "A pod that the node does not know yet is closed, both ways."
        (Side::Pods, None) => return Outcome::Dropped(Because::UnknownDestination),
        (Side::Beyond, None) => None,
    };
    Outcome::Judged { egress, ingress }
}

/// The endpoint of this node that has the address.
fn here<'a>(objects: &'a Objects, passage: &Passage, address: IpAddr) -> Option<&'a EndpointKey> {
    let (key, pod) = who::owner(objects, address)?;
    (pod.node == passage.node).then_some(key)
}

/// ICMPv6 types 133, 135 and 136 with the hop limit of a neighbour (RFC 4861, 6.1 and 7.1), and 130 to 132 and 143 as a host
/// on the link sends them (RFC 3810, 5). What only looks like these, or is routed from one link to another, is judged like
/// anything else.
fn neighbour_discovery(passage: &Passage) -> bool {
    let routed = passage.from != passage.to && passage.from != Side::Node && passage.to != Side::Node;
    let on_link = match passage.packet.source {
        IpAddr::V6(source) => source.is_unicast_link_local() || source.is_unspecified(),
        IpAddr::V4(_) => false,
    };
    match icmpv6(&passage.packet) {
        Some(133 | 135 | 136) => !routed && passage.hop_limit == 255,
        Some(130..=132 | 143) => !routed && passage.hop_limit == 1 && on_link,
        _ => false,
    }
}

fn icmpv6(packet: &Packet) -> Option<u8> {
    match packet.transport {
        Transport::Icmp { protocol: 58, kind, .. } if packet.source.is_ipv6() => Some(kind),
        _ => None,
    }
}

fn overlay(transport: Transport) -> bool {
    match transport {
        Transport::Ports { protocol: 17, destination, .. } => matches!(destination, 8472 | 4789),
        Transport::Other(protocol) => protocol == 4,
        _ => false,
    }
}

impl Outcome {
    /// Whether it gets on.
    pub fn passes(&self) -> bool {
        match self {
            Self::Passes(_) => true,
            Self::Dropped(_) => false,
            Self::Judged { egress, ingress } => {
                [egress, ingress].into_iter().flatten().all(|verdict| verdict.allowed)
            }
        }
    }
}
