//! A packet as the tracer sees it: what is in its headers, where it comes from and goes, what conntrack knows.

use std::net::IpAddr;
use std::sync::Arc;

use crate::model::Hook;

/// A packet on its way through a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// The interface it came in by (for bridged packets the bridge); None: the node itself sends it.
    pub iif: Option<Arc<str>>,
    /// The interface it leaves by; None: it is for the node itself.
    pub oif: Option<Arc<str>>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address, after DNAT.
    pub destination: IpAddr,
    /// Destination address before DNAT, where there was one; prerouting at raw priority sees it.
    pub original_destination: Option<IpAddr>,
    /// TTL or hop limit as it came in.
    pub hop_limit: u8,
    /// PACKET_HOST 0, PACKET_BROADCAST 1, PACKET_MULTICAST 2.
    pub packet_type: u8,
    /// Transport header.
    pub transport: Transport,
    /// What conntrack says of it.
    pub conntrack: Conntrack,
    /// What the routing table says of its addresses.
    pub routing: Routing,
}

/// The transport header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A protocol with ports: TCP, UDP, SCTP.
    Ports {
        /// IANA number.
        protocol: u8,
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP (1) or ICMPv6 (58).
    Icmp {
        /// 1 or 58.
        protocol: u8,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// Any other protocol; the bytes after the network header are all zero.
    Other(u8),
}

/// Conntrack's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    /// One of the state bits: invalid 1, established 2, related 4, new 8, untracked 64.
    pub state: u32,
    /// `IPS_*` bits.
    pub status: u32,
    /// A packet of the reply direction.
    pub reply: bool,
}

/// The routing table's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// RTN_* of the destination: 1 unicast, 2 local, 3 broadcast.
    pub destination_type: u32,
    /// Whether the source is routed to the interface that the packet came in by.
    pub source_routed: bool,
}

impl Packet {
    /// A new connection's first packet, forwarded from one interface to another.
    pub fn new(iif: &str, oif: &str, source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        Self {
            iif: Some(iif.into()),
            oif: Some(oif.into()),
            source,
            destination,
            original_destination: None,
            hop_limit: 64,
            packet_type: 0,
            transport,
            conntrack: Conntrack { state: 8, status: 0, reply: false },
            routing: Routing { destination_type: 1, source_routed: true },
        }
    }

    /// The same packet, for the node itself.
    pub fn to_node(self) -> Self {
        Self { oif: None, routing: Routing { destination_type: 2, ..self.routing }, ..self }
    }

    /// The hooks it passes, in order.
    pub(super) fn hooks(&self) -> &'static [Hook] {
        match (&self.iif, &self.oif) {
            (Some(_), Some(_)) => &[Hook::Prerouting, Hook::Forward, Hook::Postrouting],
            (Some(_), None) => &[Hook::Prerouting, Hook::Input],
            (None, _) => &[Hook::Output, Hook::Postrouting],
        }
    }

    pub(super) fn nfproto(&self) -> u8 {
        match self.destination {
            IpAddr::V4(_) => 2,
            IpAddr::V6(_) => 10,
        }
    }

    /// The IPv4 or IPv6 header, without options, as the hook sees it: routing takes one hop before the forward hook,
    /// a bridge takes none.
    pub(super) fn network_header(&self, hook: Hook) -> Vec<u8> {
        let routed = self.iif != self.oif && matches!(hook, Hook::Forward | Hook::Postrouting);
        let hop_limit = self.hop_limit.saturating_sub(u8::from(routed && self.iif.is_some()));
        let destination = match (hook, self.original_destination) {
            (Hook::Prerouting, Some(original)) => original,
            _ => self.destination,
        };
        let protocol = self.transport.protocol();
        match (self.source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, hop_limit, protocol, 0, 0];
                header.extend(source.octets());
                header.extend(destination.octets());
                header
            }
            (source, destination) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 8, protocol, hop_limit];
                header.extend(v6(source).octets());
                header.extend(v6(destination).octets());
                header
            }
        }
    }
}

fn v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(a) => a.to_ipv6_mapped(),
        IpAddr::V6(a) => a,
    }
}

impl Transport {
    pub(super) fn protocol(self) -> u8 {
        match self {
            Self::Ports { protocol, .. } | Self::Icmp { protocol, .. } | Self::Other(protocol) => protocol,
        }
    }

    pub(super) fn header(self) -> Vec<u8> {
        let mut header = match self {
            Self::Ports { source, destination, .. } => {
                [source.to_be_bytes(), destination.to_be_bytes()].concat()
            }
            Self::Icmp { kind, code, .. } => vec![kind, code],
            Self::Other(_) => Vec::new(),
        };
        header.resize(8, 0);
        header
    }
}

impl Routing {
    /// A fib expression's result: an address type, or an interface index that is 0 for none.
    pub(super) fn fib(self, flags: u32, result: u32) -> u32 {
        match (flags & 1 != 0, result) {
            (false, 3) => self.destination_type,
            (true, 1) => u32::from(self.source_routed),
            _ => 0,
        }
    }
}
