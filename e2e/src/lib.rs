//! The test bed: a real Kubernetes with real flannel in network namespaces of one Linux machine, and the handle
//! with which tests use it or any other cluster.
//!
//! [`up`] makes a [`Bed`], [`down`] removes it, [`Cluster`] is what scenarios talk to. The program `selvage-bed`
//! is the same for people.
#![forbid(unsafe_code)]

mod archive;
mod bed;
pub mod cache;
mod cluster;
mod command;
mod error;
mod process;
mod progress;
pub mod setup;

pub use bed::{
    Backend, Bed, ComponentState, MachineState, POD_NETWORKS, SERVICE_NETWORKS, Spec, beds_that_fit, down,
    raise as raise_limits, up,
};
pub use cluster::{Cluster, Node};
pub use command::{Output, interrupt, output, run, run_here, run_with_input, wait_for};
pub use error::{Error, Result};
pub use progress::Progress;

use std::env;
use std::path::PathBuf;

/// This crate's folder in the tree that is worked on.
///
/// Cargo tells what it runs which tree that is. What was noted when the program was built may be another: a checkout
/// elsewhere that shares the target folder, whose programs cargo takes for up to date.
pub fn crate_folder() -> PathBuf {
    let running = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let mut candidates =
        running.ancestors().map(|folder| folder.join("e2e")).filter(|folder| folder.is_absolute());
    candidates
        .find(|folder| folder.join("kubernetes").is_dir())
        .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into())
}

/// What `selvage-bed machine` does in the processes that a bed is made of; of no use to anybody else.
pub mod machine {
    use crate::bed::init;
    use crate::bed::layout::Layout;
    use crate::error::Result;

    /// Makes the namespaces of a machine, and leaves its process 1 in them.
    pub fn start(bed: &str, machine: &str) -> Result<()> {
        init::start(&Layout::new(bed)?, machine)
    }

    /// Is process 1 of a machine.
    pub fn init(bed: &str, machine: &str) -> Result<()> {
        init::init(&Layout::new(bed)?, machine)
    }
}
