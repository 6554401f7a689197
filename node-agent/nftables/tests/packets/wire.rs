//! Frames put on the wire and taken off it by packet sockets, below any rule: what a pod that lies would send, and
//! what truly reaches an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader,
    TransportSlice,
};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto, socket,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::bed::Mac;
use crate::netns::Namespace;
use crate::probe::Token;

/// Sends and sees whole frames on one interface.
pub struct Wire {
    socket: OwnedFd,
    interface: LinkAddr,
}

/// A packet socket's name for packets that the host itself sends (`PACKET_OUTGOING` of linux/if_packet.h).
const OUTGOING: u8 = 4;

impl Wire {
    /// Attaches to an interface; frames that arrive from now on are kept until asked for.
    pub fn attach(namespace: &Namespace, interface: &str) -> Self {
        namespace.run(|| {
            let interface = getifaddrs()
                .unwrap()
                .filter(|entry| entry.interface_name == interface)
                .find_map(|entry| entry.address?.as_link_addr().copied())
                .unwrap_or_else(|| panic!("no interface {interface}"));
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
            .expect("prerequisite missing: packet sockets");
            bind(socket.as_raw_fd(), &interface).unwrap();
            Self { socket, interface }
        })
    }

    /// Puts a frame on the wire.
    pub fn send(&self, frame: &[u8]) {
        let sent = sendto(self.socket.as_raw_fd(), frame, &self.interface, MsgFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }

    /// Whether a frame with the token arrives in time; others are forgotten.
    pub fn sees(&self, token: &Token, patience: Duration) -> bool {
        self.finds(patience, |frame| token.is_in(frame))
    }

    /// Whether a frame for which `wanted` holds arrives in time; others are forgotten.
    pub fn finds(&self, patience: Duration, mut wanted: impl FnMut(&[u8]) -> bool) -> bool {
        let mut buffer = vec![0; 70_000];
        wait_for(&self.socket, patience, || {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let outgoing = from.is_some_and(|from| from.pkttype() == OUTGOING);
                    Some(!outgoing && wanted(&buffer[..length]))
                }
                Err(Errno::EAGAIN) => None,
                Err(error) => panic!("packet socket: {error}"),
            }
        })
    }
}

/// What a host's own stack takes in for one IP protocol, after all its rules.
pub struct RawInbox {
    socket: Socket,
}

impl RawInbox {
    /// Listens for the protocol in one family.
    pub fn open(namespace: &Namespace, domain: Domain, protocol: u8) -> Self {
        let socket = namespace
            .run(|| Socket::new(domain, Type::RAW, Some(Protocol::from(i32::from(protocol)))).unwrap());
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    /// Whether a packet with the token arrives in time; others are forgotten.
    pub fn sees(&self, token: &Token, patience: Duration) -> bool {
        use std::io::{ErrorKind, Read};
        let mut buffer = vec![0; 70_000];
        wait_for(&self.socket, patience, || match (&self.socket).read(&mut buffer) {
            Ok(length) => Some(token.is_in(&buffer[..length])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("raw socket: {error}"),
        })
    }
}

/// Waits until `take` finds what is wanted (`Some(true)`); it is asked again at once for `Some(false)`, and when the
/// socket is readable for None.
fn wait_for(
    socket: &impl std::os::fd::AsFd,
    patience: Duration,
    mut take: impl FnMut() -> Option<bool>,
) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        match take() {
            Some(true) => return true,
            Some(false) => continue,
            None => {}
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let wait = PollTimeout::try_from(left.min(Duration::from_secs(60))).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], wait) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// The addresses of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub from_mac: Mac,
    pub to_mac: Mac,
    pub from: IpAddr,
    pub to: IpAddr,
}

/// Everybody on the link.
pub const BROADCAST_MAC: Mac = Mac([0xff; 6]);

