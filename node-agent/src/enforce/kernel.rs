//! The kernel, as the enforcing loop needs it.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_nftables::model::{Name, TableFamily};
use selvage_nftables::netlink::conntrack::Conntrack;
use selvage_nftables::netlink::{Change, CommitError, Connection, Counts, ReadError, Settings, Table, Watch};
use selvage_nftables::transaction::Transaction;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// What the enforcing loop asks of the kernel. Calls block while the kernel works.
pub trait Kernel: Send + 'static {
    /// Applies a transaction to the table of this family, all of it or nothing.
    ///
    /// # Errors
    /// After any error the table must be read before the next transaction.
    fn commit(&mut self, family: TableFamily, transaction: &Transaction) -> Result<(), KernelError>;

    /// The table of this family; None where there is none.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    fn read(&mut self, family: TableFamily) -> Result<Option<Table>, KernelError>;

    /// What the rules of the table of this family have counted, by chain and rule id.
    ///
    /// # Errors
    /// Where the kernel can't be asked.
    fn counters(&mut self, family: TableFamily) -> Result<HashMap<(Name, Arc<str>), Counts>, KernelError>;

    /// Forgets the connections of these addresses and says how many there were.
    ///
    /// # Errors
    /// Where the kernel refuses; some connections may be left.
    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError>;
}

/// What the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A transaction.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// A question.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Forgetting connections.
    #[error("connection tracking: {0}")]
    Conntrack(#[source] ReadError),
    /// No socket.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// Somebody else owns the table.
    #[error("the table is owned by another process (netlink port {0})")]
    Foreign(u32),
    /// The call was lost with its thread.
    #[error("a kernel call did not come back")]
    Lost,
    /// A stand-in for the kernel refused.
    #[error("{0}")]
    Other(String),
}

/// The kernel itself.
#[derive(Debug)]
pub struct Netlink {
    inet: Connection,
    bridge: Connection,
    conntrack: Conntrack,
}

impl Netlink {
    /// Opens the sockets for the tables of both families; the settings' own family does not matter. Needs
    /// CAP_NET_ADMIN.
    ///
    /// # Errors
    /// Where a socket can't be opened or the kernel has no nftables.
    pub fn open(settings: &Settings) -> Result<Self, KernelError> {
        let open = |family| Connection::open(&Settings { family, ..settings.clone() });
        Ok(Self {
            inet: open(TableFamily::Inet)?,
            bridge: open(TableFamily::Bridge)?,
            conntrack: Conntrack::open()?,
        })
    }

    /// Hears of changes by others, each sent to the channel, until the receiver is gone.
    ///
    /// # Errors
    /// Where the socket can't be opened.
    pub fn subscribe(&self, changes: mpsc::Sender<Change>) -> Result<(), KernelError> {
        for connection in [&self.inet, &self.bridge] {
            #[expect(
                deprecated,
                reason = "its successor is unsafe for types that could swap their descriptor; Watch keeps its own"
            )]
            let watch = AsyncFd::new(connection.subscribe()?)?;
            tokio::spawn(listen(watch, changes.clone()));
        }
        Ok(())
    }

    fn connection(&mut self, family: TableFamily) -> &mut Connection {
        match family {
            TableFamily::Inet => &mut self.inet,
            TableFamily::Bridge => &mut self.bridge,
        }
    }
}

impl Kernel for Netlink {
    fn commit(&mut self, family: TableFamily, transaction: &Transaction) -> Result<(), KernelError> {
        Ok(self.connection(family).commit(transaction)?)
    }

    fn read(&mut self, family: TableFamily) -> Result<Option<Table>, KernelError> {
        Ok(self.connection(family).read()?)
    }

    fn counters(&mut self, family: TableFamily) -> Result<HashMap<(Name, Arc<str>), Counts>, KernelError> {
        Ok(self.connection(family).counters()?)
    }

    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
        self.conntrack.delete(addresses).map_err(KernelError::Conntrack)
    }
}

async fn listen(mut watch: AsyncFd<Watch>, changes: mpsc::Sender<Change>) {
    loop {
        let heard = tokio::select! {
            () = changes.closed() => return,
            ready = watch.readable_mut() => ready.and_then(|mut ready| {
                let heard = ready.get_inner_mut().poll();
                ready.clear_ready();
                heard
            }),
        };
        let change = match heard {
            Ok(None) => continue,
            Ok(Some(change)) => change,
            Err(error) => {
                tracing::error!(%error, "changes by others can't be heard any more; the table is still read regularly");
                return;
            }
        };
        // A full channel already asks for the table to be read.
        let _ = changes.try_send(change);
    }
}
