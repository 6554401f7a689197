//! The operator: API objects in, NodePolicies, AddressGroups and conditions out.
//!
//! One task owns all state ([`core`]). Watches send it what changed, and it hands out one write at a time to be sent
//! beside it; everything it decides is a pure function of what it was told.
#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod args;
pub mod convert;
pub mod core;
pub mod lease;
pub mod metrics;
pub mod publish;
pub mod run;
pub mod status;
pub mod teardown;
pub mod upkeep;
pub mod watch;
