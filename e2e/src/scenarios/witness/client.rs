//! The sending ends. Each runs on a thread of its own in its pod's network namespace.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::flow::{Kind, Log};
use super::packet::{self, Word, icmp_socket};
use super::{TCP, UDP};

/// How long an answer is waited for before the packet is lost: far above the pauses of a loaded machine. Nothing here
/// is sent twice.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a word of the open connection may go unanswered: TCP sends it again by itself.
const CUT: Duration = Duration::from_secs(20);
/// TCP sends the first packet of a connection again after a second (RFC 6298, section 2): a connection that took
/// longer lost one.
const SENT_AGAIN: Duration = Duration::from_secs(1);
/// How long a denied connection is tried: less than a second, so that each attempt is one packet.
const IN_VAIN: Duration = Duration::from_millis(250);
/// How long a read waits before it looks whether to stop.
const TICK: Duration = Duration::from_millis(50);

/// What one sending end works with.
pub struct Client<'a> {
    /// The flow's place in the list.
    pub id: u16,
    /// Where fates are kept.
    pub log: &'a Log,
    /// The other end.
    pub to: IpAddr,
    /// Set to end it.
    pub stop: &'a AtomicBool,
}

impl Client<'_> {
    /// Sends until it is told to stop.
    ///
    /// # Errors
    /// Where a socket can't be had; what happens to packets is no error.
    pub fn run(&self) -> io::Result<()> {
        let flow = self.log.flow;
        match (flow.kind, flow.allowed) {
            (Kind::Talk, _) => self.again(Duration::from_millis(100), || self.talk()),
            (Kind::NewTcp, true) => self.again(Duration::from_millis(100), || self.connection()),
            (Kind::NewTcp, false) => self.again(TICK, || self.connection_in_vain()),
            (Kind::Udp, true) => {
                let socket = self.udp()?;
                self.again(Duration::from_millis(20), || self.ask(&socket))
            }
            (Kind::Udp, false) => {
                let socket = self.udp()?;
                self.again(Duration::from_millis(10), || self.send(&socket))
            }
            (Kind::NewUdp, true) => self.again(TICK, || self.ask(&self.udp()?)),
            (Kind::NewUdp, false) => self.again(TICK, || self.send(&self.udp()?)),
            (Kind::Ping, true) => {
                let socket = self.icmp()?;
                self.again(TICK, || self.ask(&socket))
            }
            (Kind::Ping, false) => {
                let socket = self.icmp()?;
                self.again(TICK, || self.send(&socket))
            }
        }
    }

    fn again(&self, pause: Duration, mut work: impl FnMut() -> io::Result<()>) -> io::Result<()> {
        while !self.stopped() {
            work()?;
            thread::sleep(pause);
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn word(&self, number: u64) -> Word {
        Word { flow: self.id, number }
    }

    fn udp(&self) -> io::Result<UdpSocket> {
        let any: IpAddr =
            if self.to.is_ipv6() { std::net::Ipv6Addr::UNSPECIFIED.into() } else { [0, 0, 0, 0].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(TICK))?;
        socket.connect((self.to, UDP))?;
        Ok(socket)
    }

    fn icmp(&self) -> io::Result<UdpSocket> {
        let socket = icmp_socket(self.to.is_ipv6(), Some(self.to))?;
        socket.set_read_timeout(Some(TICK))?;
        Ok(socket)
    }

    fn put(&self, socket: &UdpSocket, number: u64) -> io::Result<usize> {
        let word = self.word(number);
        match self.log.flow.kind {
            Kind::Ping => {
                // A denied one is judged anew each time, also after one that passed and was answered.
                let [.., high, low] = number.to_be_bytes();
                let identifier =
                    if self.log.flow.allowed { self.id } else { u16::from_be_bytes([high, low]) };
                socket.send(&word.echo_request(self.to.is_ipv6(), identifier))
            }
            _ => socket.send(&word.bytes()),
        }
    }

    /// One that nobody answers: whoever receives it says that it passed.
    fn send(&self, socket: &UdpSocket) -> io::Result<()> {
        let number = self.log.send();
        // One that does not even leave has not passed.
        self.put(socket, number).ok();
        Ok(())
    }

    /// One that is answered.
    fn ask(&self, socket: &UdpSocket) -> io::Result<()> {
        let number = self.log.send();
        if let Err(error) = self.put(socket, number) {
            self.log.lost(number, format_args!("sending: {error}"));
            return Ok(());
        }
        let start = Instant::now();
        let mut buffer = [0; 256];
        while start.elapsed() < PATIENCE && !self.stopped() {
            let answer = match socket.recv(&mut buffer) {
                Ok(length) => self.read(buffer.get(..length).unwrap_or_default()),
                Err(error) if is_pause(&error) => None,
                // A router or the other end says that it can't be reached.
                Err(error) => {
                    self.log.lost(number, error);
                    return Ok(());
                }
            };
            let Some(word) = answer.filter(|word| word.flow == self.id) else { continue };
            self.log.passed(word.number);
            if word.number == number {
                return Ok(());
            }
        }
        if !self.stopped() {
            self.log.lost(number, "no answer");
        }
        Ok(())
    }

    fn read(&self, packet: &[u8]) -> Option<Word> {
        match self.log.flow.kind {
            Kind::Ping => Word::in_echo(packet, self.to.is_ipv6(), true),
            _ => Word::parse(packet),
        }
    }

    /// One connection with a word and its answer.
    fn connection(&self) -> io::Result<()> {
        let number = self.log.send();
        let start = Instant::now();
        let stream = match TcpStream::connect_timeout(&SocketAddr::new(self.to, TCP), CUT) {
            Ok(stream) => stream,
            Err(error) => {
                self.log.lost(number, format_args!("connecting: {error}"));
                return Ok(());
            }
        };
        let took = start.elapsed();
        match self.say(&stream, number) {
            Ok(()) if took >= SENT_AGAIN => {
                self.log
                    .lost(number, format_args!("its first packet: connected after {} ms", took.as_millis()));
            }
            Ok(()) => self.log.passed(number),
            Err(error) => self.unless_stopped(number, &error),
        }
        Ok(())
    }

    fn connection_in_vain(&self) -> io::Result<()> {
        let number = self.log.send();
        match TcpStream::connect_timeout(&SocketAddr::new(self.to, TCP), IN_VAIN) {
            Ok(_) => self.log.passed(number),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => self.log.passed(number),
            // Silence, or a node that can't be reached: it has not passed.
            Err(_) => {}
        }
        Ok(())
    }

    /// One connection for as long as it stands. One that is cut is made anew.
    fn talk(&self) -> io::Result<()> {
        let number = self.log.send();
        let stream = match TcpStream::connect_timeout(&SocketAddr::new(self.to, TCP), CUT) {
            Ok(stream) => stream,
            Err(error) => {
                self.log.lost(number, format_args!("connecting: {error}"));
                return Ok(());
            }
        };
        self.log.passed(number);
        stream.set_nodelay(true)?;
        while !self.stopped() {
            let number = self.log.send();
            if let Err(error) = self.say(&stream, number) {
                self.unless_stopped(number, &error);
                return Ok(());
            }
            self.log.passed(number);
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// A word and its answer.
    fn say(&self, mut stream: &TcpStream, number: u64) -> io::Result<()> {
        let word = self.word(number).bytes();
        stream.set_read_timeout(Some(TICK))?;
        stream.write_all(&word)?;
        let mut answer = [0; packet::LENGTH];
        let (mut read, start) = (0, Instant::now());
        while let Some(rest) = answer.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match stream.read(rest) {
                Ok(0) => return Err(io::Error::other("the other end closed the connection")),
                Ok(length) => read += length,
                Err(error) if is_pause(&error) => {
                    if self.stopped() || start.elapsed() >= CUT {
                        return Err(io::Error::other("no answer"));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        if answer == word { Ok(()) } else { Err(io::Error::other("another word came back")) }
    }

    fn unless_stopped(&self, number: u64, error: &io::Error) {
        if !self.stopped() {
            self.log.lost(number, error);
        }
    }
}

/// True where a read came to the end of its time.
pub fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
