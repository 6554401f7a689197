//! Selvage's node agent: watches what the operator wants of this node, adds what only the node knows, keeps the
//! kernel's rules equal to both, and reports.
#![forbid(unsafe_code)]

pub mod admin;
pub mod args;
pub mod enforce;
pub mod facts;
pub mod logs;
pub mod metrics;
pub mod report;
pub mod run;
mod views;
pub mod watch;
