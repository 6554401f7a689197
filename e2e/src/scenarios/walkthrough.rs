//! The user's first hour: the manifests in `e2e/walkthrough`, step by step, with real packets.

use std::net::IpAddr;
use std::thread;

use anyhow::Context;
use selvage_e2e::{Cluster, Node};

use crate::pods::{self, Namespaces, Pod};
use crate::probe::{From, Seen, Way, probe_until};
use crate::status;
use crate::table::Table;

const DEV: &str = "dev-linuxea";
const PROD: &str = "prod-linuxea";
const SERVER: &str = "pod-linuxea-1";
/// A client on a node that the `allow-port` manifests let in.
const LET_IN: &str = "let-in";
/// A client on the node whose block they except.
const KEPT_OUT: &str = "kept-out";

const POD: &str = include_str!("../../walkthrough/pod.yaml");
const DENY_INGRESS: &str = include_str!("../../walkthrough/deny-ingress.yaml");
const ALLOW_ALL_INGRESS: &str = include_str!("../../walkthrough/allow-all-ingress.yaml");
const ALLOW_80: &str = include_str!("../../walkthrough/allow-port-80.yaml");
const ALLOW_80_81: &str = include_str!("../../walkthrough/allow-port-80-81.yaml");
const DENY_EGRESS: &str = include_str!("../../walkthrough/deny-egress.yaml");
const ALLOW_ALL_EGRESS: &str = include_str!("../../walkthrough/allow-all-egress.yaml");
/// The pod network that the manifests were written for.
const THEIR_POOL: &str = "172.16.0.0/16";
/// The node's block that they leave out.
const THEIR_BLOCK: &str = "172.16.8.0/24";
/// How long a deletion, which no condition announces, may take to be seen, in seconds.
const DELETION: u64 = 10;

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[DEV, PROD])?;
    let mut walk = Walk::prepare(cluster)?;
    walk.nothing()?;
    walk.deny_ingress()?;
    walk.allow_all_ingress()?;
    walk.allow_port_80()?;
    walk.allow_port_80_81()?;
    walk.deny_egress()?;
    walk.allow_all_egress()?;
    walk.delete_everything()?;
    walk.table.finish()?;
    println!("{}", cluster.kubectl_ok(&["get", "ippools"])?);
    Ok(())
}

/// Namespace and name of a client, the server it tries, how, and what should come of it.
type Attempt = (&'static str, &'static str, &'static str, Way, Seen);

/// Who takes part.
struct Walk<'a> {
    cluster: &'a Cluster,
    table: Table,
    /// The IPv4 pod network, as the provider's own IPPool says.
    pool: String,
    /// The block of the node that is kept out.
    block: String,
    dev: IpAddr,
    prod: IpAddr,
}

impl<'a> Walk<'a> {
    fn prepare(cluster: &'a Cluster) -> anyhow::Result<Self> {
        for namespace in [DEV, PROD] {
            cluster.apply(namespace, POD)?;
            pods::wait_ready(cluster, namespace, SERVER)?;
        }
        let server_node = pods::node(cluster, DEV, SERVER)?;
        let nodes = cluster.nodes()?;
        let mut others = nodes.iter().filter(|node| node.name != server_node);
        let kept_out = others.next().context("the walkthrough needs two nodes or more")?;
        let let_in = others.next().map_or(server_node.as_str(), |node| &node.name);
        let mut clients = Vec::new();
        for namespace in [DEV, PROD] {
            clients.push(Pod::client(namespace, LET_IN, Some(let_in)));
            clients.push(Pod::client(namespace, KEPT_OUT, Some(&kept_out.name)));
        }
        pods::start(cluster, &clients)?;
        Ok(Self {
            cluster,
            table: Table::start("the walkthrough"),
            pool: ipv4_pool(cluster)?,
            block: ipv4_block(kept_out)?,
            dev: pods::ipv4(cluster, DEV, SERVER)?,
            prod: pods::ipv4(cluster, PROD, SERVER)?,
        })
    }

    fn nothing(&mut self) -> anyhow::Result<()> {
        let seen = |client, name, to| (client, name, to, Way::Tcp(80), Seen::Answered);
        let dev = [DEV, PROD].map(|client| seen(client, LET_IN, "dev"));
        let prod = [DEV, PROD].map(|client| seen(client, KEPT_OUT, "prod"));
        self.see("1", &[dev, prod].concat())
    }

    fn deny_ingress(&mut self) -> anyhow::Result<()> {
        self.apply("2", DEV, "deny-ingress", DENY_INGRESS)?;
        let denied = |client, name| (client, name, "dev", Way::Tcp(80), Seen::TimedOut);
        self.see(
            "2",
            &[
                denied(DEV, LET_IN),
                denied(DEV, KEPT_OUT),
                denied(PROD, LET_IN),
                denied(PROD, KEPT_OUT),
                (DEV, LET_IN, "prod", Way::Tcp(80), Seen::Answered),
            ],
        )
    }

    fn allow_all_ingress(&mut self) -> anyhow::Result<()> {
        self.apply("3", DEV, "deny-ingress", ALLOW_ALL_INGRESS)?;
        self.see(
            "3",
            &[
                (PROD, LET_IN, "dev", Way::Tcp(80), Seen::Answered),
                (PROD, KEPT_OUT, "dev", Way::Tcp(81), Seen::Refused),
            ],
        )
    }

    fn allow_port_80(&mut self) -> anyhow::Result<()> {
        self.apply("4", DEV, "deny-ingress", DENY_INGRESS)?;
        self.cluster.kubectl_ok(&["label", "pod", "--namespace", DEV, SERVER, "app=linuxea.com"])?;
        self.apply("4", DEV, "allow-ingress", &self.adapted(ALLOW_80))?;
        self.see(
            "4",
            &[
                (PROD, LET_IN, "dev", Way::Tcp(80), Seen::Answered),
                (PROD, KEPT_OUT, "dev", Way::Tcp(80), Seen::TimedOut),
                (PROD, LET_IN, "dev", Way::Tcp(81), Seen::TimedOut),
            ],
        )
    }

