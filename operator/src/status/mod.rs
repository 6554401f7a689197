//! From what nodes report to conditions on every object that people write.
//!
//! [`Board`] is pure: it is told of objects, reports and agents, and says which status to write next. [`Writer`]
//! sends, and tells of what somebody must act on by an Event.

mod about;
mod alarms;
mod board;
mod judge;
mod ledger;
mod node;
mod pace;
mod policies;
mod pools;
mod progress;
mod sets;
mod tiers;
mod writer;

pub use about::{About, Resource, Said};
pub use board::{Board, Publication, View};
pub use ledger::{News, StatusWrite};
pub use node::Published;
pub use writer::{Outcome, Writer};

#[cfg(test)]
mod tests;