/// The MAC address of a multicast group.
pub fn multicast_mac(group: IpAddr) -> Mac {
    match group {
        IpAddr::V4(group) => {
            let [_, b, c, d] = group.octets();
            Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(group) => {
            let [.., a, b, c, d] = group.octets();
            Mac([0x33, 0x33, a, b, c, d])
        }
    }
}

/// A packet of any protocol.
pub fn packet(route: Route, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    headers(route).write(&mut frame, IpNumber(protocol), payload).unwrap();
    frame
}

/// A UDP datagram.
pub fn udp(route: Route, from_port: u16, to_port: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    headers(route).udp(from_port, to_port).write(&mut frame, payload).unwrap();
    frame
}

/// An ICMP message, or an ICMPv6 one between IPv6 addresses; the identifier tells echo requests apart.
pub fn icmp(route: Route, kind: u8, code: u8, identifier: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = identifier.to_be_bytes();
    let (head, mut frame) = ([high, low, 0, 1], Vec::new());
    let builder = headers(route);
    match route.from {
        IpAddr::V4(_) => builder.icmpv4_raw(kind, code, head).write(&mut frame, payload).unwrap(),
        IpAddr::V6(_) => builder.icmpv6_raw(kind, code, head).write(&mut frame, payload).unwrap(),
    }
    frame
}

/// A TCP segment with the flags SYN, ACK and FIN.
pub fn tcp(route: Route, from_port: u16, to_port: u16, flags: [bool; 3], payload: &[u8]) -> Vec<u8> {
    let [syn, ack, fin] = flags;
    let mut header = TcpHeader::new(from_port, to_port, 1, 1024);
    (header.syn, header.ack, header.fin) = (syn, ack, fin);
    let mut frame = Vec::new();
    headers(route).tcp_header(header).write(&mut frame, payload).unwrap();
    frame
}

/// The TCP segment that an open connection would take next, after this frame of it.
pub fn next_segment(route: Route, frame: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let before = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = before.transport else { return None };
    let length = u32::try_from(tcp.payload().len()).unwrap();
    let mut header =
        TcpHeader::new(tcp.source_port(), tcp.destination_port(), tcp.sequence_number() + length, 1024);
    (header.ack, header.psh, header.acknowledgment_number) = (true, true, tcp.acknowledgment_number());
    let mut next = Vec::new();
    headers(route).tcp_header(header).write(&mut next, payload).unwrap();
    Some(next)
}

fn headers(route: Route) -> PacketBuilderStep<IpHeaders> {
    let Route { from_mac, to_mac, from, to } = route;
    let builder = PacketBuilder::ethernet2(from_mac.0, to_mac.0);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("{from} and {to} are of different families"),
    }
}

/// An ICMPv6 message with hop limit 255, as neighbour discovery demands.
pub fn icmpv6(from_mac: Mac, to_mac: Mac, from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let (head, rest) = body.split_at(4);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from_mac.0, to_mac.0)
        .ipv6(from.octets(), to.octets(), 255)
        .icmpv6_raw(kind, 0, head.try_into().unwrap())
        .write(&mut frame, rest)
        .unwrap();
    frame
}

/// An ARP packet between Ethernet and IPv4 (RFC 826); 1 asks, 2 answers.
pub fn arp(
    from_mac: Mac,
    to_mac: Mac,
    operation: u8,
    sender: (Mac, Ipv4Addr),
    target: (Mac, Ipv4Addr),
) -> Vec<u8> {
    let ends = [sender, target].map(|(mac, address)| [&mac.0[..], &address.octets()].concat()).concat();
    [&to_mac.0[..], &from_mac.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &ends].concat()
}

/// A neighbour advertisement that nobody asked for and that overrides what is known (RFC 4861, 4.4).
pub fn advertisement(
    from_mac: Mac,
    to_mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    claim: (Ipv6Addr, Mac),
) -> Vec<u8> {
    let (target, mac) = claim;
    let body = [&[0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac.0].concat();
    icmpv6(from_mac, to_mac, from, to, 136, &body)
}

/// A neighbour solicitation; from `::` it asks whether the target is taken, and names no MAC address (RFC 4861, 4.3).
pub fn solicitation(
    from_mac: Mac,
    to_mac: Mac,
    from: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
    own: Option<Mac>,
) -> Vec<u8> {
    let option = own.map_or_else(Vec::new, |mac| [&[1, 1][..], &mac.0].concat());
    icmpv6(from_mac, to_mac, from, to, 135, &[&[0; 4][..], &target.octets(), &option].concat())
}

/// An IPv4 packet inside an IPv4 packet (protocol 4).
pub fn ipip(route: Route, inner_from: Ipv4Addr, inner_to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let header = Ipv4Header::new(length, 64, IpNumber(253), inner_from.octets(), inner_to.octets()).unwrap();
    packet(route, IpNumber::IPV4.0, &[header.to_bytes().as_slice(), payload].concat())
}

/// The SCTP message that opens an association (RFC 9260: INIT with verification tag 0), the token in a parameter that
/// receivers skip.
pub fn sctp_init(from_port: u16, to_port: u16, token: &Token) -> Vec<u8> {
    let mut value = token.bytes().to_vec();
    value.resize(value.len().next_multiple_of(4), 0);
    let parameter = [&0x8042_u16.to_be_bytes()[..], &(4 + length(&value)).to_be_bytes(), &value].concat();
    // Initiate tag, window, outbound and inbound streams, initial TSN.
    let init = [
        &1_u32.to_be_bytes()[..],
        &65_536_u32.to_be_bytes(),
        &1_u16.to_be_bytes(),
        &1_u16.to_be_bytes(),
        &1_u32.to_be_bytes(),
        &parameter,
    ]
    .concat();
    let chunk = [&[1, 0][..], &(4 + length(&init)).to_be_bytes(), &init].concat();
    let mut message =
        [&from_port.to_be_bytes()[..], &to_port.to_be_bytes(), &[0; 4], &[0; 4], &chunk].concat();
    let checksum = crc32c(&message);
    message[8..12].copy_from_slice(&checksum.to_le_bytes());
    message
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap()
}

/// CRC-32C (Castagnoli), reflected, as SCTP's checksum.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
    })
}
