//! Generators and checks of the workspace.

#![forbid(unsafe_code)]

pub mod bench;
pub mod command;
pub mod generate;
pub mod images;
pub mod install;
pub mod mutants;
pub mod reference;
pub mod sbom;
pub mod stages;
pub mod tools;

use std::env;
use std::path::PathBuf;

/// The folder of everything that is expensive to make, shared with the Makefile and the test bed.
fn cache() -> PathBuf {
    env::var_os("SELVAGE_CACHE").map_or_else(|| PathBuf::from("/var/cache/selvage"), PathBuf::from)
}
