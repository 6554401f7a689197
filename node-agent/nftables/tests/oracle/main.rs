//! The whole way against the oracle: objects, engine, wire codec, ruleset, tracer must say of every packet what the oracle
//! reads in the same objects.
//!
//! A case is one cluster and one packet, asked at every node that the packet passes. `SELVAGE_ORACLE_CLUSTERS` makes a long
//! run of it, `SELVAGE_ORACLE_SEED` repeats one: both are printed by every run. What failed is shrunk and its seed kept in
//! `regressions.txt` beside this file, which each run tries first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../../../policy/tests/common/mod.rs"]
mod common;
mod coverage;
mod node;
mod passages;
mod property;
mod seed;
