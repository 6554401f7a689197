//! Nodes whose power is cut.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use selvage_e2e::wait_for;
use serde_json::Value;

use super::{SLOW, SPACE, World};
use crate::netns::{self, PodNet};
use crate::traffic::Flood;

const PORT: u16 = 9300;
/// Silence after which the opening of a node that boots is over: many datagrams.
const QUIET: Duration = Duration::from_millis(500);
/// How long a pod's denied packets are watched after everything is Ready again.
const AFTER: Duration = Duration::from_secs(3);

/// One node, while the pods of the other go on; then all of them.
pub fn restarted(world: &mut World<'_>) -> anyhow::Result<()> {
    let bed = world.cluster.require_bed()?;
    let far = world.scene.far.clone();
    let mut opening = Ok(());
    let tally = world.witness()?.watch(
        "a node restarted (flows on the other node)",
        |flow| !flow.across && !flow.from.ends_with("far"),
        || {
            bed.restart_node(&far)?;
            opening = boots(world, "friend-far", &far, "open");
            world.scene.wait_ready()
        },
    )?;
    opening?;
    tally.flawless()?;
    world.watch_anew()?;
    world.witness()?.case("the restarted node's pods", settle)?;

    let names: Vec<String> = world.cluster.nodes()?.into_iter().map(|node| node.name).collect();
    for name in &names {
        bed.stop_node(name)?;
    }
    for name in &names {
        bed.start_node(name)?;
    }
    boots(world, "friend-far", &far, "open")?;
    world.watch_anew()?;
    world.witness()?.case("all nodes restarted at once: their pods", settle)?;
    Ok(())
}

fn settle() -> anyhow::Result<()> {
    thread::sleep(AFTER);
    Ok(())
}

/// What a pod of a node that boots sends from its network's first moment where its egress policy forbids it. Until the
/// agent's first ruleset nothing stands there (the documents say so): how long that is, is told. Then it must end.
fn boots(world: &World<'_>, from: &str, node: &str, to: &str) -> anyhow::Result<()> {
    let sender = network(world, from, node)?;
    let receiver_node = crate::pods::node(world.cluster, SPACE, to)?;
    let receiver = network(world, to, &receiver_node)?;
    let flood = Flood::start(&sender, &receiver, false, PORT)?;
    world.scene.wait_ready()?;
    thread::sleep(AFTER);
    let opening = match (flood.first_at(), flood.stopped_at(QUIET)) {
        (None, _) => "none".to_owned(),
        (Some(first), Some(stopped)) => {
            format!(
                "{} ms, {} datagrams",
                stopped.saturating_duration_since(first).as_millis(),
                flood.received()
            )
        }
        (Some(_), None) => anyhow::bail!("{from} still reaches {to} with every agent at work"),
    };
    println!("  opening of {node} between boot and its agent's first ruleset: {opening}");
    let before = flood.received();
    thread::sleep(AFTER);
    ensure!(flood.received() == before, "denied packets pass again after the first ruleset");
    Ok(())
}

/// The network namespace that a pod has now, as soon as it has one: libcni's results outlive a node's power cut.
fn network(world: &World<'_>, pod: &str, node: &str) -> anyhow::Result<PodNet> {
    let object = world.cluster.kubectl_json(&["get", "pod", "-n", SPACE, pod])?;
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    Ok(wait_for(&format!("the network of {pod}"), SLOW, || {
        let root = netns::node_root(world.cluster, node).map_err(|error| error.to_string())?;
        let (path, addresses) = present(&root, &uid).ok_or("no result")?;
        let mut net = PodNet::open(&path).map_err(|error| format!("{error:#}"))?;
        net.addresses = addresses;
        Ok(net)
    })?)
}

/// The namespace file and the addresses of that pod's present network.
fn present(root: &std::path::Path, uid: &str) -> Option<(PathBuf, Vec<IpAddr>)> {
    for entry in fs::read_dir(root.join("var/lib/cni/results")).ok()?.flatten() {
        let Ok(text) = fs::read(entry.path()) else { continue };
        let Ok(result) = serde_json::from_slice::<Value>(&text) else { continue };
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let own = list(&result["cniArgs"]).iter().any(|pair| pair[0] == "K8S_POD_UID" && pair[1] == *uid);
        if !own || result["ifName"] != "eth0" {
            continue;
        }
        let interfaces = list(&result["result"]["interfaces"]);
        let Some(sandbox) = interfaces.iter().find_map(|interface| interface["sandbox"].as_str()) else {
            continue;
        };
        let path = root.join(sandbox.replacen("/var/run/", "/run/", 1).trim_start_matches('/'));
        let mut addresses: Vec<IpAddr> = list(&result["result"]["ips"])
            .iter()
            .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
            .collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        if path.exists() {
            return Some((path, addresses));
        }
    }
    None
}
