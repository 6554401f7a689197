//! Definitions of sets.

use crate::model::KeyPart;
use crate::netlink::key::{key_bytes, key_parts};
use crate::netlink::uapi::set as uapi;
use crate::netlink::wire::{Malformed, among, be32, optional_be32};
use crate::transaction::SetKind;

/// A set without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub key: Vec<KeyPart>,
    pub kind: SetKind,
    pub size: Option<u32>,
}

impl Definition {
    /// The length of each element's key.
    pub fn key_bytes(&self) -> usize {
        usize::try_from(key_bytes(&self.key)).unwrap_or(usize::MAX)
    }
}

/// Reads a set's attributes.
pub(super) fn definition(bytes: &[u8]) -> Result<Definition, Malformed> {
    let wanted = [
        uapi::FLAGS,
        uapi::KEY_TYPE,
        uapi::KEY_LEN,
        uapi::DATA_TYPE,
        uapi::DESC,
        uapi::TIMEOUT,
        uapi::EXPR,
        uapi::EXPRESSIONS,
    ];
    let [flags, key_type, key_length, data_type, description, timeout, expression, expressions] =
        among(bytes, wanted)?;
    if timeout.is_some() || expression.is_some() || expressions.is_some() {
        return Err(Malformed::new("elements with timeouts or expressions"));
    }
    let key_type = be32(key_type, "the key's type")?;
    let key = key_parts(key_type).filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Malformed::new(format!("key type {key_type:#x}")))?;
    let length = be32(key_length, "the key's length")?;
    if length != key_bytes(&key) {
        return Err(Malformed::new(format!("a key of type {key_type:#x} with {length} bytes")));
    }
    let flags = optional_be32(flags, "the set's flags")?.unwrap_or(0);
    let concatenated = if key.len() > 1 { uapi::F_CONCAT } else { 0 };
    let kind = match flags ^ concatenated {
        0 => SetKind::Points,
        uapi::F_INTERVAL if concatenated == 0 => SetKind::Ranges,
        uapi::F_MAP if optional_be32(data_type, "the data's type")? == Some(uapi::DATA_VERDICT) => {
            SetKind::Verdicts
        }
        _ => return Err(Malformed::new(format!("set flags {flags:#x}"))),
    };
    let [size] = among(description.unwrap_or_default(), [uapi::DESC_SIZE])?;
    let size = optional_be32(size, "the set's size")?.filter(|size| *size != 0);
    Ok(Definition { key, kind, size })
}
