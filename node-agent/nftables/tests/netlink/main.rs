//! The netlink layer against the real kernel, in network namespaces of its own. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../packets/netns.rs"]
#[allow(dead_code, reason = "these tests need less of it than the packet tests do")]
mod netns;
mod sample;

mod codec;
mod conntrack;
mod corrupt;
mod independent;
mod limits;
mod ownership;
mod refusals;
mod round_trip;
mod watch;
