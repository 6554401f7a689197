//! Questions asked with real sockets: is this connection answered, refused or left hanging; does this datagram come
//! through.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;

/// How long a packet that must arrive may take: long, for a loaded machine; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a packet that must not arrive is waited for, after a later one has arrived.
pub const GRACE: Duration = Duration::from_millis(150);

/// What became of a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tcp {
    /// It was opened.
    Answered,
    /// It was refused: the packet arrived and nobody listens.
    Refused,
    /// Nothing came back.
    Silent,
}

/// A connection being opened.
pub struct Attempt {
    socket: Socket,
    to: SocketAddr,
}

impl Attempt {
    /// Sends the first packet.
    pub fn start(from: &Namespace, source: Option<IpAddr>, to: SocketAddr) -> Self {
        let socket =
            from.run(|| Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP)).unwrap());
        if let Some(source) = source {
            socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
            Err(error) => panic!("connect to {to}: {error}"),
        }
        Self { socket, to }
    }

    /// What has come of it after at most `patience`.
    pub fn outcome(&self, patience: Duration) -> Tcp {
        let wait = PollTimeout::try_from(patience).unwrap();
        if poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], wait).unwrap() == 0 {
            return Tcp::Silent;
        }
        match self.socket.take_error().unwrap() {
            None => Tcp::Answered,
            Some(error) if error.kind() == ErrorKind::ConnectionRefused => Tcp::Refused,
            Some(error) => panic!("connect to {}: {error}", self.to),
        }
    }

    /// The opened connection.
    pub fn into_stream(self) -> TcpStream {
        self.socket.set_nonblocking(false).unwrap();
        let stream = TcpStream::from(self.socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

/// Listens in the namespace on every address of both families.
pub fn listen(namespace: &Namespace, port: u16) -> TcpListener {
    namespace.run(|| TcpListener::bind(("::", port)).unwrap())
}

/// A number in text that no other packet of this process carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(format!("<selvage {:08x} {:08x}>", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// As payload.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether the bytes carry it.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        bytes.windows(self.0.len()).any(|window| window == self.bytes())
    }
}

/// Sends an echo request and says whether its reply came back in time.
pub fn echo(from: &Namespace, source: Option<IpAddr>, to: IpAddr, patience: Duration) -> bool {
    let (protocol, request) = match to {
        IpAddr::V4(_) => (Protocol::ICMPV4, 8),
        IpAddr::V6(_) => (Protocol::ICMPV6, 128),
    };
    let to = SocketAddr::new(to, 0);
    let socket = from.run(|| Socket::new(Domain::for_address(to), Type::DGRAM, Some(protocol)).unwrap());
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    }
    let token = Token::new();
    let mut message = vec![request, 0, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(token.bytes());
    let socket = UdpSocket::from(socket);
    match socket.send_to(&message, to) {
        Ok(_) => {}
        // The neighbour is not resolved yet, or a rule at the output forbids it.
        Err(error) if [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable].contains(&error.kind()) => {
            return false;
        }
        Err(error) => panic!("echo request to {to}: {error}"),
    }
    receives(&socket, &token, patience)
}

/// Sends a datagram with the token.
pub fn send_udp(from: &Namespace, source: SocketAddr, to: SocketAddr, token: &Token) {
    send_payload(from, source, to, token.bytes());
}

/// Sends a datagram, in fragments where it is too large for a frame.
pub fn send_payload(from: &Namespace, source: SocketAddr, to: SocketAddr, payload: &[u8]) {
    let socket = from.run(|| UdpSocket::bind(source).unwrap());
    socket.set_broadcast(true).unwrap();
    socket.send_to(payload, to).unwrap_or_else(|error| panic!("send to {to}: {error}"));
}

/// Sends a packet of any protocol, headers by the kernel.
pub fn send_raw(from: &Namespace, source: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) {
    let to = SocketAddr::new(to, 0);
    let protocol = Protocol::from(i32::from(protocol));
    let socket = from.run(|| Socket::new(Domain::for_address(to), Type::RAW, Some(protocol)).unwrap());
    socket.bind(&SocketAddr::new(source, 0).into()).unwrap();
    socket.send_to(payload, &to.into()).unwrap_or_else(|error| panic!("send to {to}: {error}"));
}

/// An address with the scope that link-local and multicast destinations need, seen from a pod.
pub fn on_eth0(namespace: &Namespace, address: std::net::Ipv6Addr, port: u16) -> SocketAddr {
    let index = namespace.run(|| nix::net::if_::if_nametoindex("eth0").unwrap());
    SocketAddrV6::new(address, port, 0, index).into()
}

/// Whether a datagram with the token reaches the socket in time; others are skipped.
pub fn receives(socket: &UdpSocket, token: &Token, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let mut buffer = [0; 2048];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        match socket.recv(&mut buffer) {
            Ok(length) if token.is_in(&buffer[..length]) => return true,
            Ok(_) => {}
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {
                return false;
            }
            // An ICMP error for an earlier datagram.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => panic!("receive: {error}"),
        }
    }
}
