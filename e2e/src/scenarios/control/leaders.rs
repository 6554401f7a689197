//! What happens to the operators.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use selvage_e2e::{Cluster, wait_for};
use serde_json::{Value, json};

use super::{SLOW, World, signal};
use crate::product::{self, NAMESPACE};

const PROGRAM: &str = "selvage-operator";
/// How often each is done: by default, and in a long run.
const ROUNDS: [u64; 2] = [1, 10];
/// How long an old leader that is resumed may try what it must not do.
const TEMPTED: Duration = Duration::from_secs(4);

/// An operator's pod.
struct Operator {
    /// Its name, with which its process' identity begins.
    pod: String,
    node: String,
    leads: bool,
}

/// Each time the other replica takes over, when the lease has run out.
pub fn killed(world: &World<'_>) -> anyhow::Result<()> {
    let rounds = ROUNDS[usize::from(world.long)];
    world.witness()?.case(&format!("leader killed with -9, {rounds} times, with policy changes"), || {
        for round in 0..rounds {
            let before = holder(world.cluster)?;
            let leader = leader(world.cluster)?;
            world.reword(2 * round + 1)?;
            signal(world.cluster, &leader.node, PROGRAM, "KILL")?;
            world.reword(2 * round)?;
            other_leads(world.cluster, &before)?;
            world.converged()?;
        }
        product::wait_ready(world.cluster)
    })?;
    Ok(())
}

/// What a leader that was stopped for a while still believes is not written.
pub fn paused(world: &World<'_>) -> anyhow::Result<()> {
    let rounds = ROUNDS[usize::from(world.long)];
    world.witness()?.case(&format!("leader stopped past its lease and resumed, {rounds} times"), || {
        for round in 0..rounds {
            let before = holder(world.cluster)?;
            let leader = leader(world.cluster)?;
            // It stops in the middle of publishing.
            world.reword(2 * round + 1)?;
            signal(world.cluster, &leader.node, PROGRAM, "STOP")?;
            let led = other_leads(world.cluster, &before);
            let converged = world.reword(2 * round).and_then(|()| world.converged());
            let stood = published(world.cluster);
            signal(world.cluster, &leader.node, PROGRAM, "CONT")?;
            led?;
            converged?;
            thread::sleep(TEMPTED);
            let (stood, stands) = (stood?, published(world.cluster)?);
            ensure!(stood == stands, "the old leader wrote: {stood} became {stands}");
            product::wait_ready(world.cluster)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The standby is told by hand that it leads, while the leader has its time left.
pub fn two(world: &World<'_>) -> anyhow::Result<()> {
    let rounds = ROUNDS[usize::from(world.long)];
    world.witness()?.case(&format!("the lease given to the standby by hand, {rounds} times"), || {
        for round in 0..rounds {
            let before = holder(world.cluster)?;
            let operators = operators(world.cluster, &before)?;
            let standby = operators.iter().find(|operator| !operator.leads).context("no standby")?;
            let identity = identity(world.cluster, &standby.pod)?;
            world.reword(2 * round + 1)?;
            let patch = json!({ "spec": { "holderIdentity": identity } }).to_string();
            let words = ["patch", "lease", "-n", NAMESPACE, PROGRAM, "--type=merge", "-p", &patch];
            world.cluster.kubectl_ok(&words)?;
            world.reword(2 * round)?;
            other_leads(world.cluster, &before)?;
            world.converged()?;
            product::wait_ready(world.cluster)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// The identity of the process that holds the lease.
fn holder(cluster: &Cluster) -> anyhow::Result<String> {
    Ok(wait_for("somebody to lead", SLOW, || {
        let words = ["get", "lease", "-n", NAMESPACE, PROGRAM];
        let lease = cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        if holder.is_empty() { Err(lease["spec"].to_string()) } else { Ok(holder.to_owned()) }
    })?)
}

fn other_leads(cluster: &Cluster, before: &str) -> anyhow::Result<()> {
    Ok(wait_for("another process to lead", SLOW, || {
        let now = holder(cluster).map_err(|error| error.to_string())?;
        if now == before { Err(format!("{now} leads still")) } else { Ok(()) }
    })?)
}

fn operators(cluster: &Cluster, holder: &str) -> anyhow::Result<Vec<Operator>> {
    let selector = "app.kubernetes.io/component=operator";
    let pods = cluster.kubectl_json(&["get", "pods", "-n", NAMESPACE, "-l", selector])?;
    let pods = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let operator = |pod: &Value| {
        let name = pod["metadata"]["name"].as_str()?;
        let node = pod["spec"]["nodeName"].as_str()?.to_owned();
        Some(Operator { pod: name.to_owned(), node, leads: holder.starts_with(name) })
    };
    Ok(pods.iter().filter_map(operator).collect())
}

fn leader(cluster: &Cluster) -> anyhow::Result<Operator> {
    let holder = holder(cluster)?;
    let found = operators(cluster, &holder)?.into_iter().find(|operator| operator.leads);
    found.with_context(|| format!("no pod is {holder}"))
}

/// What a pod's present process calls itself, as it says in its log.
fn identity(cluster: &Cluster, pod: &str) -> anyhow::Result<String> {
    let log = cluster.kubectl_ok(&["logs", "-n", NAMESPACE, pod])?;
    let mut words =
        log.lines().filter(|line| line.contains("operator starts")).flat_map(|line| line.split(' '));
    let said = words.find_map(|word| word.strip_prefix("identity="));
    Ok(said.with_context(|| format!("{pod} does not say who it is"))?.trim_matches('"').to_owned())
}

/// What is published, but for what agents report: the generation of every NodePolicy, the version of every slice.
fn published(cluster: &Cluster) -> anyhow::Result<Value> {
    let of = |kind: &str, field: &str| -> anyhow::Result<Vec<Value>> {
        let list = cluster.kubectl_json(&["get", kind, "-n", NAMESPACE])?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().map(|item| json!([item["metadata"]["name"], item["metadata"][field]])).collect())
    };
    Ok(json!([of("nodepolicies", "generation")?, of("addressgroups", "resourceVersion")?]))
}
