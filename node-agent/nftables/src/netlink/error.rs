//! What can go wrong between the agent and the kernel.

use std::fmt;
use std::io;

pub use super::encode::InvalidOp;
pub use super::wire::Malformed;

/// A transaction that did not take effect, or may not have.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// An operation can't be expressed; nothing was sent.
    #[error("{op}: {reason}")]
    Invalid {
        /// The operation's place in the transaction.
        index: usize,
        /// The operation, named by its object.
        op: String,
        /// What is wrong with it.
        #[source]
        reason: InvalidOp,
    },
    /// The kernel refused the transaction; nothing changed.
    #[error("{}", refused(rejections, *incomplete))]
    Refused {
        /// Every operation that was refused, in order.
        rejections: Vec<Rejection>,
        /// True where more were refused than the kernel could report.
        incomplete: bool,
    },
    /// The kernel's answer was lost: the table must be read to know what it holds.
    #[error("the kernel did not confirm the transaction")]
    Unconfirmed,
    /// The socket failed before the kernel had the transaction.
    #[error("sending to nftables: {0}")]
    Send(#[source] io::Error),
    /// The socket failed before the kernel's answer came: the table must be read to know what it holds.
    #[error("receiving from nftables: {0}")]
    Receive(#[source] io::Error),
}

/// One operation that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The operation's place in the transaction; None where the transaction as a whole was refused.
    pub index: Option<usize>,
    /// The operation, named by its object.
    pub op: String,
    /// The error number (`errno`).
    pub errno: i32,
    /// What the kernel says about it, where it says something.
    pub text: Option<String>,
}

impl CommitError {
    /// True where it is not known whether the transaction took effect.
    pub fn outcome_unknown(&self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Receive(_))
    }

    /// True where an operation was refused with this error number.
    pub fn has_errno(&self, errno: i32) -> bool {
        matches!(self, Self::Refused { rejections, .. } if rejections.iter().any(|r| r.errno == errno))
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, io::Error::from_raw_os_error(self.errno))?;
        self.text.iter().try_for_each(|text| write!(f, ": {text}"))
    }
}

/// Rejections named in a message; the rest is counted.
const NAMED_REJECTIONS: usize = 5;

fn refused(rejections: &[Rejection], incomplete: bool) -> String {
    let mut text = String::from("the kernel refused the transaction: ");
    let named: Vec<_> = rejections.iter().take(NAMED_REJECTIONS).map(Rejection::to_string).collect();
    text += &named.join("; ");
    let rest = rejections.len().saturating_sub(NAMED_REJECTIONS);
    if incomplete {
        text += "; and more than could be reported";
    } else if rest > 0 {
        text += &format!("; and {rest} more");
    }
    text
}

/// The kernel could not be asked what it holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The socket failed.
    #[error("reading nftables: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused the request with this error number.
    #[error("reading nftables: {}", io::Error::from_raw_os_error(*.0))]
    Refused(i32),
    /// The kernel's reply can't be read.
    #[error("reading nftables: {0}")]
    Malformed(#[from] Malformed),
    /// The ruleset changed during every attempt.
    #[error("reading nftables: the ruleset changed during each of {0} attempts")]
    Unsteady(usize),
}
