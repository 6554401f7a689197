//! Every kind of policy and set with real packets, in both families.

mod ladder;
mod large;
mod nat;
mod policies;
mod sets;

use std::net::IpAddr;

use anyhow::Context;
use selvage_e2e::{Cluster, Node};
use serde_json::{Value, json};

use crate::checks::{self, by_family, pair};
use crate::pods::{self, AGNHOST, Namespaces, Pod};
use crate::probe::{From, Seen, Way, probe_until};
use crate::status;
use crate::table::Table;

/// Where the server is, and where its clients are.
const HOME: &str = "kinds-home";
const AWAY: &str = "kinds-away";
/// Where the server listens: the first has the name `web`.
const WEB: u16 = 8080;
const OTHER: u16 = 8090;
/// How long such a change may take to be seen, in seconds.
const PATIENCE: u64 = 20;

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[HOME, AWAY])?;
    let mut world = World::build(cluster)?;
    let done = world
        .policies()
        .and_then(|()| world.sets())
        .and_then(|()| world.large_set())
        .and_then(|()| world.ladder())
        .and_then(|()| world.nat());
    let cleared = world.clear();
    done?;
    cleared?;
    world.table.finish()
}

/// A server in one namespace; a friend, who runs as the service account `friend`, on another node and a stranger on the
/// server's node in another.
struct World<'a> {
    cluster: &'a Cluster,
    table: Table,
    nodes: Vec<Node>,
    server: [IpAddr; 2],
    friend: [IpAddr; 2],
    stranger: [IpAddr; 2],
    /// Cluster-scoped objects that are there: kind and name.
    made: Vec<(String, String)>,
}

impl<'a> World<'a> {
    fn build(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let nodes = cluster.nodes()?;
        let [first, second, ..] = nodes.as_slice() else { anyhow::bail!("this scenario needs two nodes") };
        cluster.kubectl_ok(&["label", "namespace", HOME, "side=home"])?;
        cluster.kubectl_ok(&["label", "namespace", AWAY, "side=away"])?;
        cluster.kubectl_ok(&["create", "serviceaccount", "--namespace", AWAY, "friend"])?;
        cluster.kubectl_ok(&["label", "serviceaccount", "--namespace", AWAY, "friend", "trusted=yes"])?;
        cluster.apply(HOME, &server(&first.name).to_string())?;
        let mut friend = Pod::client(AWAY, "friend", Some(&second.name)).manifest();
        friend["spec"]["serviceAccountName"] = json!("friend");
        cluster.apply(AWAY, &friend.to_string())?;
        pods::start(cluster, &[Pod::client(AWAY, "stranger", Some(&first.name))])?;
        pods::wait_ready(cluster, HOME, "server")?;
        pods::wait_ready(cluster, AWAY, "friend")?;
        let addresses = |namespace, pod| by_family(pods::addresses(cluster, namespace, pod)?);
        Ok(Self {
            cluster,
            table: Table::start("every kind"),
            server: addresses(HOME, "server")?,
            friend: addresses(AWAY, "friend")?,
            stranger: addresses(AWAY, "stranger")?,
            nodes,
            made: Vec::new(),
        })
    }

    /// Applies an object of the cluster, waits until it stands, and sees to it that it goes in the end.
    fn global(&mut self, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
        self.apply("", object(kind, name, spec))?;
        status::stands(self.cluster, kind, "default", name)
    }

    /// Applies an object of a namespace and waits until it stands.
    fn namespaced(&mut self, namespace: &str, kind: &str, name: &str, spec: Value) -> anyhow::Result<()> {
        self.apply(namespace, object(kind, name, spec))?;
        match kind {
            "NetworkPolicy" => status::programmed(self.cluster, namespace, name).map(drop),
            kind => status::stands(self.cluster, kind, namespace, name),
        }
    }

    /// Applies an object as it is; an empty namespace says that it is the cluster's.
    fn apply(&mut self, namespace: &str, object: Value) -> anyhow::Result<()> {
        if namespace.is_empty() {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            self.made.push((text(&object["kind"]), text(&object["metadata"]["name"])));
        }
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        self.cluster.apply(namespace, &object.to_string()).map(drop).context(object.to_string())
    }

    /// Deletes the cluster's objects, tiers after the policies that keep them, and the namespaces' policies.
    fn clear(&mut self) -> anyhow::Result<()> {
        let (tiers, others): (Vec<_>, Vec<_>) = self.made.drain(..).partition(|(kind, _)| kind == "Tier");
        for (kind, name) in others.into_iter().chain(tiers) {
            self.cluster.kubectl_ok(&["delete", &kind, &name, "--ignore-not-found", "--wait"])?;
        }
        for namespace in [HOME, AWAY] {
            let kinds = "networkpolicies,selvagenetworkpolicies,networksets";
            self.cluster.kubectl_ok(&["delete", kinds, "--all", "--namespace", namespace, "--wait"])?;
        }
        Ok(())
    }

    /// What the friend and the stranger see of the server's ports, in both families.
    fn see(&mut self, step: &str, port: u16, friend: Seen, stranger: Seen) -> anyhow::Result<()> {
        let mut checks = Vec::new();
        for (client, expected) in [("friend", friend), ("stranger", stranger)] {
            let what = format!("{client} -> server:{port}");
            checks.extend(pair(&From::Pod(AWAY, client), &what, self.server, port, expected));
        }
        checks::run(self.cluster, &mut self.table, step, &checks)
    }

    /// What a client sees of the server in the end, after a change that no condition announces.
    fn until(&mut self, step: &str, client: &str, expected: Seen) -> anyhow::Result<()> {
        for to in self.server {
            let seen =
                probe_until(self.cluster, &From::Pod(AWAY, client), to, Way::Tcp(WEB), expected, PATIENCE)?;
            self.table.row(step, &format!("{client} -> server {to}"), expected.word(), seen.word());
        }
        Ok(())
    }
}

/// An object of one of the kinds.
fn object(kind: &str, name: &str, spec: Value) -> Value {
    let version = match kind {
        "NetworkPolicy" => "networking.k8s.io/v1",
        "ClusterNetworkPolicy" => "policy.networking.k8s.io/v1alpha2",
        _ => "selvage.io/v1alpha1",
    };
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name }, "spec": spec })
}

fn server(node: &str) -> Value {
    let container = |name: &str, port: u16| {
        json!({
            "name": name, "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
            "args": ["netexec", format!("--http-port={port}"), "--udp-port=-1"],
            "ports": [{ "name": name, "containerPort": port, "protocol": "TCP" }],
            "readinessProbe": { "httpGet": { "path": "/hostname", "port": port }, "periodSeconds": 1 },
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "server", "labels": { "app": "server" } },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": Pod::pinned(Some(node)),
            "containers": [container("web", WEB), container("other", OTHER)],
        },
    })
}
