//! Transactions to netlink batches.
//!
//! A batch is one datagram: BEGIN, a message for each piece of work, END. It is built straight into one byte buffer,
//! a message at a time, so that even 200,000 elements never stand in memory as a tree of attributes.

mod element;
mod rule;
mod set;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, HookNumber, InetHookNumber, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetMessage, TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

use super::uapi;
use crate::model::{BaseChain, ChainKind, Hook, Name, TableFamily};
use crate::transaction::{Op, Transaction};

/// Longest name of a chain or set, as [`Name`] says.
const NAME_BYTES: usize = 31;
/// Longest message other than of elements. Attribute lengths are 16 bits, and one attribute may hold the rest.
const MESSAGE_BYTES: usize = 60_000;

/// An operation that can't be put into messages; nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidOp {
    /// A name is empty, longer than 31 bytes, or holds a NUL.
    #[error("the name {0:?} is empty, longer than 31 bytes or not plain text")]
    Name(String),
    /// A rule's id is longer than 64 bytes, holds a NUL, or pretends to be an unreadable rule.
    #[error("the rule id {0:?} is longer than 64 bytes or reserved")]
    RuleId(String),
    /// A register beyond the last, or data that would run over it.
    #[error("register {0} does not exist")]
    Register(u8),
    /// A value the kernel has no room for.
    #[error("{0}")]
    Value(&'static str),
    /// The message is larger than an attribute can be.
    #[error("the message of {0} bytes is larger than netlink attributes can be")]
    Size(usize),
}

/// The datagram that a transaction for an `inet` table becomes: for tests, benchmarks and reports.
///
/// # Errors
/// The place of an operation that can't be expressed, and why.
pub fn encoded(table: &str, transaction: &Transaction) -> Result<Vec<u8>, (usize, InvalidOp)> {
    Ok(Encoder { family: TableFamily::Inet, table, table_flags: 0 }.batch(transaction, 0)?.bytes)
}

/// A transaction as the kernel takes it.
#[derive(Debug)]
pub(super) struct Batch {
    /// The datagram.
    pub bytes: Vec<u8>,
    family: TableFamily,
    first_sequence: u32,
    /// For each message after BEGIN, the operation it belongs to.
    owners: Vec<usize>,
    last_message: usize,
}

/// Builds batches for one table.
#[derive(Debug, Clone)]
pub(super) struct Encoder<'a> {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name.
    pub table: &'a str,
    /// The flags that it is created with (`NFT_TABLE_F_*`).
    pub table_flags: u32,
}

impl Encoder<'_> {
    /// The batch of a transaction whose messages are numbered from `first_sequence`; on error, which operation.
    pub fn batch(&self, transaction: &Transaction, first_sequence: u32) -> Result<Batch, (usize, InvalidOp)> {
        let mut batch = Batch {
            bytes: Vec::new(),
            family: self.family,
            first_sequence,
            owners: Vec::new(),
            last_message: 0,
        };
        batch.control(ControlMessage::BatchBegin);
        let mut set_id = 0;
        for (index, op) in transaction.ops.iter().enumerate() {
            self.op(&mut batch, index, op, &mut set_id).map_err(|error| (index, error))?;
        }
        batch.ask_for_ack();
        batch.control(ControlMessage::BatchEnd);
        Ok(batch)
    }

    fn op(&self, batch: &mut Batch, index: usize, op: &Op, set_id: &mut u32) -> Result<(), InvalidOp> {
        match op {
            Op::AddTable => batch.push(index, NLM_F_CREATE, self.new_table()),
            Op::DeleteTable => {
                let attributes = vec![TableAttribute::Name(self.table.into())];
                batch.push(index, 0, NfTablesMessage::DeleteTable(TableMessage { attributes }))
            }
            Op::AddChain { name, base } => {
                batch.push(index, NLM_F_CREATE, self.new_chain(name, base.as_ref())?)
            }
            Op::FlushChain { name } => {
                let attributes =
                    vec![RuleAttribute::Table(self.table.into()), RuleAttribute::Chain(checked(name)?)];
                batch.push(index, 0, NfTablesMessage::DeleteRule(RuleMessage { attributes }))
            }
            Op::DeleteChain { name } => {
                let attributes =
                    vec![ChainAttribute::Table(self.table.into()), ChainAttribute::Name(checked(name)?)];
                batch.push(index, 0, NfTablesMessage::DeleteChain(ChainMessage { attributes }))
            }
            Op::AddRule { chain, rule } => {
                let attributes = rule::attributes(self.table, checked(chain)?, rule)?;
                let message = NfTablesMessage::NewRule(RuleMessage { attributes });
                batch.push(index, NLM_F_CREATE | NLM_F_APPEND, message)
            }
            Op::AddSet { name, spec } => {
                *set_id += 1;
                let attributes = set::attributes(self.table, checked(name)?, spec, *set_id)?;
                batch.push(index, NLM_F_CREATE, NfTablesMessage::NewSet(SetMessage { attributes }))
            }
            Op::DeleteSet { name } => {
                let attributes =
                    vec![SetAttribute::Table(self.table.into()), SetAttribute::Name(checked(name)?)];
                batch.push(index, 0, NfTablesMessage::DeleteSet(SetMessage { attributes }))
            }
            Op::AddElements { set, elements } => {
                element::messages(self.table, checked(set)?, elements, element::Change::Add, |message| {
                    batch.push(index, NLM_F_CREATE, message)
                })
            }
            Op::DeleteElements { set, elements } => {
                element::messages(self.table, checked(set)?, elements, element::Change::Delete, |message| {
                    batch.push(index, 0, message)
                })
            }
        }
    }

    fn new_table(&self) -> NfTablesMessage {
        NfTablesMessage::NewTable(TableMessage {
            attributes: vec![
                TableAttribute::Name(self.table.into()),
                TableAttribute::Flags(TableFlags::from_bits_retain(self.table_flags)),
            ],
        })
    }

    fn new_chain(&self, name: &Name, base: Option<&BaseChain>) -> Result<NfTablesMessage, InvalidOp> {
        let mut attributes =
            vec![ChainAttribute::Table(self.table.into()), ChainAttribute::Name(checked(name)?)];
        if let Some(base) = base {
            let hook = match base.hook {
                Hook::Prerouting => InetHookNumber::PreRouting,
                Hook::Input => InetHookNumber::LocalIn,
                Hook::Forward => InetHookNumber::Forward,
                Hook::Output => InetHookNumber::LocalOut,
                Hook::Postrouting => InetHookNumber::PostRouting,
            };
            let kind = match base.kind {
                ChainKind::Filter => "filter",
                ChainKind::Nat => "nat",
            };
            attributes.extend([
                ChainAttribute::Hook(vec![
                    HookAttribute::Number(HookNumber::Inet(hook)),
                    HookAttribute::Priority(base.priority.cast_unsigned()),
                ]),
                ChainAttribute::Policy(if base.drop { uapi::data::DROP } else { uapi::data::ACCEPT }),
                ChainAttribute::Type(kind.into()),
            ]);
        }
        Ok(NfTablesMessage::NewChain(ChainMessage { attributes }))
    }
}

