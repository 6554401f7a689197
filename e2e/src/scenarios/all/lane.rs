//! One lane: a bed of its own, Selvage installed on it, and scenarios one after the other.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::Context;
use selvage_e2e::{Backend, Cluster, Progress, Spec, cache, down, up};

use crate::cases::Choice;
use crate::product::{self, Images, NAMESPACE};
use crate::{Outcome, Scenario};

/// How many nodes each bed has.
pub const NODES: u8 = 3;
/// Lines of each log that a failure shows.
const TAIL: &str = "--tail=40";

/// What runs on one bed.
#[derive(Debug)]
pub struct Lane {
    /// Its name in every line that it prints, and the end of its bed's.
    pub name: &'static str,
    /// How flannel moves packets.
    pub backend: Backend,
    /// With the upstream suite beside them, which waits more than it works; without these there is no upstream suite.
    beside_upstream: &'static [Scenario],
    /// After that, each with the bed for itself.
    alone: &'static [Scenario],
}

/// On VXLAN everything; on host-gw what depends on the way that packets take. The longest comes first, and `rights` on a
/// bed that has seen every kind of object come and go, before the roles themselves go and come back.
pub const LANES: [Lane; 4] = [
    Lane {
        name: "vxlan-1",
        backend: Backend::Vxlan,
        beside_upstream: &[],
        alone: &[
            Scenario::Kinds,
            Scenario::Endpoints,
            Scenario::Rights,
            Scenario::Removal,
            Scenario::Faults(Choice::ALL),
        ],
    },
    Lane {
        name: "vxlan-2",
        backend: Backend::Vxlan,
        beside_upstream: &[],
        alone: &[Scenario::FaultsControl(Choice::ALL)],
    },
    Lane {
        name: "vxlan-3",
        backend: Backend::Vxlan,
        beside_upstream: &[
            Scenario::Walkthrough,
            Scenario::Services,
            Scenario::Matrix,
            Scenario::BadInput,
            Scenario::Recipes,
        ],
        alone: &[Scenario::Lifecycle],
    },
    Lane {
        name: "host-gw",
        backend: Backend::HostGw,
        beside_upstream: &[Scenario::Walkthrough, Scenario::Services],
        alone: &[],
    },
];

impl Lane {
    fn bed(&self) -> String {
        // Not that of the one that people play with.
        format!("test-{}", self.name)
    }

    /// Where a lane leaves how its scenarios ended; no bed's logs have a file of that name.
    pub fn report(&self) -> PathBuf {
        cache::root().join("logs").join(format!("{}.outcomes.json", self.bed()))
    }

    /// Runs everything; the bed is taken down whatever happens.
    pub fn run(&self, images: &Images) -> anyhow::Result<ExitCode> {
        let mut outcomes = Vec::new();
        let result = self.on_a_bed(images, &mut outcomes);
        let taken_down = down(&self.bed());
        let report = self.report();
        fs::write(&report, serde_json::to_vec(&outcomes)?).with_context(|| report.display().to_string())?;
        result?;
        taken_down?;
        let failed = outcomes.iter().any(|outcome| outcome.failed.is_some());
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn on_a_bed(&self, images: &Images, outcomes: &mut Vec<Outcome>) -> anyhow::Result<()> {
        let progress = Progress::default();
        progress.step(format_args!("a bed with {}", self.backend.flannel_name()));
        let start = Instant::now();
        up(&Spec { name: self.bed(), nodes: NODES, backend: self.backend }, &progress)?;
        let cluster = Cluster::of_bed(&self.bed())?;
        let installed = product::install(&cluster, images, &progress);
        let install = Outcome::of(self.name, "up and install", start, installed);
        let failed = install.failed.is_some();
        note(&cluster, outcomes, install)?;
        if failed {
            return Ok(());
        }
        let carry_out = |scenario: Scenario| scenario.carry_out(&cluster, images, self.name);
        if !self.beside_upstream.is_empty() {
            let upstream = thread::scope(|scope| {
                let upstream = scope.spawn(|| carry_out(Scenario::Upstream));
                for scenario in self.beside_upstream {
                    note(&cluster, outcomes, carry_out(*scenario))?;
                }
                upstream.join().map_err(|_| anyhow::anyhow!("the upstream suite's thread panicked"))
            })?;
            note(&cluster, outcomes, upstream)?;
        }
        for scenario in self.alone {
            note(&cluster, outcomes, carry_out(*scenario))?;
        }
        Ok(())
    }
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
