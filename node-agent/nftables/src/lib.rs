//! Selvage's nftables: what the ruleset of a node must be, how it differs from what is there, and how the kernel is
//! told and asked.
//!
//! [`model`] is one table as plain data. Everything else makes, compares, moves or reads such data: the renderer
//! makes it from a compiled node policy, the diff turns two of them into transactions, the netlink layer carries
//! transactions to the kernel and reads the table back.

#![forbid(unsafe_code)]

pub mod diff;
pub mod dump;
pub mod fake;
pub mod model;
pub mod netlink;
pub mod render;
pub mod sorted;
pub mod trace;
pub mod transaction;
