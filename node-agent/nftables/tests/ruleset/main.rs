//! The ruleset: what is rendered, what it does to packets, how one becomes another, and that the kernel takes it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod build;
mod golden;
mod holes;
mod kernel;
#[path = "../packets/netns.rs"]
#[allow(dead_code, reason = "these tests need less of it than the packet tests do")]
mod netns;
mod oracle;
mod owners;
mod plans;
mod random;
mod strict;
mod verdicts;
