//! Elements of sets and maps, cut into messages.

use netlink_packet_core::Emitable;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetElementAttribute, SetElementFlags, SetElementList,
    SetElementMessage,
};

use super::InvalidOp;
use super::rule::verdict_data;
use crate::model::{Elements, Key, Range};

/// Bytes of elements in one message. They are one attribute, of at most 64 KiB; half of it costs nothing and keeps
/// what stands in memory as a tree small.
const CHUNK_BYTES: usize = 32 * 1024;

/// What happens to the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Delete,
}

/// Gives the messages that add or delete these elements, one by one.
pub(super) fn messages(
    table: &str,
    set: String,
    elements: &Elements,
    change: Change,
    push: impl FnMut(NfTablesMessage) -> Result<(), InvalidOp>,
) -> Result<(), InvalidOp> {
    let mut chunks = Chunks { table, set, change, push, pending: Vec::new(), bytes: 0 };
    match elements {
        Elements::Points(points) => {
            for point in points.iter() {
                chunks.add(vec![key(&point)])?;
            }
        }
        Elements::Ranges(ranges) => {
            for Range { first, last } in ranges.iter() {
                chunks.add(vec![key(&first)])?;
                // An interval ends before the element marked so; one that ends with the last key has no end.
                if let Some(end) = after(&last) {
                    chunks.add(vec![key(&end), SetElementAttribute::Flags(SetElementFlags::IntervalEnd)])?;
                }
            }
        }
        Elements::Verdicts(verdicts) => {
            for (point, verdict) in verdicts {
                let mut element = vec![key(point)];
                if change == Change::Add {
                    element.push(SetElementAttribute::Data(verdict_data(verdict)?));
                }
                chunks.add(element)?;
            }
        }
    }
    chunks.flush()
}

struct Chunks<'a, F> {
    table: &'a str,
    set: String,
    change: Change,
    push: F,
    pending: Vec<ListAttribute<SetElementAttribute>>,
    bytes: usize,
}

impl<F: FnMut(NfTablesMessage) -> Result<(), InvalidOp>> Chunks<'_, F> {
    fn add(&mut self, element: Vec<SetElementAttribute>) -> Result<(), InvalidOp> {
        let element = ListAttribute::Element(element);
        self.bytes += element.buffer_len();
        self.pending.push(element);
        if self.bytes < CHUNK_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), InvalidOp> {
        self.bytes = 0;
        if self.pending.is_empty() {
            return Ok(());
        }
        let attributes = vec![
            SetElementList::Table(self.table.into()),
            SetElementList::Set(self.set.clone()),
            SetElementList::Elements(std::mem::take(&mut self.pending)),
        ];
        let message = SetElementMessage { attributes };
        (self.push)(match self.change {
            Change::Add => NfTablesMessage::NewSetElement(message),
            Change::Delete => NfTablesMessage::DeleteSetElement(message),
        })
    }
}

fn key(key: &Key) -> SetElementAttribute {
    SetElementAttribute::Key(DataAttribute::Value(key.as_bytes().to_vec()))
}

/// The key that follows, of the same length; None after the last.
pub(in crate::netlink) fn after(key: &Key) -> Option<Key> {
    let mut bytes = key.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (next, carried) = byte.overflowing_add(1);
        *byte = next;
        if !carried {
            return Key::new(&bytes);
        }
    }
    None
}
