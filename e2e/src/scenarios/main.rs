//! `selvage-scenarios`: what Selvage promises, tried with real packets on a cluster.
//!
//! On a cluster of the test bed by default; with `--external` on the one that KUBECONFIG names. Each scenario makes
//! its own namespaces and removes them.
#![forbid(unsafe_code)]

mod all;
mod bad_input;
mod cases;
mod checks;
mod control;
mod endpoints;
mod faults;
mod kinds;
mod latency;
mod lifecycle;
mod matrix;
mod netns;
mod pods;
mod probe;
mod product;
mod recipes;
mod rights;
mod services;
mod status;
mod table;
mod traffic;
mod upstream;
mod walkthrough;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, Subcommand};
use selvage_e2e::{Cluster, Progress, interrupt};
use serde::{Deserialize, Serialize};

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
    #[command(flatten)]
    One(Scenario),
    /// Latencies and memory, as JSON lines.
    BenchCluster(latency::Args),
    /// Memory and processor time while pods come and go, as JSON lines; fails where they grow.
    Soak(control::soak::Args),
    /// Every scenario, on beds that are made for it and taken down.
    All(all::Choice),
}

/// What can be tried on a cluster on which Selvage is installed.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Scenario {
    /// The user's first hour, with a table of what was expected and what was seen.
    Walkthrough,
    /// Every pod to every pod, in both families, under one policy after the other.
    Matrix,
    /// Services, node ports, nodes and the host network, in both families.
    Services,
    /// Pods that terminate, finish, change labels or get another's address, and what they send first.
    Endpoints,
    /// Manifests and policies without a sensible meaning, and a stolen token of an agent.
    BadInput,
    /// Every kind of policy and set, with tiers and masquerade.
    Kinds,
    /// The recipes of the documents, applied as they stand.
    Recipes,
    /// Upgrade, rollback and failures, with traffic all the while.
    Lifecycle,
    /// Strangers at the table, uninstall and reinstall, with and without Helm.
    Removal,
    /// Faults on purpose, with every packet's fate.
    Faults(cases::Choice<faults::Case>),
    /// Faults of operators, API server, etcd, nodes and releases, with every packet's fate.
    FaultsControl(cases::Choice<control::Case>),
    /// What operator and agents may do, and what they have done: after the others, on a bed.
    Rights,
    /// The NetworkPolicy specs of Kubernetes.
    Upstream,
}

/// How a scenario ended.
#[derive(Serialize, Deserialize)]
struct Outcome {
    place: String,
    name: String,
    seconds: f64,
    failed: Option<String>,
}

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
    if let Command::All(choice) = &cli.command {
        return all::run(choice, &cli.images);
    }
    let cluster = match &cli.external {
        Some(kubeconfig) => Cluster::external(kubeconfig)?,
        None => Cluster::of_bed(&cli.name)?,
    };
    match &cli.command {
        Command::Install => product::install(&cluster, &cli.images, &Progress::default())?,
        Command::One(scenario) => {
            return Ok(summary(&[scenario.carry_out(&cluster, &cli.images, &cli.name)]));
        }
        Command::BenchCluster(args) => latency::run(&cluster, *args)?,
        Command::Soak(args) => control::soak::run(&cluster, *args)?,
        Command::All(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The last line counts as test runners do.
fn summary(outcomes: &[Outcome]) -> ExitCode {
    for Outcome { place, name, seconds, failed } in outcomes {
        let word = if failed.is_none() { "ok" } else { "FAILED" };
        println!("{place:<10} {name:<16} {word:<7} {seconds:6.1} s");
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failed.is_some()).count();
    println!("{} passed, {failed} failed", outcomes.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Walkthrough => "walkthrough",
            Self::Matrix => "matrix",
            Self::Services => "services",
            Self::Endpoints => "endpoints",
            Self::BadInput => "bad-input",
            Self::Kinds => "kinds",
            Self::Recipes => "recipes",
            Self::Lifecycle => "lifecycle",
            Self::Removal => "removal",
            Self::Faults(_) => "faults",
            Self::FaultsControl(_) => "faults-control",
            Self::Rights => "rights",
            Self::Upstream => "upstream",
        }
    }

    fn carry_out(self, cluster: &Cluster, images: &Images, place: &str) -> Outcome {
        println!("scenario {} on {place}", self.name());
        let start = Instant::now();
        let result = match self {
            Self::Walkthrough => walkthrough::run(cluster),
            Self::Matrix => matrix::run(cluster),
            Self::Services => services::run(cluster),
            Self::Endpoints => endpoints::run(cluster),
            Self::BadInput => bad_input::run(cluster),
            Self::Kinds => kinds::run(cluster),
            Self::Recipes => recipes::run(cluster),
            Self::Lifecycle => lifecycle::run(cluster, images),
            Self::Removal => lifecycle::removal(cluster, images),
            Self::Faults(choice) => faults::run(cluster, images, &choice),
            Self::FaultsControl(choice) => control::run(cluster, images, &choice),
            Self::Rights => rights::run(cluster),
            Self::Upstream => upstream::run(cluster),
        };
        Outcome::of(place, self.name(), start, result)
    }
}

impl Outcome {
    /// What came of a scenario that began at `start`, which is said.
    fn of(place: &str, name: &str, start: Instant, result: anyhow::Result<()>) -> Self {
        let failed = result.err().map(|error| format!("{error:#}"));
        let seconds = start.elapsed().as_secs_f64();
        match &failed {
            None => println!("scenario {name} ok, {seconds:.1} s"),
            Some(error) => println!("scenario {name} FAILED, {seconds:.1} s\n  {error}"),
        }
        Self { place: place.to_owned(), name: name.to_owned(), seconds, failed }
    }
}
