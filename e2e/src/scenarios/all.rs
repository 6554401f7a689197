//! Everything, on beds of its own: what `make test` runs.

use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use clap::ValueEnum;
use selvage_e2e::{Backend, Cluster, Progress, Spec, down, up};

use crate::product::{self, Images, NAMESPACE};
use crate::{Outcome, Scenario};

/// The bed's name: not that of the one that people play with.
const BED: &str = "test";
/// Lines of each log that a failure shows.
const TAIL: &str = "--tail=40";

/// How flannel moves packets in the beds.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Backends {
    Vxlan,
    HostGw,
    Both,
}

impl Backends {
    fn list(self) -> &'static [Backend] {
        match self {
            Self::Vxlan => &[Backend::Vxlan],
            Self::HostGw => &[Backend::HostGw],
            Self::Both => &[Backend::Vxlan, Backend::HostGw],
        }
    }
}

/// What runs on a bed.
struct Plan {
    /// With the upstream suite beside them, which waits more than it works.
    beside_upstream: &'static [Scenario],
    /// After that, each with the bed for itself.
    alone: &'static [Scenario],
}

/// On VXLAN everything; on host-gw what depends on the way that packets take.
fn plan(backend: Backend) -> Plan {
    match backend {
        Backend::Vxlan => Plan {
            beside_upstream: &[
                Scenario::Walkthrough,
                Scenario::Services,
                Scenario::Matrix,
                Scenario::BadInput,
                Scenario::Recipes,
            ],
            alone: &[Scenario::Kinds, Scenario::Endpoints, Scenario::Lifecycle, Scenario::Removal],
        },
        Backend::HostGw => Plan { beside_upstream: &[Scenario::Walkthrough, Scenario::Services], alone: &[] },
    }
}

/// Runs all scenarios; each bed is taken down whatever happens.
pub fn run(backends: Backends, images: &Images) -> anyhow::Result<ExitCode> {
    let mut outcomes = Vec::new();
    for backend in backends.list() {
        let result = on_a_bed(*backend, images, &mut outcomes);
        let taken_down = down(BED);
        result?;
        taken_down?;
    }
    Ok(crate::summary(&outcomes))
}

fn on_a_bed(backend: Backend, images: &Images, outcomes: &mut Vec<Outcome>) -> anyhow::Result<()> {
    let progress = Progress::default();
    progress.step(format_args!("a bed with {}", backend.flannel_name()));
    let start = Instant::now();
    up(&Spec { name: BED.to_owned(), nodes: 3, backend }, &progress)?;
    let cluster = Cluster::of_bed(BED)?;
    let mut install = Outcome::new(backend.flannel_name(), "up and install", start);
    if let Err(error) = product::install(&cluster, images, &progress) {
        show(&cluster);
        install.failed = Some(format!("{error:#}"));
        outcomes.push(install);
        return Ok(());
    }
    install.seconds = start.elapsed().as_secs_f64();
    outcomes.push(install);
    let Plan { beside_upstream, alone } = plan(backend);
    let carry_out = |scenario: Scenario| scenario.carry_out(&cluster, images, backend.flannel_name());
    let upstream = thread::scope(|scope| {
        let upstream = scope.spawn(|| carry_out(Scenario::Upstream));
        for scenario in beside_upstream {
            note(&cluster, outcomes, carry_out(*scenario))?;
        }
        upstream.join().map_err(|_| anyhow::anyhow!("the upstream suite's thread panicked"))
    })?;
    note(&cluster, outcomes, upstream)?;
    for scenario in alone {
        note(&cluster, outcomes, carry_out(*scenario))?;
    }
    Ok(())
}

/// Keeps an outcome; one that is not good is shown with what is around it.
fn note(cluster: &Cluster, outcomes: &mut Vec<Outcome>, outcome: Outcome) -> anyhow::Result<()> {
    let failed = outcome.failed.is_some();
    outcomes.push(outcome);
    if failed {
        // On Ctrl-C nothing more is asked of the cluster.
        cluster.kubectl(&["version"])?;
        show(cluster);
    }
    Ok(())
}

/// What somebody would ask for first after a failure.
fn show(cluster: &Cluster) {
    let questions: [&[&str]; 4] = [
        &["get", "nodepolicies,networkpolicystatuses,pods", "--all-namespaces", "-o", "wide"],
        &["logs", "-n", NAMESPACE, TAIL, "--prefix", "-l", "app.kubernetes.io/component=operator"],
        &["logs", "-n", NAMESPACE, TAIL, "--prefix", "-l", "app.kubernetes.io/component=agent"],
        &["get", "events", "--all-namespaces", "--field-selector=type!=Normal"],
    ];
    for question in questions {
        println!("--- kubectl {}", question.join(" "));
        match cluster.kubectl(question) {
            Ok(answer) => println!("{}{}", answer.stdout, answer.stderr),
            Err(error) => println!("{error}"),
        }
    }
    if let Some(bed) = cluster.bed() {
        println!("{}", bed.log_tails(8));
    }
}
