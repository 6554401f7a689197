//! A netlink socket for netfilter.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::encode;
use super::error::ReadError;
use super::wire::{MESSAGE_HEADER, Malformed, Message, attributes, messages};

/// A dump comes in datagrams of at most 32 KiB; an error message may repeat the request.
const RECEIVE_BYTES: usize = 256 * 1024;
/// Room for the errors of a batch in which everything is wrong: about 1 KiB of kernel memory each.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// Send buffer to begin with; batches that need more get it.
const SEND_BUFFER: usize = 1024 * 1024;
/// The kernel answers at once; a longer silence is an error and not a hang.
const RECEIVE_TIMEOUT_SECONDS: i64 = 30;
/// How often a dump that others' changes interrupt is started again.
const DUMP_ATTEMPTS: usize = 20;

/// Attributes of extended acks (`NLMSGERR_ATTR_MSG`).
const ERROR_TEXT: u16 = 1;
/// `NLM_F_CAPPED`: the error does not repeat the request.
const FLAG_CAPPED: u16 = 0x100;
/// `NLM_F_ACK_TLVS`: attributes follow the error.
const FLAG_ATTRIBUTES: u16 = 0x200;

/// A bound socket with buffers that grow to what is sent.
#[derive(Debug)]
pub(super) struct NetfilterSocket {
    socket: Socket,
    port: u32,
    sequence: u32,
    send_buffer: usize,
    buffer: Vec<u8>,
}

/// The kernel's answer to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which message.
    pub sequence: u32,
    /// The error number, 0 for an acknowledgement.
    pub errno: i32,
    /// What the kernel says about it.
    pub text: Option<String>,
}

impl NetfilterSocket {
    /// Opens a socket. Needs CAP_NET_ADMIN for its buffers.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        let port = socket.bind_auto()?.port_number();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(RECEIVE_TIMEOUT_SECONDS))?;
        Ok(Self { socket, port, sequence: 0, send_buffer: SEND_BUFFER, buffer: Vec::new() })
    }

    /// The socket's port, by which the kernel names who changed something.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Joins a multicast group.
    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    /// The sequence number for the next message; `used` are taken.
    pub fn sequence(&mut self, used: u32) -> u32 {
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(used);
        first
    }

    /// Sends one datagram, however large.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.send_buffer {
            let room = bytes.len().next_multiple_of(SEND_BUFFER);
            setsockopt(&self.socket, sockopt::SndBufForce, &room)?;
            self.send_buffer = room;
        }
        let kernel = SocketAddr::new(0, 0);
        let sent = uninterrupted(|| self.socket.send_to(bytes, &kernel, 0))?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next datagram; None when there is none (and `wait` is false).
    pub fn receive(&mut self, wait: bool) -> io::Result<Option<&[u8]>> {
        let flags = if wait { 0 } else { nix::libc::MSG_DONTWAIT };
        self.buffer.clear();
        self.buffer.reserve(RECEIVE_BYTES);
        let socket = &self.socket;
        let buffer = &mut self.buffer;
        match uninterrupted(|| socket.recv(buffer, flags)) {
            Ok(_) => Ok(Some(&self.buffer)),
            Err(error) if !wait && error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every answer that is queued. The kernel queues all of them before `send` returns; the flag says whether some
    /// were lost for want of room.
    pub fn answers(&mut self) -> io::Result<(Vec<Answer>, bool)> {
        let (mut answers, mut lost) = (Vec::new(), false);
        loop {
            match self.receive(false) {
                Ok(None) => return Ok((answers, lost)),
                Ok(Some(datagram)) => {
                    for message in messages(datagram) {
                        match message {
                            Ok(message) => answers.extend(answer(&message)),
                            Err(_) => lost = true,
                        }
                    }
                }
                Err(error) if is_overflow(&error) => lost = true,
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks, and gives every message of the reply to `each`, from the start again (after `restart`) where the reply
    /// was inconsistent because something changed meanwhile.
    pub fn dump<S>(
        &mut self,
        flags: u16,
        request: &NetfilterMessage,
        state: &mut S,
        restart: impl Fn(&mut S),
        each: impl Fn(&mut S, &Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), ReadError> {
        for _ in 0..DUMP_ATTEMPTS {
            restart(state);
            match self.dump_once(flags, request, &mut |message| each(state, message)) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(ReadError::Socket(error)) if is_overflow(&error) => {}
                Err(ReadError::Refused(errno)) if errno == nix::libc::EINTR => {}
                Err(error) => return Err(error),
            }
        }
        Err(ReadError::Unsteady(DUMP_ATTEMPTS))
    }

    /// False when the reply was interrupted by a change.
    fn dump_once(
        &mut self,
        flags: u16,
        request: &NetfilterMessage,
        each: &mut dyn FnMut(&Message<'_>) -> Result<(), Malformed>,
    ) -> Result<bool, ReadError> {
        let sequence = self.sequence(1);
        let mut bytes = Vec::new();
        encode::append(&mut bytes, flags, sequence, request.clone())
            .map_err(|error| Malformed::new(error.to_string()))?;
        self.send(&bytes)?;
        let mut steady = true;
        let mut read = Ok(());
        loop {
            let Some(datagram) = self.receive(true)? else { continue };
            for message in messages(datagram) {
                let message = match message {
                    // What is left of an earlier request that failed half-way.
                    Ok(message) if message.sequence != sequence => continue,
                    Ok(message) => message,
                    Err(error) => {
                        read = read.and(Err(error));
                        break;
                    }
                };
                steady &= message.flags & NLM_F_DUMP_INTR == 0;
                // The reply is taken to its end even where it can't be read: the kernel starts no other before.
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match error_number(message.payload).unwrap_or(0) {
                            0 => Ok(read.map(|()| steady)?),
                            errno => Err(ReadError::Refused(errno)),
                        };
                    }
                    _ if read.is_ok() => read = each(&message),
                    _ => {}
                }
            }
        }
    }
}

impl AsFd for NetfilterSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for NetfilterSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// True where the kernel had more to say than the receive buffer holds.
pub(super) fn is_overflow(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ENOBUFS)
}

fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The positive error number at the start of NLMSG_ERROR's and NLMSG_DONE's payload.
fn error_number(payload: &[u8]) -> Option<i32> {
    let number = i32::from_ne_bytes(*payload.first_chunk()?);
    Some(number.checked_neg().unwrap_or(i32::MAX))
}

/// The acknowledgement or error that a message is, if it is one.
pub(super) fn answer(message: &Message<'_>) -> Option<Answer> {
    if message.kind != NLMSG_ERROR {
        return None;
    }
    let errno = error_number(message.payload)?;
    Some(Answer { sequence: message.sequence, errno, text: extended_text(message) })
}

/// The text of an extended ack (`NLMSGERR_ATTR_MSG`). The attributes follow the request that failed: its header
/// alone where the kernel says that it left out the rest.
fn extended_text(message: &Message<'_>) -> Option<String> {
    if message.flags & FLAG_ATTRIBUTES == 0 {
        return None;
    }
    let request = message.payload.get(4..)?;
    let length = if message.flags & FLAG_CAPPED != 0 {
        MESSAGE_HEADER
    } else {
        usize::try_from(u32::from_ne_bytes(*request.first_chunk()?)).ok()?.next_multiple_of(4)
    };
    let text = attributes(request.get(length..)?).flatten().find(|a| a.kind == ERROR_TEXT)?.value;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into_owned())
}
