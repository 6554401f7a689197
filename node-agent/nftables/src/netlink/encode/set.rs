//! Definitions of sets and maps.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{SetAttribute, SetDescription, SetFlags};

use super::InvalidOp;
use super::rule::nested;
use crate::model::KeyPart;
use crate::netlink::key::{key_bytes, key_type, part_bytes};
use crate::netlink::uapi::{LIST_ELEMENT, set as uapi};
use crate::transaction::{SetKind, SetSpec};

/// Longest key of a set, as [`crate::model::Key`].
const KEY_BYTES: u32 = 32;
/// Most parts of a key: its type has 32 bits, 6 for each part.
const KEY_PARTS: usize = 5;

/// The attributes of a new set; `id` is unique in the batch.
pub(super) fn attributes(
    table: &str,
    name: String,
    spec: &SetSpec,
    id: u32,
) -> Result<Vec<SetAttribute>, InvalidOp> {
    let concatenated = spec.key.len() > 1;
    let length = key_bytes(&spec.key);
    if length == 0 || length > KEY_BYTES || spec.key.len() > KEY_PARTS {
        return Err(InvalidOp::Value("a set's key has 1 to 5 parts and at most 32 bytes"));
    }
    if concatenated && spec.kind == SetKind::Ranges {
        return Err(InvalidOp::Value("ranges of concatenated keys are not supported"));
    }
    if spec.size == Some(0) {
        return Err(InvalidOp::Value("a set with room for nothing"));
    }
    let kind = match spec.kind {
        SetKind::Points => SetFlags::empty(),
        SetKind::Ranges => SetFlags::Interval,
        SetKind::Verdicts => SetFlags::Map,
    };
    let flags = if concatenated { kind | SetFlags::Concat } else { kind };
    let mut attributes = vec![
        SetAttribute::Table(table.into()),
        SetAttribute::Name(name),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type(&spec.key)),
        SetAttribute::KeyLen(length),
        SetAttribute::Id(id),
    ];
    if spec.kind == SetKind::Verdicts {
        attributes.push(SetAttribute::DataType(uapi::DATA_VERDICT));
    }
    if spec.key == [KeyPart::InterfaceName] {
        attributes.push(SetAttribute::UserData(host_order_key()));
    }
    let mut description: Vec<_> = spec.size.map(SetDescription::Size).into_iter().collect();
    if concatenated {
        description.push(SetDescription::Concat(spec.key.iter().map(field).collect()));
    }
    if !description.is_empty() {
        attributes.push(SetAttribute::Description(description));
    }
    Ok(attributes)
}

/// Tells `nft` that keys are in host byte order, without which it shows interface names as empty; the kernel keeps it
/// and does not look at it.
fn host_order_key() -> Vec<u8> {
    let mut bytes = vec![uapi::USERDATA_KEY_BYTE_ORDER, 4];
    bytes.extend(uapi::BYTE_ORDER_HOST.to_ne_bytes());
    bytes
}

/// A part of a concatenation, by its length before padding.
fn field(part: &KeyPart) -> DefaultNla {
    nested(LIST_ELEMENT, &[DefaultNla::new(uapi::FIELD_LEN, part_bytes(*part).to_be_bytes().to_vec())])
}
