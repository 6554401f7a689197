//! Real packets against the real kernel, without a cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod bed;
mod connections;
mod egress;
mod holes;
mod ingress;
mod locks;
mod matrix;
mod neighbours;
mod netns;
mod open;
mod probe;
mod reuse;
mod swaps;
mod unusual;
mod wire;
mod world;
