//! One long-lived connection to the kernel for one table.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_packet_netfilter::nftables::{
    ChainMessage, GenMessage, NfTablesMessage, RuleAttribute, RuleMessage, SetAttribute, SetElementList,
    SetElementMessage, SetMessage, TableAttribute, TableMessage,
};

use super::decode::{self, Content};
use super::encode::{Encoder, header};
use super::error::{CommitError, ReadError, Rejection};
use super::socket::NetfilterSocket;
use super::uapi;
use super::watch::Watch;
use super::wire::{Malformed, Message};
use crate::model::{Name, Ruleset, TableFamily};
use crate::transaction::{Op, Transaction};

/// Whose table it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// `owner` and `persist`: no other socket may change it, and it stays when this one closes. Kernels before 6.9
    /// know no `persist`; there the table is made plain, because `owner` alone takes it away with the socket.
    #[default]
    Owned,
    /// Anybody with the rights may change it.
    Plain,
}

/// What a connection is for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The table's family.
    pub family: TableFamily,
    /// The table's name in its family.
    pub table: Arc<str>,
    /// Whose it is to be.
    pub ownership: Ownership,
}

impl Default for Settings {
    fn default() -> Self {
        Self { family: TableFamily::Inet, table: Arc::from("selvage"), ownership: Ownership::Owned }
    }
}

/// How a table that is there relates to this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As this connection would have made it: transactions may go ahead.
    Ours,
    /// Made to be owned, and its owner is gone: [`Op::AddTable`] adopts it as it is.
    Orphan,
    /// Not owned although it should be: it can only be replaced, by [`Op::DeleteTable`] and [`Op::AddTable`] in one
    /// transaction.
    Unowned,
    /// Owned by another socket, which has this port: the kernel refuses every change.
    Foreign {
        /// The owner's netlink port.
        port: u32,
    },
}

/// What the kernel holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// How it relates to this connection.
    pub standing: Standing,
    /// True where the table is switched off (`dormant`), so that none of it applies; [`Op::AddTable`] switches it on.
    pub dormant: bool,
    /// Its chains and sets. A rule that was not understood has an id that begins with [`super::UNREADABLE`], such a
    /// set has a key of no parts, and neither equals any wish. Left out is what does nothing without a rule that
    /// names it and that would be seen: named objects, flowtables, and a rule's own anonymous sets.
    pub ruleset: Ruleset,
    /// What was not understood, for the log.
    pub unreadable: Vec<String>,
}

/// What a rule has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Packets.
    pub packets: u64,
    /// Bytes, IP headers included.
    pub bytes: u64,
}

/// A connection to the kernel's nftables, for one table of the network namespace it was opened in.
///
/// Keep it open: closing the socket after a transaction with deletions waits for about 10 ms, and an owned table is
/// its owner's only as long as the socket lives.
#[derive(Debug)]
pub struct Connection {
    socket: NetfilterSocket,
    family: TableFamily,
    table: Arc<str>,
    flags: u32,
}

impl Connection {
    /// Connects, and finds out whether the kernel can keep an owned table. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The socket can't be opened, or the kernel has no nftables.
    pub fn open(settings: &Settings) -> Result<Self, CommitError> {
        let socket = NetfilterSocket::open().map_err(CommitError::Send)?;
        let mut connection =
            Self { socket, family: settings.family, table: settings.table.clone(), flags: 0 };
        if settings.ownership == Ownership::Owned && connection.probe_ownership()? {
            connection.flags = uapi::table::F_OWNER | uapi::table::F_PERSIST;
        }
        Ok(connection)
    }

    /// The ownership that tables really get: `Plain` too where the kernel can't do better.
    pub fn ownership(&self) -> Ownership {
        if self.flags == 0 { Ownership::Plain } else { Ownership::Owned }
    }

    /// The socket's netlink port, which owns the table.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Applies a transaction, all of it or nothing.
    ///
    /// # Errors
    /// See [`CommitError`]. After an error whose outcome is unknown the table must be read.
    pub fn commit(&mut self, transaction: &Transaction) -> Result<(), CommitError> {
        let table = self.table.clone();
        let encoder = Encoder { family: self.family, table: &table, table_flags: self.flags };
        self.send(transaction, &encoder)
    }

