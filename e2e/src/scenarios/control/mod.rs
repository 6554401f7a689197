//! Faults of what is around the agents: operators, API server, etcd, nodes, releases. One case after the other, while the
//! [witness](crate::witness) watches.

mod away;
mod churn;
mod ghost;
mod leaders;
mod nodes;
mod restore;
pub mod soak;
mod upgrade;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use selvage_e2e::{Cluster, Progress};
use serde_json::{Value, json};

use crate::cases::Choice;
use crate::product::{self, Images};
use crate::status;
use crate::witness::{Scene, Witness};

/// The namespace of the witness' pods.
const SPACE: &str = "control";
/// How long a component may take to come back on a loaded machine, in seconds.
const SLOW: u64 = 120;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The leader killed with -9, while policies change.
    LeaderKilled,
    /// The leader stopped for longer than its lease lasts, and resumed.
    LeaderPaused,
    /// The lease given to the standby by hand, so that two operators believe to lead.
    TwoLeaders,
    /// The API server away, while agents are killed and start again.
    ApiServerAway,
    /// A node without a way to the API server, on which the agent is killed.
    NodeCut,
    /// A release of the chart before this one, the upgrade to this one, and the way back.
    Upgrade,
    /// Pods that come and go, with addresses that are used again at once.
    Churn,
    /// A node's power cut, and that of all nodes at once.
    NodesRestarted,
    /// etcd set back to an older state.
    Restore,
}

/// What every case works with.
pub struct World<'a> {
    cluster: &'a Cluster,
    images: &'a Images,
    scene: Scene<'a>,
    /// None while its pods are made anew.
    witness: Option<Witness>,
    progress: Progress,
    long: bool,
}

/// The scenario.
pub fn run(cluster: &Cluster, images: &Images, choice: &Choice<Case>) -> anyhow::Result<()> {
    cluster.require_bed()?;
    let nodes = cluster.nodes()?;
    let [near, far, ..] = nodes.as_slice() else { bail!("this scenario needs two nodes") };
    let scene = Scene::build(cluster, SPACE, &near.name, &far.name)?;
    let witness = Some(Witness::start(&scene)?);
    let mut world =
        World { cluster, images, scene, witness, progress: Progress::default(), long: choice.long };
    let progress = world.progress;
    // Churn needs a machine for itself: beside other work an operator is minutes behind fifty pods a second.
    choice.carry_out(cluster, &progress, Case::Churn, |case| case.carry_out(&mut world))
}

impl Case {
    fn carry_out(self, world: &mut World<'_>) -> anyhow::Result<()> {
        match self {
            Self::LeaderKilled => leaders::killed(world),
            Self::LeaderPaused => leaders::paused(world),
            Self::TwoLeaders => leaders::two(world),
            Self::ApiServerAway => away::api_server(world),
            Self::NodeCut => away::node(world),
            Self::Upgrade => upgrade::there_and_back(world),
            Self::Churn => churn::reuse(world),
            Self::NodesRestarted => nodes::restarted(world),
            Self::Restore => restore::older(world),
        }
    }
}

impl World<'_> {
    /// The scene's policies in other words: another group, another chain, the same verdicts.
    fn reword(&self, round: u64) -> anyhow::Result<()> {
        let select = |key: &str, value: &str| match round % 2 {
            0 => json!({ "matchLabels": { key: value } }),
            _ => json!({ "matchExpressions": [
                { "key": key, "operator": "In", "values": [value, format!("{value}{round}")] },
            ] }),
        };
        let (server, friends) = (select("pod", "server"), select("role", "friend"));
        let items = [
            policy(
                "server",
                json!({
                    "podSelector": { "matchLabels": { "pod": "server" } }, "policyTypes": ["Ingress"],
                    "ingress": [{ "from": [{ "podSelector": friends }] }],
                }),
            ),
            policy(
                "friends",
                json!({
                    "podSelector": { "matchLabels": { "role": "friend" } }, "policyTypes": ["Egress"],
                    "egress": [{ "to": [{ "podSelector": server }] }],
                }),
            ),
        ];
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        self.cluster.apply(SPACE, &list.to_string())?;
        Ok(())
    }

    /// Waits until the scene's policies stand on every node as they are now.
    fn converged(&self) -> anyhow::Result<()> {
        for policy in ["server", "friends"] {
            status::programmed_within(self.cluster, SPACE, policy, SLOW)?;
        }
        Ok(())
    }

    fn witness(&self) -> anyhow::Result<&Witness> {
        self.witness.as_ref().context("no witness: its pods did not come back")
    }

    /// Traffic between pods that have new network namespaces.
    fn watch_anew(&mut self) -> anyhow::Result<()> {
        // The old one's ports are free before the new one asks for them.
        self.witness = None;
        self.scene.wait_ready()?;
        product::wait_ready(self.cluster)?;
        self.witness = Some(Witness::start(&self.scene)?);
        Ok(())
    }
}

/// A NetworkPolicy.
fn policy(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name }, "spec": spec,
    })
}

/// Sends a signal to a program's processes on a node, from the node: its process numbers are its own.
fn signal(cluster: &Cluster, node: &str, program: &str, signal: &str) -> anyhow::Result<()> {
    let script = format!(
        "found=1; for p in /proc/[0-9]*; do case $(readlink $p/exe) in \
         */{program}) kill -{signal} ${{p#/proc/}} && found=0;; esac; done; exit $found"
    );
    let done = cluster.require_bed()?.node_exec(node, &["sh", "-c", &script])?;
    ensure!(done.success(), "{node} has no {program} that runs: {}", done.stderr);
    Ok(())
}
