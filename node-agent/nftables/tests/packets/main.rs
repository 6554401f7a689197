//! Real packets against the real kernel, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod netns;
mod open;
mod probe;
mod wire;
