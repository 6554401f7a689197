//! The pure heart of Selvage: what policies mean, and what each node needs to enforce them.
//!
//! Nothing here knows Kubernetes, a clock, a file or a socket. Objects come in as [`model`] types, changes go
//! through the incremental [`engine`], and [`compiled`] types come out: one node policy per node and the address
//! groups that they name.

#![forbid(unsafe_code)]

mod compile;
pub mod compiled;
pub mod delta;
pub mod engine;
mod hash;
mod index;
pub mod model;
pub mod oracle;
pub mod selector;
mod shared;
pub mod slices;
pub mod tier;
