//! Leader election by a Lease, and the fence that keeps a former leader from writing.
//!
//! [`decide`] is pure; [`Elector`] is the shell around it. The rules are client-go's: a lease has run out when its
//! record did not change for its duration by the *observer's* clock (clocks of different machines are never
//! compared), every take-over and renewal is a PUT with the resourceVersion that the decision was made on, and a
//! leader stops writing well before others may take over ([`Terms::renew_within`]).
//!
//! The lease also tells of an API server that was restored from a backup: its resourceVersion falls. Nothing that a
//! process remembers is true of such a history, so that the process ends, and the next begins with new lists.

mod decide;
mod elector;

pub use decide::{Record, Seen, Step, Terms, decide};
pub use elector::{Elector, Error, Fence, identity};
