//! The kernel's side of nftables over netlink.
//!
//! [`Connection`] is one long-lived socket for one table: it commits transactions, reads the table back into
//! the model and reads counters. [`Watch`] hears of changes by others. [`conntrack`] ends the connections of an
//! address that changes hands.
//!
//! Messages are encoded with `netlink-packet-netfilter` behind our own types, and decoded by checked code of our own:
//! the crate's decoder takes quadratic time for sets, and panics on attributes that are too short.

pub mod conntrack;

mod connection;
mod decode;
mod encode;
mod error;
mod key;
mod socket;
mod uapi;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use connection::{Connection, Counts, Ownership, Settings, Standing, Table};
pub use decode::recorded;
pub use encode::encoded;
pub use error::{CommitError, InvalidOp, Malformed, ReadError, Rejection};
pub use watch::{Change, Watch};

/// The id of a rule that was read but not understood begins with this; such a rule equals no wish, because no rule
/// with such an id is ever committed.
pub const UNREADABLE: &str = "unreadable: ";

/// Longest id of a rule, in bytes.
pub const RULE_ID_BYTES: usize = 64;
