//! How the kernel and `nft` describe the keys of sets.

use super::uapi::datatype;
use crate::model::KeyPart;

/// The part's length in a packet.
pub(super) fn part_bytes(part: KeyPart) -> u32 {
    match part {
        KeyPart::Ipv4 => 4,
        KeyPart::Ipv6 | KeyPart::InterfaceName => 16,
        KeyPart::Protocol => 1,
        KeyPart::Port => 2,
        KeyPart::Mac => 6,
    }
}

/// The key's length: one part as it is, several each padded to 4 bytes.
pub(super) fn key_bytes(parts: &[KeyPart]) -> u32 {
    match parts {
        [one] => part_bytes(*one),
        parts => parts.iter().map(|part| part_bytes(*part).next_multiple_of(4)).sum(),
    }
}

/// The key's type as `nft` writes it: the parts' types, 6 bits each, the first part highest.
pub(super) fn key_type(parts: &[KeyPart]) -> u32 {
    parts.iter().fold(0, |whole, part| whole << datatype::BITS | part_type(*part))
}

/// The parts of a key of this type; None for a type that is not ours.
pub(super) fn key_parts(key_type: u32) -> Option<Vec<KeyPart>> {
    let mut rest = key_type;
    let mut parts = Vec::new();
    while rest != 0 {
        parts.push(part(rest & ((1 << datatype::BITS) - 1))?);
        rest >>= datatype::BITS;
    }
    parts.reverse();
    Some(parts)
}

fn part_type(part: KeyPart) -> u32 {
    match part {
        KeyPart::Ipv4 => datatype::IPV4_ADDR,
        KeyPart::Ipv6 => datatype::IPV6_ADDR,
        KeyPart::Protocol => datatype::INET_PROTO,
        KeyPart::Port => datatype::INET_SERVICE,
        KeyPart::InterfaceName => datatype::IFNAME,
        KeyPart::Mac => datatype::ETHER_ADDR,
    }
}

fn part(datatype: u32) -> Option<KeyPart> {
    let parts = [
        KeyPart::Ipv4,
        KeyPart::Ipv6,
        KeyPart::Protocol,
        KeyPart::Port,
        KeyPart::InterfaceName,
        KeyPart::Mac,
    ];
    parts.into_iter().find(|part| part_type(*part) == datatype)
}