    fn allow_port_80_81(&mut self) -> anyhow::Result<()> {
        self.apply("5", DEV, "allow-ingress", &self.adapted(ALLOW_80_81))?;
        self.see(
            "5",
            &[
                (PROD, LET_IN, "dev", Way::Tcp(80), Seen::Answered),
                (PROD, LET_IN, "dev", Way::Tcp(81), Seen::Refused),
                (PROD, KEPT_OUT, "dev", Way::Tcp(81), Seen::TimedOut),
            ],
        )
    }

    fn deny_egress(&mut self) -> anyhow::Result<()> {
        self.apply("6", PROD, "deny-egress", DENY_EGRESS)?;
        self.see(
            "6",
            &[
                (PROD, LET_IN, "dev", Way::Ping, Seen::TimedOut),
                (PROD, LET_IN, "dev", Way::Tcp(80), Seen::TimedOut),
                // Nothing but the source's own egress stops this one: prod has no ingress policy.
                (PROD, LET_IN, "prod", Way::Ping, Seen::TimedOut),
                (PROD, KEPT_OUT, "prod", Way::Tcp(80), Seen::TimedOut),
                (DEV, KEPT_OUT, "prod", Way::Tcp(80), Seen::Answered),
            ],
        )
    }

    fn allow_all_egress(&mut self) -> anyhow::Result<()> {
        self.apply("7", PROD, "deny-egress", ALLOW_ALL_EGRESS)?;
        self.see("7", &[LET_IN, KEPT_OUT].map(|name| (PROD, name, "prod", Way::Ping, Seen::Answered)))
    }

    fn delete_everything(&mut self) -> anyhow::Result<()> {
        for (namespace, policy) in [(DEV, "allow-ingress"), (DEV, "deny-ingress"), (PROD, "deny-egress")] {
            self.cluster.kubectl_ok(&["delete", "networkpolicy", "--namespace", namespace, policy])?;
            status::gone(self.cluster, namespace, policy)?;
        }
        self.see_within(
            "8",
            DELETION,
            &[
                (DEV, LET_IN, "dev", Way::Tcp(80), Seen::Answered),
                (PROD, KEPT_OUT, "dev", Way::Tcp(80), Seen::Answered),
                (DEV, KEPT_OUT, "prod", Way::Tcp(80), Seen::Answered),
                (PROD, LET_IN, "dev", Way::Ping, Seen::Answered),
            ],
        )
    }

    /// Applies a manifest, and has the provider's status say that it stands on all nodes.
    fn apply(&mut self, step: &str, namespace: &str, policy: &str, manifest: &str) -> anyhow::Result<()> {
        self.cluster.apply(namespace, manifest)?;
        let nodes = status::programmed(self.cluster, namespace, policy)?;
        let all = nodes.split_once('/').is_some_and(|(programmed, desired)| programmed == desired);
        let seen = if all { "all nodes" } else { nodes.as_str() };
        self.table.row(step, &format!("{namespace}/{policy} Programmed on"), "all nodes", seen);
        Ok(())
    }

    /// All at once, one attempt each: the status said that the policy stands.
    fn see(&mut self, step: &str, attempts: &[Attempt]) -> anyhow::Result<()> {
        self.see_within(step, 0, attempts)
    }

    /// As [`Walk::see`], each tried for some seconds until it is as expected.
    fn see_within(&mut self, step: &str, seconds: u64, attempts: &[Attempt]) -> anyhow::Result<()> {
        let walk = &*self;
        let seen: Vec<anyhow::Result<Seen>> = thread::scope(|scope| {
            let start = |(namespace, client, to, way, expected): Attempt| {
                scope.spawn(move || {
                    let from = From::Pod(namespace, client);
                    probe_until(walk.cluster, &from, walk.address(to)?, way, expected, seconds)
                })
            };
            let running: Vec<_> = attempts.iter().copied().map(start).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a probe panicked")))
            };
            running.into_iter().map(join).collect()
        });
        for ((namespace, client, to, way, expected), seen) in attempts.iter().zip(seen) {
            let what = format!("{namespace}/{client} -> {to}, {way}");
            self.table.row(step, &what, expected.word(), seen?.word());
        }
        Ok(())
    }

    fn address(&self, to: &str) -> anyhow::Result<IpAddr> {
        match to {
            "dev" => Ok(self.dev),
            "prod" => Ok(self.prod),
            _ => anyhow::bail!("nobody is called {to}"),
        }
    }

    /// A manifest with the cluster's own networks in the place of those it was written for.
    fn adapted(&self, manifest: &str) -> String {
        manifest.replace(THEIR_POOL, &self.pool).replace(THEIR_BLOCK, &self.block)
    }
}

fn ipv4_pool(cluster: &Cluster) -> anyhow::Result<String> {
    let pools = cluster.kubectl_json(&["get", "ippools"])?;
    let pools = pools["items"].as_array().cloned().unwrap_or_default();
    let mut cidrs = pools.iter().filter_map(|pool| pool["spec"]["cidr"].as_str());
    cidrs.find(|cidr| !cidr.contains(':')).map(str::to_owned).context("no IPPool has an IPv4 cidr")
}

fn ipv4_block(node: &Node) -> anyhow::Result<String> {
    let block = node.pod_cidrs.iter().find(|cidr| !cidr.contains(':')).cloned();
    block.with_context(|| format!("node {} has no IPv4 pod block", node.name))
}
