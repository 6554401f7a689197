//! Selvage's node agent: watches what the operator wants of this node, adds what only the node knows, keeps the
//! kernel's rules equal to both, and reports.
#![forbid(unsafe_code)]

pub mod args;
pub mod facts;
pub mod logs;
