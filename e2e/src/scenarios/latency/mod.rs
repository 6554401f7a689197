//! How long it takes until a change is enforced, and what the product needs for it: JSON lines.

pub mod api;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use selvage_e2e::{Cluster, wait_for};
use serde_json::{Value, json};

use crate::netns::{self, PodNet};
use crate::pods::{self, Namespaces, Pod};
use crate::status;
use crate::traffic::Flood;
use api::Api;

const NAMESPACE: &str = "latency";
const PORT: u16 = 7777;
/// Silence after which a flood counts as stopped: many datagrams.
const QUIET: Duration = Duration::from_millis(300);

/// What the benchmark takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 100)]
    rounds: usize,
}

/// The benchmark: with the API server at rest, and with one that is kept busy.
pub fn run(cluster: &Cluster, args: Args) -> anyhow::Result<()> {
    let nodes = cluster.nodes()?;
    let [near, far, ..] = nodes.as_slice() else { bail!("two nodes or more are needed") };
    let _namespaces = Namespaces::create(cluster, &[NAMESPACE])?;
    let pods = [
        Pod::client(NAMESPACE, "client", Some(&near.name)),
        Pod::client(NAMESPACE, "server", Some(&far.name)),
    ];
    pods::start(cluster, &pods)?;
    let client = PodNet::of(cluster, NAMESPACE, "client")?;
    let server = PodNet::of(cluster, NAMESPACE, "server")?;
    let api = Api::connect(cluster)?;
    for busy in [false, true] {
        let load = busy.then(|| api.load(NAMESPACE));
        let state = if busy { "busy" } else { "quiet" };
        let denials = denials(cluster, &api, &client, &server, args.rounds)?;
        print(
            &format!("a deny policy's request to the first dropped packet on another node, {state}"),
            denials,
        );
        let starts = starts(cluster, &near.name, &server, args.rounds)?;
        print(&format!("a new pod's network to its first allowed packet, {state}"), starts);
        if let Some(load) = load {
            let value = load.rate().round();
            println!("{}", json!({ "bench": "writes beside it, busy", "value": value, "unit": "1/s" }));
        }
    }
    for node in &nodes {
        for program in ["selvage-operator", "selvage-node-agent"] {
            memory(cluster, &node.name, program)?;
        }
    }
    Ok(())
}

/// Denies what comes to the server.
fn deny() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny" },
        "spec": { "podSelector": { "matchLabels": { "pod": "server" } }, "policyTypes": ["Ingress"] },
    })
}

/// From the moment at which the request was sent to the API server.
fn denials(
    cluster: &Cluster,
    api: &Api,
    client: &PodNet,
    server: &PodNet,
    rounds: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let flood = Flood::start(client, server, false, PORT)?;
        wait_for("the flood", 10, || arrives(&flood))?;
        let sent = api.create(NAMESPACE, &deny())?;
        let stopped =
            wait_for("the first dropped packet", 30, || flood.stopped_at(QUIET).ok_or("none".to_owned()))?;
        times.push(stopped.saturating_duration_since(sent));
        drop(flood);
        api.delete(NAMESPACE, "deny")?;
        status::gone(cluster, NAMESPACE, "deny")?;
        // The port is free again once the flood's receiver has seen that it is to end.
        thread::sleep(QUIET);
    }
    Ok(times)
}

/// From the moment at which libcni has written its result: before the first container starts.
fn starts(cluster: &Cluster, node: &str, server: &PodNet, rounds: usize) -> anyhow::Result<Vec<Duration>> {
    let root = netns::node_root(cluster, node)?;
    let mut times = Vec::new();
    for round in 0..rounds {
        let name = format!("new-{round}");
        cluster.apply(NAMESPACE, &Pod::client(NAMESPACE, &name, Some(node)).manifest().to_string())?;
        let object = cluster.kubectl_json(&["get", "pod", "--namespace", NAMESPACE, &name])?;
        let uid = object["metadata"]["uid"].as_str().context("a pod without uid")?.to_owned();
        let deadline = Instant::now() + Duration::from_secs(30);
        let path = loop {
            if let Some(path) = netns::path(&root, &uid)? {
                break path;
            }
            anyhow::ensure!(Instant::now() < deadline, "libcni wrote no result for {name}");
            thread::sleep(Duration::from_millis(2));
        };
        let start = Instant::now();
        let flood = Flood::start(&PodNet::open(&path)?, server, false, PORT)?;
        let first = wait_for("the first allowed packet", 30, || flood.first_at().ok_or("none".to_owned()))?;
        times.push(first.saturating_duration_since(start));
        drop(flood);
        cluster.kubectl_ok(&["delete", "pod", "--namespace", NAMESPACE, &name, "--wait=false"])?;
        thread::sleep(QUIET);
    }
    Ok(times)
}

fn arrives(flood: &Flood) -> Result<(), String> {
    if flood.received() > 0 { Ok(()) } else { Err("nothing arrives".to_owned()) }
}

fn print(bench: &str, mut times: Vec<Duration>) {
    times.sort();
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        if let Some(time) = times.get(index) {
            let value = (time.as_secs_f64() * 10_000.0).round() / 10.0;
            println!(
                "{}",
                json!({ "bench": format!("{bench}, {name} of {}", times.len()), "value": value, "unit": "ms" })
            );
        }
    }
}

/// Resident memory of a program on a node, if it runs there.
fn memory(cluster: &Cluster, node: &str, program: &str) -> anyhow::Result<()> {
    let script = format!(
        "for p in /proc/[0-9]*; do case $(tr '\\0' ' ' <$p/cmdline 2>/dev/null) in */{program}\\ *|{program}\\ *) \
         grep VmRSS $p/status;; esac; done"
    );
    let seen = cluster.require_bed()?.node_exec(node, &["sh", "-c", &script])?;
    for line in seen.stdout.lines() {
        let kib: f64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).context("VmRSS")?;
        let value = (kib / 102.4).round() / 10.0;
        println!(
            "{}",
            json!({ "bench": format!("{program} on {node}, resident"), "value": value, "unit": "MiB" })
        );
    }
    Ok(())
}
