//! From what nodes report to conditions: NetworkPolicyStatus of every NetworkPolicy, and the IPPools.
//!
//! [`Board`] is pure: it is told of policies, reports and agents, and says which status to write next. [`Writer`]
//! sends, and tells of policies that are not accepted by an Event.

mod board;
mod judge;
mod node;
mod pace;
mod pools;
mod writer;

pub use board::{Board, StatusWrite};
pub use node::Published;
pub use pools::{PoolWrite, Pools};
pub use writer::{Outcome, Writer};

#[cfg(test)]
mod tests;
