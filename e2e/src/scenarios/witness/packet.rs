//! What the witness' packets hold.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Which packet of which flow it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The flow, by its place in the list.
    pub flow: u16,
    /// The packet's number in it.
    pub number: u64,
}

/// Bytes of a word.
pub const LENGTH: usize = 10;
/// What the payload of an echo begins with.
const MAGIC: &[u8] = b"selvage";
/// Bytes of an ICMP header: type, code, checksum, identifier, sequence number (RFC 792, RFC 4443 section 4.1).
const HEADER: usize = 8;

impl Word {
    pub fn bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (flow, number) = bytes.split_at_mut(2);
        flow.copy_from_slice(&self.flow.to_be_bytes());
        number.copy_from_slice(&self.number.to_be_bytes());
        bytes
    }

    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (flow, rest) = bytes.split_first_chunk::<2>()?;
        let (number, _) = rest.split_first_chunk::<8>()?;
        Some(Self { flow: u16::from_be_bytes(*flow), number: u64::from_be_bytes(*number) })
    }

    /// An echo request that holds it. The identifier is what makes echoes one connection for conntrack.
    pub fn echo_request(self, ipv6: bool, identifier: u16) -> Vec<u8> {
        let mut packet = vec![if ipv6 { 128 } else { 8 }, 0, 0, 0];
        packet.extend(identifier.to_be_bytes());
        packet.extend(&self.number.to_be_bytes()[6..]);
        packet.extend(MAGIC);
        packet.extend(self.bytes());
        if !ipv6 {
            // The kernel does this for ICMPv6 alone.
            let sum = checksum(&packet);
            packet[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        packet
    }

    /// The word in an echo request (or, with `answer`, in an echo reply), as a raw socket delivers it: ICMP with the
    /// IP header before it, ICMPv6 without.
    pub fn in_echo(packet: &[u8], ipv6: bool, answer: bool) -> Option<Self> {
        let skipped = if ipv6 { 0 } else { usize::from(packet.first()? & 0x0f) * 4 };
        let icmp = packet.get(skipped..)?;
        let kind = match (ipv6, answer) {
            (false, false) => 8,
            (false, true) => 0,
            (true, false) => 128,
            (true, true) => 129,
        };
        let word = Self::parse(icmp.get(HEADER..)?.strip_prefix(MAGIC)?)?;
        (*icmp.first()? == kind).then_some(word)
    }
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// A raw ICMP or ICMPv6 socket in this thread's network namespace; with a peer it hears that one alone.
pub fn icmp_socket(ipv6: bool, peer: Option<IpAddr>) -> io::Result<UdpSocket> {
    let (domain, protocol) =
        if ipv6 { (Domain::IPV6, Protocol::ICMPV6) } else { (Domain::IPV4, Protocol::ICMPV4) };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    if let Some(peer) = peer {
        socket.connect(&SockAddr::from(SocketAddr::new(peer, 0)))?;
    }
    // A UdpSocket is a datagram socket with send and receive, whatever its protocol.
    Ok(socket.into())
}
