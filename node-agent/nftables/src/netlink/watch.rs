//! Hearing of changes that others make.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;

use super::decode;
use super::socket::{NetfilterSocket, is_overflow};
use super::uapi;
use super::wire::messages;
use crate::model::TableFamily;

/// A socket of its own in the group that hears of every change (`NFNLGRP_NFTABLES`), so that a flood of notices
/// never stands in the way of a transaction's answers.
///
/// It is not blocking: wait for its file descriptor to be readable, then [`Watch::poll`].
#[derive(Debug)]
pub struct Watch {
    socket: NetfilterSocket,
    family: TableFamily,
    table: Arc<str>,
    own_port: u32,
}

/// What happened to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Somebody else changed it.
    Foreign {
        /// Who, as `name (pid)`, where the kernel said so.
        by: BTreeSet<String>,
    },
    /// There was more to hear than there is room for: read the table to know.
    Unknown,
}

impl Watch {
    pub(super) fn open(family: TableFamily, table: Arc<str>, own_port: u32) -> io::Result<Self> {
        let mut socket = NetfilterSocket::open()?;
        socket.join(uapi::GROUP_NFTABLES)?;
        Ok(Self { socket, family, table, own_port })
    }

    /// Takes in all notices that are there; None where none of them is a change of this table by somebody else.
    ///
    /// # Errors
    /// The socket failed.
    pub fn poll(&mut self) -> io::Result<Option<Change>> {
        let (mut changed, mut unknown, mut by) = (false, false, BTreeSet::new());
        // A transaction's notices end with the new generation, which names the process.
        let mut foreign = false;
        loop {
            let datagram = match self.socket.receive(false) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(error) if is_overflow(&error) => {
                    unknown = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for message in messages(datagram) {
                let Ok(message) = message else {
                    unknown = true;
                    continue;
                };
                if message.port == self.own_port {
                    continue;
                }
                if let Some(process) = decode::process(&message) {
                    if std::mem::take(&mut foreign) {
                        by.insert(process);
                    }
                } else if decode::concerns(&message, self.family, &self.table) {
                    foreign = true;
                    changed = true;
                }
            }
        }
        Ok(match (unknown, changed) {
            (true, _) => Some(Change::Unknown),
            (false, true) => Some(Change::Foreign { by }),
            (false, false) => None,
        })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
