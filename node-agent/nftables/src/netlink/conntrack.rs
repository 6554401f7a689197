//! Ending the connections of an address that changes hands.
//!
//! Without this a new pod would inherit what its address's last holder had open: established connections pass
//! without a verdict.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, ConntrackMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::encode;
use super::error::ReadError;
use super::socket::NetfilterSocket;
use super::uapi::conntrack as uapi;
use super::wire::{Malformed, Message, among};

/// Deletions sent at a time; each is answered.
const DELETIONS: usize = 256;
/// How often the table is looked through at the most: live traffic of a peer can make entries anew.
const PASSES: usize = 4;

/// A connection to the kernel's connection tracking.
#[derive(Debug)]
pub struct Conntrack {
    socket: NetfilterSocket,
}

/// An entry by the attributes that name it.
#[derive(Debug)]
pub(super) struct Entry(Vec<(u16, Vec<u8>)>);

impl Conntrack {
    /// Connects. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The socket can't be opened.
    pub fn open() -> std::io::Result<Self> {
        NetfilterSocket::open().map(|socket| Self { socket })
    }

    /// Deletes every entry with one of these addresses as source or destination, of either direction, in every
    /// zone; returns how many.
    ///
    /// # Errors
    /// See [`ReadError`]; entries may be left.
    pub fn delete(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, ReadError> {
        let mut deleted = 0;
        let families = [
            (NetfilterProtoFamily::IPv4, addresses.iter().any(IpAddr::is_ipv4)),
            (NetfilterProtoFamily::IPv6, addresses.iter().any(IpAddr::is_ipv6)),
        ];
        for (family, _) in families.into_iter().filter(|(_, wanted)| *wanted) {
            // A dump can miss entries while others change the table, so that one must find none at the end.
            for _ in 0..PASSES {
                let entries = self.entries(family, addresses)?;
                if entries.is_empty() {
                    break;
                }
                for entries in entries.chunks(DELETIONS) {
                    deleted += self.delete_entries(family, entries)?;
                }
            }
        }
        Ok(deleted)
    }

    fn entries(
        &mut self,
        family: NetfilterProtoFamily,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<Vec<Entry>, ReadError> {
        let header = NetfilterHeader::new(family, 0, 0);
        let request = NetfilterMessage::new(header, ConntrackMessage::Get(Vec::new()));
        let mut entries = Vec::new();
        self.socket.dump(
            NLM_F_REQUEST | NLM_F_DUMP,
            &request,
            &mut entries,
            Vec::clear,
            |entries: &mut Vec<_>, message| {
                entries.extend(entry(message, addresses)?);
                Ok(())
            },
        )?;
        Ok(entries)
    }

    fn delete_entries(
        &mut self,
        family: NetfilterProtoFamily,
        entries: &[Entry],
    ) -> Result<usize, ReadError> {
        let mut bytes = Vec::new();
        for Entry(attributes) in entries {
            let sequence = self.socket.sequence(1);
            let attributes = attributes
                .iter()
                .map(|(kind, value)| ConntrackAttribute::Other(DefaultNla::new(*kind, value.clone())));
            let header = NetfilterHeader::new(family, 0, 0);
            let message = NetfilterMessage::new(header, ConntrackMessage::Delete(attributes.collect()));
            encode::append(&mut bytes, NLM_F_REQUEST | NLM_F_ACK, sequence, message)
                .map_err(|error| Malformed::new(error.to_string()))?;
        }
        self.socket.send(&bytes)?;
        let (answers, lost) = self.socket.answers()?;
        let mut deleted = 0;
        for answer in answers {
            match answer.errno {
                0 => deleted += 1,
                // It ended by itself meanwhile.
                nix::libc::ENOENT => {}
                errno => return Err(ReadError::Refused(errno)),
            }
        }
        if lost { Err(ReadError::Refused(nix::libc::ENOBUFS)) } else { Ok(deleted) }
    }
}

/// The entry, where it has one of the addresses.
pub(super) fn entry(message: &Message<'_>, addresses: &BTreeSet<IpAddr>) -> Result<Option<Entry>, Malformed> {
    if message.kind != uapi::SUBSYS << 8 | uapi::NEW {
        return Ok(None);
    }
    let wanted = [uapi::TUPLE_ORIG, uapi::TUPLE_REPLY, uapi::ID, uapi::ZONE];
    let [original, reply, id, zone] = among(message.attributes()?, wanted)?;
    let mut concerned = false;
    for tuple in [original, reply].into_iter().flatten() {
        let [ip] = among(tuple, [uapi::TUPLE_IP])?;
        let kinds = [uapi::IP_V4_SRC, uapi::IP_V4_DST, uapi::IP_V6_SRC, uapi::IP_V6_DST];
        let ends = among(ip.unwrap_or_default(), kinds)?;
        concerned |= ends.into_iter().flatten().filter_map(address).any(|ip| addresses.contains(&ip));
    }
    let attributes = [(uapi::TUPLE_ORIG | NLA_F_NESTED, original), (uapi::ID, id), (uapi::ZONE, zone)];
    let attributes = attributes.into_iter().filter_map(|(kind, value)| Some((kind, value?.to_vec())));
    Ok(concerned.then(|| Entry(attributes.collect())))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
