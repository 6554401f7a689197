//! The operator against an API server in memory: what is written, in which order, and what is not.
//!
//! These show decisions alone; a real API server is asked by the tests on the cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "tests fail by panicking, their helpers too"
)]

mod fake;
mod kinds;
mod publication;
mod replicas;
mod statuses;
mod upkeep;
mod world;