impl Batch {
    /// True where no operation needs a message.
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    /// True where the sequence number is one of this batch's.
    pub fn contains(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.first_sequence) < self.next_sequence().wrapping_sub(self.first_sequence)
    }

    /// The operation that the message with this sequence number belongs to; None for BEGIN and END.
    pub fn op_of(&self, sequence: u32) -> Option<usize> {
        let position = usize::try_from(sequence.wrapping_sub(self.first_sequence)).ok()?;
        self.owners.get(position.checked_sub(1)?).copied()
    }

    /// The sequence number of the one message that is acknowledged.
    pub fn last_sequence(&self) -> u32 {
        self.first_sequence.wrapping_add(u32::try_from(self.owners.len()).unwrap_or(u32::MAX))
    }

    /// The first sequence number after this batch.
    pub fn next_sequence(&self) -> u32 {
        self.last_sequence().wrapping_add(2)
    }

    fn push(&mut self, op: usize, flags: u16, message: NfTablesMessage) -> Result<(), InvalidOp> {
        let message = NetfilterMessage::new(header(self.family), message);
        self.owners.push(op);
        self.last_message = self.bytes.len();
        self.append(flags, self.last_sequence(), message)
    }

    fn control(&mut self, message: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, uapi::SUBSYS_NFTABLES);
        let sequence = match message {
            ControlMessage::BatchBegin => self.first_sequence,
            _ => self.last_sequence().wrapping_add(1),
        };
        // A control message has no attributes, so it is never too long.
        let _ = self.append(0, sequence, NetfilterMessage::new(header, NetfilterMessageInner::None(message)));
    }

    fn append(&mut self, flags: u16, sequence: u32, message: NetfilterMessage) -> Result<(), InvalidOp> {
        append(&mut self.bytes, NLM_F_REQUEST | flags, sequence, message)
    }

    /// Acknowledging every message would overflow the receive buffer of a large batch.
    fn ask_for_ack(&mut self) {
        let flags = self.last_message + 6..self.last_message + 8;
        if !self.owners.is_empty()
            && let Some(flags) = self.bytes.get_mut(flags)
            && let Ok(old) = <[u8; 2]>::try_from(&*flags)
        {
            flags.copy_from_slice(&(u16::from_ne_bytes(old) | NLM_F_ACK).to_ne_bytes());
        }
    }
}

/// The header of messages about a table of this family.
pub(super) fn header(family: TableFamily) -> NetfilterHeader {
    let family = match family {
        TableFamily::Inet => NetfilterProtoFamily::Inet,
        TableFamily::Bridge => NetfilterProtoFamily::Bridge,
    };
    NetfilterHeader::new(family, 0, 0)
}

/// Appends one whole netlink message to the buffer.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    flags: u16,
    sequence: u32,
    message: NetfilterMessage,
) -> Result<(), InvalidOp> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    let (start, length) = (bytes.len(), message.buffer_len());
    // The packet crate cuts lengths to 16 bits, or panics where debug assertions are on.
    if length > MESSAGE_BYTES {
        return Err(InvalidOp::Size(length));
    }
    bytes.resize(start + length, 0);
    if let Some(room) = bytes.get_mut(start..) {
        message.serialize(room);
    }
    Ok(())
}

/// A name that every kernel takes.
fn checked(name: &Name) -> Result<String, InvalidOp> {
    let valid = !name.is_empty() && name.len() <= NAME_BYTES && !name.contains('\0');
    if valid { Ok(name.to_string()) } else { Err(InvalidOp::Name(name.to_string())) }
}
