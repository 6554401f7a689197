//! What the tests of this crate share: a plain copy of the cluster, what an engine says of it, and random clusters.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy does not know helpers of tests for tests")]

pub mod build;
pub mod evaluate;
pub mod random;
pub mod snapshot;
pub mod world;
