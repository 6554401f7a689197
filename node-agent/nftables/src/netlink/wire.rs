//! Checked reading of netlink messages and attributes.
//!
//! Every length is checked and nothing here can panic: the bytes come from the kernel, but also from whoever else
//! writes into a table.

use netlink_packet_core::{NLA_HEADER_SIZE, NLA_TYPE_MASK, NetlinkBuffer, NlasIterator};

/// Bytes of `struct nlmsghdr`.
pub(super) const MESSAGE_HEADER: usize = 16;
/// Bytes of `struct nfgenmsg`, the header of every nfnetlink message.
pub(super) const NFGENMSG: usize = 4;

/// What was received is not what the kernel's headers promise, or not what this reader knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub(super) String);

impl Malformed {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

/// One netlink message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    /// For nfnetlink: subsystem << 8 | message.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// The port of the socket that caused it.
    pub port: u32,
    /// What follows the header, nfgenmsg included.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes' bytes of an nfnetlink message.
    pub fn attributes(&self) -> Result<&'a [u8], Malformed> {
        self.payload.get(NFGENMSG..).ok_or_else(|| Malformed::new("a message without its nfgenmsg header"))
    }

    /// The address family of an nfnetlink message.
    pub fn family(&self) -> Option<u8> {
        self.payload.first().copied()
    }
}

/// The messages of one datagram. Ends after the first malformed one.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        match first_message(rest) {
            Some((message, length)) => {
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                Some(Ok(message))
            }
            None => {
                rest = &[];
                Some(Err(Malformed::new("a netlink message that does not fit its datagram")))
            }
        }
    })
}

fn first_message(bytes: &[u8]) -> Option<(Message<'_>, usize)> {
    let header = NetlinkBuffer::new_checked(bytes).ok()?;
    let length = usize::try_from(header.length()).ok()?;
    let message = Message {
        kind: header.message_type(),
        flags: header.flags(),
        sequence: header.sequence_number(),
        port: header.port_number(),
        payload: bytes.get(MESSAGE_HEADER..length)?,
    };
    Some((message, length))
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<'a> {
    /// Its number, without the flag bits.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

/// The attributes in a run of bytes. Ends after the first malformed one.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    NlasIterator::new(bytes).map(|attribute| {
        let attribute =
            attribute.map_err(|e| Malformed::new(format!("an attribute that does not fit: {e}")))?;
        let (kind, length) = (attribute.kind() & NLA_TYPE_MASK, usize::from(attribute.length()));
        let value = attribute.into_inner().get(NLA_HEADER_SIZE..length);
        Ok(Attribute { kind, value: value.ok_or_else(|| Malformed::new("an attribute that does not fit"))? })
    })
}

/// The values of these attributes, by position. Any other attribute is an error: what this reader does not know may
/// change what the object means.
pub(super) fn exactly<'a, const N: usize>(
    bytes: &'a [u8],
    what: &str,
    known: [u16; N],
) -> Result<[Option<&'a [u8]>; N], Malformed> {
    let mut values = [None; N];
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        let slot = known.iter().position(|kind| *kind == attribute.kind).and_then(|i| values.get_mut(i));
        *slot.ok_or_else(|| Malformed::new(format!("unknown attribute {} of {what}", attribute.kind)))? =
            Some(attribute.value);
    }
    Ok(values)
}

/// The values of these attributes, by position; others are passed over.
pub(super) fn among<const N: usize>(bytes: &[u8], wanted: [u16; N]) -> Result<[Option<&[u8]>; N], Malformed> {
    let mut values = [None; N];
    for attribute in attributes(bytes) {
        let attribute = attribute?;
        if let Some(slot) =
            wanted.iter().position(|kind| *kind == attribute.kind).and_then(|i| values.get_mut(i))
        {
            *slot = Some(attribute.value);
        }
    }
    Ok(values)
}

/// A value that must be there.
pub(super) fn required<'a>(value: Option<&'a [u8]>, what: &str) -> Result<&'a [u8], Malformed> {
    value.ok_or_else(|| Malformed::new(format!("{what} is missing")))
}

/// A 16-bit number in network byte order that must be there.
pub(super) fn be16(value: Option<&[u8]>, what: &str) -> Result<u16, Malformed> {
    fixed(value, what).map(u16::from_be_bytes)
}

/// A 32-bit number in network byte order that must be there.
pub(super) fn be32(value: Option<&[u8]>, what: &str) -> Result<u32, Malformed> {
    fixed(value, what).map(u32::from_be_bytes)
}

/// A 32-bit number in network byte order, where it is there.
pub(super) fn optional_be32(value: Option<&[u8]>, what: &str) -> Result<Option<u32>, Malformed> {
    value.map(|_| be32(value, what)).transpose()
}

/// A 64-bit number in network byte order that must be there.
pub(super) fn be64(value: Option<&[u8]>, what: &str) -> Result<u64, Malformed> {
    fixed(value, what).map(u64::from_be_bytes)
}

fn fixed<const N: usize>(value: Option<&[u8]>, what: &str) -> Result<[u8; N], Malformed> {
    required(value, what)?.try_into().map_err(|_| Malformed::new(format!("{what} is not {N} bytes long")))
}

/// Text that must be there, with or without its closing NUL.
pub(super) fn text<'a>(value: Option<&'a [u8]>, what: &str) -> Result<&'a str, Malformed> {
    let bytes = required(value, what)?;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|_| Malformed::new(format!("{what} is not text")))
}
