//! The house's own commands: `cargo xtask help` lists them.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use xtask::{bench, generate, images, install, mutants, stages};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Generators and checks of the Selvage workspace")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the files that are made from the Rust types
    Generate,
    /// Fail if a generated file is not what `generate` would write
    Check,
    /// Build the images of operator and agent as docker-archives in out/images
    Images(images::Args),
    /// Render the chart as one manifest for `kubectl apply`
    InstallYaml(install::Args),
    /// Run the benchmarks, and print each as a JSON line beside its baseline
    Bench(bench::Args),
    /// Put deliberate faults into a copy of the tree, and fail where no test notices one
    Mutants(mutants::Args),
    /// Run every stage of `make test`, and say how long each took
    Stages(stages::Args),
}

fn main() -> Result<()> {
    let root = root()?;
    match Args::parse().command {
        Command::Generate => generate::write(&root),
        Command::Check => generate::check(&root),
        Command::Images(args) => images::build(&root, &args),
        Command::InstallYaml(args) => install::write(&root, &args),
        Command::Bench(args) => bench::run_all(&root, &args),
        Command::Mutants(args) => mutants::run(&root, &args),
        Command::Stages(args) => stages::run(&root, &args),
    }
}

/// The tree that is worked on, by cargo's word while it runs this: a checkout elsewhere that shares the target folder may
/// have built it, and cargo takes it for up to date.
fn root() -> Result<PathBuf> {
    let given = std::env::var_os("CARGO_MANIFEST_DIR");
    let folder = given.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    Ok(folder.parent().context("the workspace has no root folder")?.to_owned())
}
