//! The ruleset without a kernel: what is rendered, what it does to packets, and how one becomes another.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod build;
mod golden;
mod holes;
mod oracle;
mod plans;
mod random;
mod strict;
mod verdicts;