    /// Reads the table; None where there is none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self) -> Result<Option<Table>, ReadError> {
        let Some((standing, dormant)) = self.table()? else { return Ok(None) };
        let mut content = Content::default();
        let table = self.table.clone();
        self.dump(
            NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }),
            &mut content,
            Content::forget_chains,
            |content, message| content.chain(&table, message),
        )?;
        self.dump(
            NfTablesMessage::GetRule(RuleMessage {
                attributes: vec![RuleAttribute::Table(table.to_string())],
            }),
            &mut content,
            Content::forget_rules,
            |content, message| content.rule(&table, message),
        )?;
        self.dump(
            NfTablesMessage::GetSet(SetMessage { attributes: vec![SetAttribute::Table(table.to_string())] }),
            &mut content,
            Content::forget_sets,
            |content, message| content.set(&table, message),
        )?;
        for set in content.set_names() {
            self.elements(&mut content, &set)?;
        }
        let (ruleset, unreadable) = content.finish();
        Ok(Some(Table { standing, dormant, ruleset, unreadable }))
    }

    /// How the table stands; None where there is none. Cheap.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn standing(&mut self) -> Result<Option<Standing>, ReadError> {
        Ok(self.table()?.map(|(standing, _)| standing))
    }

    /// The number of the namespace's last change of any table.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn generation(&mut self) -> Result<u32, ReadError> {
        let request = self.message(NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() }));
        let mut generation = None;
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        self.socket.dump(
            flags,
            &request,
            &mut generation,
            |_| {},
            |generation, message| {
                *generation = Some(decode::generation(message)?);
                Ok(())
            },
        )?;
        generation.ok_or(ReadError::Refused(nix::libc::ENOENT))
    }

    /// What the counters of rules have counted, by chain and rule id. Rules of one chain that share an id add up.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn counters(&mut self) -> Result<HashMap<(Name, Arc<str>), Counts>, ReadError> {
        let mut counters = HashMap::new();
        let table = self.table.clone();
        self.dump(
            NfTablesMessage::GetRule(RuleMessage {
                attributes: vec![RuleAttribute::Table(table.to_string())],
            }),
            &mut counters,
            HashMap::clear,
            |counters, message| decode::count(&table, message, counters),
        )?;
        Ok(counters)
    }

    /// A second socket that hears when somebody else changes the table.
    ///
    /// # Errors
    /// The socket can't be opened.
    pub fn subscribe(&self) -> io::Result<Watch> {
        Watch::open(self.family, self.table.clone(), self.socket.port())
    }

    /// True where the kernel takes both flags. It is asked with a table of another name, made and deleted in one
    /// transaction, so that nothing of it is ever seen.
    fn probe_ownership(&mut self) -> Result<bool, CommitError> {
        let table = format!("selvage-probe-{}", self.socket.port());
        let table_flags = uapi::table::F_OWNER | uapi::table::F_PERSIST;
        let encoder = Encoder { family: self.family, table: &table, table_flags };
        let probe: Transaction = [Op::AddTable, Op::DeleteTable].into_iter().collect();
        match self.send(&probe, &encoder) {
            Ok(()) => Ok(true),
            Err(error) if error.has_errno(nix::libc::EOPNOTSUPP) || error.has_errno(nix::libc::EINVAL) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, transaction: &Transaction, encoder: &Encoder<'_>) -> Result<(), CommitError> {
        let name = |index: usize| transaction.ops.get(index).map(Op::to_string).unwrap_or_default();
        let first = self.socket.sequence(0);
        let batch = encoder.batch(transaction, first).map_err(|(index, reason)| CommitError::Invalid {
            index,
            op: name(index),
            reason,
        })?;
        if batch.is_empty() {
            return Ok(());
        }
        self.socket.sequence(batch.next_sequence().wrapping_sub(first));
        // Answers to an earlier batch whose reading failed must not be taken for this one's.
        self.socket.answers().map_err(CommitError::Send)?;
        self.socket.send(&batch.bytes).map_err(CommitError::Send)?;
        let (answers, lost) = self.socket.answers().map_err(CommitError::Receive)?;
        let mut confirmed = false;
        let mut rejections = Vec::new();
        for answer in answers.into_iter().filter(|answer| batch.contains(answer.sequence)) {
            if answer.errno == 0 {
                confirmed |= answer.sequence == batch.last_sequence();
                continue;
            }
            let index = batch.op_of(answer.sequence);
            let op = index.map_or_else(|| "the transaction as a whole".into(), name);
            let rejection = Rejection { index, op, errno: answer.errno, text: answer.text };
            // An operation of many messages is refused once, not once for each.
            if rejections.last() != Some(&rejection) {
                rejections.push(rejection);
            }
        }
        match (rejections.is_empty(), confirmed && !lost) {
            (false, _) => Err(CommitError::Refused { rejections, incomplete: lost }),
            (true, true) => Ok(()),
            (true, false) => Err(CommitError::Unconfirmed),
        }
    }

    fn table(&mut self) -> Result<Option<(Standing, bool)>, ReadError> {
        let attributes = vec![TableAttribute::Name(self.table.to_string())];
        let request = self.message(NfTablesMessage::GetTable(TableMessage { attributes }));
        let mut header = None;
        let reply = self.socket.dump(
            NLM_F_REQUEST | NLM_F_ACK,
            &request,
            &mut header,
            |_| {},
            |header, message| {
                *header = Some(decode::table(message)?);
                Ok(())
            },
        );
        match reply {
            Err(ReadError::Refused(nix::libc::ENOENT)) => return Ok(None),
            other => other?,
        }
        Ok(header.map(|(flags, owner)| (self.standing_of(flags, owner), flags & uapi::table::F_DORMANT != 0)))
    }

    fn standing_of(&self, flags: u32, owner: Option<u32>) -> Standing {
        let ownership = flags & (uapi::table::F_OWNER | uapi::table::F_PERSIST);
        match owner {
            Some(port) if port != self.socket.port() => Standing::Foreign { port },
            _ if ownership == self.flags => Standing::Ours,
            _ if ownership == uapi::table::F_PERSIST && self.flags != 0 => Standing::Orphan,
            _ => Standing::Unowned,
        }
    }

    fn elements(&mut self, content: &mut Content, set: &Name) -> Result<(), ReadError> {
        let attributes =
            vec![SetElementList::Table(self.table.to_string()), SetElementList::Set(set.to_string())];
        let mut elements = decode::SetElements::default();
        self.dump(
            NfTablesMessage::GetSetElement(SetElementMessage { attributes }),
            &mut elements,
            decode::SetElements::clear,
            decode::SetElements::message,
        )?;
        content.elements(set, elements);
        Ok(())
    }

    fn dump<S>(
        &mut self,
        request: NfTablesMessage,
        state: &mut S,
        restart: impl Fn(&mut S),
        each: impl Fn(&mut S, &Message<'_>) -> Result<(), Malformed>,
    ) -> Result<(), ReadError> {
        let request = self.message(request);
        self.socket.dump(NLM_F_REQUEST | NLM_F_DUMP, &request, state, restart, each)
    }

    fn message(&self, inner: NfTablesMessage) -> NetfilterMessage {
        NetfilterMessage::new(header(self.family), inner)
    }
}
