//! Elements of sets and maps.

use super::expression::verdict;
use crate::model::{Elements, Key, Range, Verdict};
use crate::netlink::uapi::{self, data, element as uapi_element};
use crate::netlink::wire::{Malformed, Message, among, attributes, exactly, optional_be32, required};
use crate::sorted::Sorted;
use crate::transaction::SetKind;

/// Elements as they come, in any order and over many messages.
#[derive(Debug, Default)]
pub(in crate::netlink) struct SetElements {
    elements: Vec<Element>,
    /// The first thing that was not understood.
    strange: Option<Malformed>,
}

#[derive(Debug, PartialEq, Eq)]
struct Element {
    key: Key,
    end: bool,
    verdict: Option<Verdict>,
}

impl SetElements {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes in the elements of a message.
    pub fn message(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        if message.kind != super::nftables(uapi::message::NEWSETELEM) {
            return Ok(());
        }
        let [list] = among(message.attributes()?, [uapi_element::LIST_ELEMENTS])?;
        for attribute in attributes(list.unwrap_or_default()) {
            match element(attribute?.value) {
                Ok(element) => self.elements.push(element),
                Err(why) => {
                    self.strange.get_or_insert(why);
                }
            }
        }
        Ok(())
    }

    /// The elements as the set's kind has them.
    pub fn finish(self, kind: SetKind, key_bytes: usize) -> Result<Elements, Malformed> {
        if let Some(why) = self.strange {
            return Err(why);
        }
        if self.elements.iter().any(|element| element.key.as_bytes().len() != key_bytes) {
            return Err(Malformed::new("an element whose key has another length than the set's"));
        }
        match kind {
            SetKind::Points => self
                .elements
                .into_iter()
                .map(|e| plain(&e).map(|()| e.key))
                .collect::<Result<_, _>>()
                .map(Elements::Points),
            SetKind::Verdicts => {
                let entry = |e: Element| match e.verdict {
                    Some(verdict) if !e.end => Ok((e.key, verdict)),
                    _ => Err(Malformed::new("a map's element without a verdict")),
                };
                self.elements.into_iter().map(entry).collect::<Result<_, _>>().map(Elements::Verdicts)
            }
            SetKind::Ranges => ranges(self.elements).map(Elements::Ranges),
        }
    }
}

fn plain(element: &Element) -> Result<(), Malformed> {
    if element.end || element.verdict.is_some() {
        return Err(Malformed::new("an element that is more than a key"));
    }
    Ok(())
}

/// Pairs the starts and ends of intervals. An interval without an end reaches to the last key; an end without a
/// start at the first key is what `nft` writes before a set's first interval.
fn ranges(mut elements: Vec<Element>) -> Result<Sorted<Range>, Malformed> {
    elements.sort_by_key(|element| (element.key, !element.end));
    let mut ranges = Vec::new();
    let mut open: Option<Key> = None;
    for element in elements {
        if element.verdict.is_some() {
            return Err(Malformed::new("an interval with a verdict"));
        }
        match (open.take(), element.end) {
            (None, false) => open = Some(element.key),
            (Some(first), end) => {
                let last = before(&element.key)
                    .ok_or_else(|| Malformed::new("an interval that ends before it starts"))?;
                ranges.push(Range { first, last });
                open = (!end).then_some(element.key);
            }
            (None, true) if before(&element.key).is_none() => {}
            (None, true) => return Err(Malformed::new("an interval's end without a start")),
        }
    }
    if let Some(first) = open {
        let last = vec![0xff; first.as_bytes().len()];
        let last = Key::new(&last).ok_or_else(|| Malformed::new("a key that is too long"))?;
        ranges.push(Range { first, last });
    }
    Ok(ranges.into_iter().collect())
}

/// The key that comes before, of the same length; None before the first.
fn before(key: &Key) -> Option<Key> {
    let mut bytes = key.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (previous, borrowed) = byte.overflowing_sub(1);
        *byte = previous;
        if !borrowed {
            return Key::new(&bytes);
        }
    }
    None
}

fn element(bytes: &[u8]) -> Result<Element, Malformed> {
    let known = [
        uapi_element::KEY,
        uapi_element::DATA,
        uapi_element::FLAGS,
        uapi_element::USERDATA,
        uapi_element::PAD,
    ];
    let [key, value, flags, _userdata, _pad] = exactly(bytes, "an element", known)?;
    let flags = optional_be32(flags, "an element's flags")?.unwrap_or(0);
    if flags & !uapi_element::F_INTERVAL_END != 0 {
        return Err(Malformed::new(format!("element flags {flags:#x}")));
    }
    let [key] = exactly(required(key, "an element's key")?, "an element's key", [data::VALUE])?;
    let key = required(key, "an element's key")?;
    let key = Key::new(key).ok_or_else(|| Malformed::new(format!("a key of {} bytes", key.len())))?;
    Ok(Element { key, end: flags != 0, verdict: value.map(verdict).transpose()? })
}
