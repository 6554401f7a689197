//! Small builders of expressions, keys and sets.

use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::{End, Family};

use crate::model::{
    CmpOp, Elements, Expr, Key, KeyPart, MetaKey, Name, PayloadBase, Reg, Rule, Set, Verdict,
};
use crate::sorted::Sorted;

/// IPPROTO_IPIP.
pub(super) const IPIP: u8 = 4;
/// IPPROTO_UDP.
pub(super) const UDP: u8 = 17;
/// IPPROTO_ICMP.
pub(super) const ICMP: u8 = 1;
/// IPPROTO_ICMPV6.
pub(super) const ICMPV6: u8 = 58;

/// The register that single values go through.
pub(super) const R0: Reg = Reg(0);

/// Room in a hash set for this many elements: twice as many, so that it is renewed rarely, and few distinct values.
pub(super) fn set_capacity(elements: usize) -> u32 {
    let wanted = u32::try_from(elements).unwrap_or(u32::MAX / 4).saturating_mul(2);
    wanted.max(64).checked_next_power_of_two().unwrap_or(u32::MAX)
}

pub(super) fn rule(id: impl Into<Arc<str>>, parts: impl IntoIterator<Item = Vec<Expr>>) -> Rule {
    Rule { expressions: parts.into_iter().flatten().collect(), id: id.into() }
}

pub(super) fn verdict(verdict: Verdict) -> Vec<Expr> {
    vec![Expr::Verdict(verdict)]
}

pub(super) fn count_drop() -> Vec<Expr> {
    vec![Expr::Counter, Expr::Verdict(Verdict::Drop)]
}

pub(super) fn compare(data: impl Into<Vec<u8>>, op: CmpOp) -> Expr {
    Expr::Cmp { sreg: R0, op, data: data.into() }
}

pub(super) fn equals(data: impl Into<Vec<u8>>) -> Expr {
    compare(data, CmpOp::Eq)
}

/// Must stand before any look at the network header: the table sees both families.
pub(super) fn family(family: Family) -> Vec<Expr> {
    let number = match family {
        Family::V4 => 2,
        Family::V6 => 10,
    };
    vec![Expr::Meta { key: MetaKey::NfProto, dreg: R0 }, equals([number])]
}

pub(super) fn protocol(number: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: MetaKey::L4Proto, dreg: R0 }, equals([number])]
}

pub(super) fn load_address(side: End, family: Family, dreg: Reg) -> Expr {
    let (offset, len) = match (family, side) {
        (Family::V4, End::Source) => (12, 4),
        (Family::V4, End::Destination) => (16, 4),
        (Family::V6, End::Source) => (8, 16),
        (Family::V6, End::Destination) => (24, 16),
    };
    Expr::Payload { base: PayloadBase::Network, offset, len, dreg }
}

pub(super) fn load_port(side: End, dreg: Reg) -> Expr {
    let offset = match side {
        End::Source => 0,
        End::Destination => 2,
    };
    Expr::Payload { base: PayloadBase::Transport, offset, len: 2, dreg }
}

pub(super) fn load_transport(offset: u32, len: u32) -> Expr {
    Expr::Payload { base: PayloadBase::Transport, offset, len, dreg: R0 }
}

/// How many 32-bit registers an address fills.
pub(super) fn address_registers(family: Family) -> u8 {
    match family {
        Family::V4 => 1,
        Family::V6 => 4,
    }
}

/// The address lies in a network.
pub(super) fn in_net(side: End, address: IpAddr, prefix: u8, op: CmpOp) -> Vec<Expr> {
    let mut expressions = vec![load_address(side, family_of(address), R0)];
    expressions.extend(in_register_net(address, prefix, op));
    expressions
}

/// The same for an address that is loaded already.
pub(super) fn in_register_net(address: IpAddr, prefix: u8, op: CmpOp) -> Vec<Expr> {
    let bytes = address_bytes(address);
    let mut expressions = Vec::new();
    if usize::from(prefix) < bytes.len() * 8 {
        expressions.push(Expr::Bitwise {
            sreg: R0,
            dreg: R0,
            mask: mask_bytes(prefix, bytes.len()),
            xor: vec![0; bytes.len()],
        });
    }
    expressions.push(compare(bytes, op));
    expressions
}

/// A name that an interface can have: IFNAMSIZ with its NUL.
pub(super) fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
}

/// A name as the kernel loads it: 16 bytes, zero padded.
pub(super) fn padded_name(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

/// A set of interfaces.
pub(super) fn interface_names<'a>(names: impl IntoIterator<Item = &'a Arc<str>>) -> Set {
    let keys = names.into_iter().filter_map(|name| key(&[&padded_name(name)]));
    points(vec![KeyPart::InterfaceName], keys)
}

pub(super) fn lookup(set: &Name, negated: bool) -> Expr {
    Expr::Lookup { set: set.clone(), sreg: R0, negated }
}

pub(super) fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

pub(super) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn mask_bytes(prefix: u8, len: usize) -> Vec<u8> {
    let bits = usize::from(prefix);
    (0..len)
        .map(|i| match bits.saturating_sub(i * 8) {
            0 => 0,
            n if n >= 8 => 0xff,
            n => 0xffu8 << (8 - n),
        })
        .collect()
}

pub(super) fn address_part(family: Family) -> KeyPart {
    match family {
        Family::V4 => KeyPart::Ipv4,
        Family::V6 => KeyPart::Ipv6,
    }
}

/// 4 or 6, for names.
pub(super) fn family_digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

/// A key of one part or a concatenation; every part is padded to 4 bytes where there are several.
pub(super) fn key(parts: &[&[u8]]) -> Option<Key> {
    match parts {
        [one] => Key::new(one),
        _ => {
            let mut bytes = Vec::with_capacity(32);
            for part in parts {
                bytes.extend_from_slice(part);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            Key::new(&bytes)
        }
    }
}

pub(super) fn points(key: Vec<KeyPart>, keys: impl IntoIterator<Item = Key>) -> Set {
    let points: Sorted<Key> = keys.into_iter().collect();
    let size = Some(set_capacity(points.len()));
    Set { key, elements: Elements::Points(points), size }
}

/// 24 hexadecimal digits of a content hash: 96 bits, so that among a million names the chance of any two being equal
/// is below 10^-17, in a name that leaves room for a prefix and a generation within 31 bytes.
pub(super) fn short_hash(content: &[u8]) -> String {
    let mut hex = blake3::hash(content).to_hex().to_string();
    hex.truncate(24);
    hex
}
