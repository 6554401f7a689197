//! Every pod to every pod, in both families: what a policy says against what packets do.
//!
//! Nine pods (three namespaces, three nodes, so that each has neighbours on its node and peers on others), each with
//! HTTP on ports 80 and 81 and a UDP echo on 80. A case is some policies and a function that says which flows they
//! let pass; it shares nothing with the product.

mod cases;
mod flows;

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Context;
use selvage_e2e::Cluster;
use serde_json::json;

use crate::netns::PodNet;
use crate::pods::{self, Namespaces, Pod};
use crate::status;
use crate::table::Table;
use flows::{Flow, Peer};

const NAMESPACES: [&str; 3] = ["matrix-x", "matrix-y", "matrix-z"];
const PODS: [&str; 3] = ["a", "b", "c"];

/// The pods with their addresses, and the nodes' blocks.
struct World {
    addresses: BTreeMap<Peer, Vec<IpAddr>>,
    /// The pods' network namespaces, from which probes start.
    nets: BTreeMap<Peer, PodNet>,
    /// The node that each pod of that name is on, in every namespace.
    nodes: BTreeMap<&'static str, String>,
    /// Pod blocks by node.
    blocks: BTreeMap<String, Vec<String>>,
    /// The pod networks.
    pools: Vec<String>,
}

/// Policies and what they let pass.
struct Case {
    name: &'static str,
    /// Namespace and manifest of each policy.
    policies: Vec<(&'static str, String)>,
    /// Whether they let a flow between two different pods pass.
    passes: Box<dyn Fn(&Flow) -> bool>,
}

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &NAMESPACES)?;
    let world = World::build(cluster)?;
    let mut table =
        Table::start("flows between nine pods that are not as the policies say, of all that were tried");
    for case in cases::all(&world) {
        let mut names = Vec::new();
        for (namespace, manifest) in &case.policies {
            names.push((*namespace, apply(cluster, namespace, manifest)?));
        }
        for (namespace, name) in &names {
            status::programmed(cluster, namespace, name)?;
        }
        let seen = flows::differences(&world, &case.passes)?;
        table.row("", case.name, "0", &seen);
        for (namespace, name) in &names {
            cluster.kubectl_ok(&["delete", "networkpolicy", "--namespace", namespace, name])?;
            status::gone(cluster, namespace, name)?;
        }
    }
    relabel(cluster, &world, &mut table)?;
    table.finish()
}

/// Labels of pods and namespaces that change while a policy stands.
fn relabel(cluster: &Cluster, world: &World, table: &mut Table) -> anyhow::Result<()> {
    let name = apply(cluster, "matrix-x", &cases::allow_labelled())?;
    status::programmed(cluster, "matrix-x", &name)?;
    let nobody = |flow: &Flow| flow.to.namespace != "matrix-x";
    table.row("", "peers by a label that nobody has", "0", &flows::differences(world, &nobody)?);
    cluster.kubectl_ok(&["label", "pod", "--namespace", "matrix-y", "a", "friend=yes"])?;
    cluster.kubectl_ok(&["label", "namespace", "matrix-y", "friends=yes"])?;
    let friend = |flow: &Flow| {
        flow.to.namespace != "matrix-x" || (flow.from.namespace, flow.from.pod) == ("matrix-y", "a")
    };
    table.row("", "one pod and its namespace get the labels", "0", &flows::settled(world, &friend)?);
    cluster.kubectl_ok(&["label", "namespace", "matrix-y", "friends-"])?;
    table.row("", "the namespace loses its label", "0", &flows::settled(world, &nobody)?);
    cluster.kubectl_ok(&["label", "pod", "--namespace", "matrix-x", "b", "open=yes"])?;
    let but_b = |flow: &Flow| flow.to.namespace != "matrix-x" || flow.to.pod == "b";
    table.row("", "a label takes a pod out of the policy", "0", &flows::settled(world, &but_b)?);
    Ok(())
}

fn apply(cluster: &Cluster, namespace: &str, manifest: &str) -> anyhow::Result<String> {
    cluster.apply(namespace, manifest)?;
    let name = serde_json::from_str::<serde_json::Value>(manifest).context("a policy of the matrix")?;
    name["metadata"]["name"].as_str().map(str::to_owned).context("a policy without a name")
}

impl World {
    fn build(cluster: &Cluster) -> anyhow::Result<Self> {
        let nodes = cluster.nodes()?;
        anyhow::ensure!(nodes.len() >= 2, "the matrix needs two nodes or more");
        let on: BTreeMap<&str, String> =
            PODS.iter().zip(nodes.iter().cycle()).map(|(pod, node)| (*pod, node.name.clone())).collect();
        let peers = || NAMESPACES.iter().flat_map(|ns| PODS.iter().map(|pod| Peer { namespace: ns, pod }));
        for namespace in NAMESPACES {
            let short = namespace.trim_start_matches("matrix-");
            cluster.kubectl_ok(&["label", "namespace", namespace, &format!("ns={short}")])?;
        }
        for peer in peers() {
            let node = on.get(peer.pod).map(String::as_str);
            cluster.apply(peer.namespace, &manifest(&peer, node))?;
        }
        let (mut addresses, mut nets) = (BTreeMap::new(), BTreeMap::new());
        for peer in peers() {
            pods::wait_ready(cluster, peer.namespace, peer.pod)?;
            let net = PodNet::of(cluster, peer.namespace, peer.pod)?;
            addresses.insert(peer, net.addresses.clone());
            nets.insert(peer, net);
        }
        let pools = cluster.kubectl_json(&["get", "ippools"])?;
        let pools = pools["items"].as_array().cloned().unwrap_or_default();
        Ok(Self {
            addresses,
            nets,
            nodes: on,
            blocks: nodes.into_iter().map(|node| (node.name, node.pod_cidrs)).collect(),
            pools: pools.iter().filter_map(|pool| Some(pool["spec"]["cidr"].as_str()?.to_owned())).collect(),
        })
    }

    fn blocks_of(&self, pod: &str) -> Vec<String> {
        let node = self.nodes.get(pod);
        node.and_then(|node| self.blocks.get(node)).cloned().unwrap_or_default()
    }
}

/// Two containers, since agnhost serves one HTTP port; the ports have names.
fn manifest(peer: &Peer, node: Option<&str>) -> String {
    let container = |name: &str, http: u16, udp: i32, ports: serde_json::Value| {
        json!({
            "name": name, "image": pods::AGNHOST, "imagePullPolicy": "IfNotPresent",
            "args": ["netexec", format!("--http-port={http}"), format!("--udp-port={udp}")],
            "ports": ports,
            "readinessProbe": { "httpGet": { "path": "/hostname", "port": http }, "periodSeconds": 1 },
        })
    };
    let first = json!([
        { "name": "serve-80", "containerPort": 80, "protocol": "TCP" },
        { "name": "echo-80", "containerPort": 80, "protocol": "UDP" },
    ]);
    let second = json!([{ "name": "serve-81", "containerPort": 81, "protocol": "TCP" }]);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": peer.pod, "labels": { "pod": peer.pod } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": Pod::pinned(node),
            "containers": [container("first", 80, 80, first), container("second", 81, -1, second)],
        },
    })
    .to_string()
}
