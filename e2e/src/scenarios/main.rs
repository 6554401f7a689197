//! `selvage-scenarios`: what Selvage promises, tried with real packets on a cluster.
//!
//! On a cluster of the test bed by default; with `--external` on the one that KUBECONFIG names. Each scenario makes
//! its own namespaces and removes them.
#![forbid(unsafe_code)]

mod checks;
mod matrix;
mod netns;
mod pods;
mod probe;
mod product;
mod services;
mod status;
mod table;
mod traffic;
mod upstream;
mod walkthrough;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use selvage_e2e::{Cluster, Progress, interrupt};

use product::Images;

/// Selvage's scenarios.
#[derive(Parser)]
#[command(name = "selvage-scenarios", version)]
struct Cli {
    /// The bed whose cluster is used.
    #[arg(long, global = true, default_value = "demo", env = "SELVAGE_BED")]
    name: String,
    /// Use the cluster that this kubeconfig leads to instead of a bed's.
    #[arg(long, global = true, value_name = "KUBECONFIG")]
    external: Option<PathBuf>,
    #[command(flatten)]
    images: Images,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install Selvage with Helm (or upgrade what is there) and wait until every node is programmed.
    Install,
    /// The user's first hour, with a table of what was expected and what was seen.
    Walkthrough,
    /// Every pod to every pod, in both families, under one policy after the other.
    Matrix,
    /// Services, node ports, nodes and the host network, in both families.
    Services,
    /// The NetworkPolicy specs of Kubernetes.
    Upstream,
}

/// A scenario: its name and what it does.
type Scenario = (&'static str, fn(&Cluster) -> anyhow::Result<()>);

fn main() -> ExitCode {
    match carry_out(&Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(cli: &Cli) -> anyhow::Result<ExitCode> {
    ctrlc::set_handler(interrupt).context("signal handler")?;
    let cluster = match &cli.external {
        Some(kubeconfig) => Cluster::external(kubeconfig)?,
        None => Cluster::of_bed(&cli.name)?,
    };
    match &cli.command {
        Command::Install => {
            product::install(&cluster, &cli.images, &Progress::default())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Walkthrough => Ok(run(&cluster, &[("walkthrough", walkthrough::run)])),
        Command::Matrix => Ok(run(&cluster, &[("matrix", matrix::run)])),
        Command::Services => Ok(run(&cluster, &[("services", services::run)])),
        Command::Upstream => Ok(run(&cluster, &[("upstream", upstream::run)])),
    }
}

/// Runs scenarios one after the other; the last line counts them as test runners do.
fn run(cluster: &Cluster, scenarios: &[Scenario]) -> ExitCode {
    let mut failed = 0;
    for (name, scenario) in scenarios {
        let start = Instant::now();
        println!("scenario {name}");
        match scenario(cluster) {
            Ok(()) => println!("scenario {name} ... ok ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(error) => {
                failed += 1;
                println!("scenario {name} ... FAILED ({:.1} s)\n  {error:#}", start.elapsed().as_secs_f64());
            }
        }
    }
    println!("{} passed, {failed} failed", scenarios.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
