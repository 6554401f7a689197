//! The recipes of `docs/recipes`, applied as they stand.

use std::net::IpAddr;

use anyhow::ensure;
use selvage_e2e::Cluster;
use serde_json::json;

use crate::checks::{self, Check, by_family, pair};
use crate::pods::{self, AGNHOST, Namespaces, Pod};
use crate::probe::{From, Seen, Way};
use crate::status;
use crate::table::Table;

use Seen::{Answered, TimedOut};

/// Namespaces with their labels; each has one pod, `a`, that listens and asks.
const SPACES: [(&str, &[&str]); 6] = [
    ("shop", &[]),
    ("front", &[]),
    ("isolated", &["isolated=yes"]),
    ("red-1", &["tenant=red"]),
    ("red-2", &["tenant=red"]),
    ("blue", &["tenant=blue"]),
];
/// Where every pod listens, and where the one that stands for DNS does too.
const WEB: u16 = 80;
const DNS: u16 = 53;
/// Where the API server, outside of every pod, answers on each of its machine's addresses.
const API: u16 = 6443;
/// Addresses of the recipes, laid on a machine outside while they are tried.
const METADATA: &str = "169.254.169.254";
const LISTED: &str = "192.0.2.10";

const DEFAULT_DENY: &str = include_str!("../../../docs/recipes/default-deny.yaml");
const ISOLATE_TENANTS: &str = include_str!("../../../docs/recipes/isolate-tenants.yaml");
const ALLOW_ONE_NAMESPACE: &str = include_str!("../../../docs/recipes/allow-one-namespace.yaml");
const BLOCK_METADATA: &str = include_str!("../../../docs/recipes/block-metadata.yaml");
const EGRESS_THROUGH_SETS: &str = include_str!("../../../docs/recipes/egress-through-sets.yaml");

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let names: Vec<&'static str> = SPACES.iter().map(|(name, _)| *name).collect();
    let _namespaces = Namespaces::create(cluster, &names)?;
    let _outside = Outside::lay(cluster)?;
    let _dns = Dns(cluster);
    let mut kitchen = Kitchen { cluster, table: Table::start("the recipes") };
    kitchen.prepare()?;
    kitchen.default_deny()?;
    kitchen.isolate_tenants()?;
    kitchen.allow_one_namespace()?;
    kitchen.block_metadata()?;
    kitchen.egress_through_sets()?;
    kitchen.table.finish()
}

struct Kitchen<'a> {
    cluster: &'a Cluster,
    table: Table,
}

impl Kitchen<'_> {
    fn prepare(&self) -> anyhow::Result<()> {
        let nodes = self.cluster.nodes()?;
        for (index, (space, labels)) in SPACES.iter().enumerate() {
            for label in *labels {
                self.cluster.kubectl_ok(&["label", "namespace", space, label])?;
            }
            let node = nodes.get(index % nodes.len()).map(|node| node.name.as_str());
            self.cluster.apply(space, &server("a", &json!({ "app": "api" }), node, WEB).to_string())?;
        }
        let dns = server("recipes-dns", &json!({ "k8s-app": "kube-dns" }), None, DNS);
        self.cluster.apply("kube-system", &dns.to_string())?;
        for (space, _) in SPACES {
            pods::wait_ready(self.cluster, space, "a")?;
        }
        pods::wait_ready(self.cluster, "kube-system", "recipes-dns")
    }

    /// Applies a recipe, waits until all of it stands, tries, and deletes it again.
    fn cook(
        &mut self,
        recipe: &str,
        policies: &[(&str, &str, &str)],
        checks: impl FnOnce(&Self) -> anyhow::Result<Vec<Check<'static>>>,
        name: &str,
    ) -> anyhow::Result<()> {
        let mut kubectl = self.cluster.kubectl_command(&["apply", "-f", "-"]);
        selvage_e2e::run_with_input(&mut kubectl, recipe.as_bytes())?;
        for (kind, namespace, policy) in policies {
            match *kind {
                "netpol" => status::programmed(self.cluster, namespace, policy).map(drop)?,
                kind => status::stands(self.cluster, kind, namespace, policy)?,
            }
        }
        let tried = checks(self).and_then(|checks| checks::run(self.cluster, &mut self.table, name, &checks));
        let mut kubectl =
            self.cluster.kubectl_command(&["delete", "--wait", "--ignore-not-found", "-f", "-"]);
        let deleted = selvage_e2e::run_with_input(&mut kubectl, recipe.as_bytes());
        tried?;
        deleted?;
        Ok(())
    }

    fn default_deny(&mut self) -> anyhow::Result<()> {
        self.cook(
            DEFAULT_DENY,
            &[("gnp", "default", "default-deny")],
            |kitchen| {
                let mut checks = kitchen.reach("isolated", "front", TimedOut)?;
                checks.extend(kitchen.reach("front", "isolated", TimedOut)?);
                checks.extend(kitchen.reach("front", "shop", Answered)?);
                let dns = by_family(pods::addresses(kitchen.cluster, "kube-system", "recipes-dns")?)?;
                checks.extend(pair(&From::Pod("isolated", "a"), "isolated -> DNS", dns, DNS, Answered));
                Ok(checks)
            },
            "deny",
        )?;
        // Its kubelet reached it all the while.
        let pod = self.cluster.kubectl_json(&["get", "pod", "--namespace", "isolated", "a"])?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        ensure!(ready, "the isolated pod's probes failed: {}", pod["status"]);
        Ok(())
    }

    fn isolate_tenants(&mut self) -> anyhow::Result<()> {
        self.cook(
            ISOLATE_TENANTS,
            &[("gnp", "default", "tenant-red")],
            |kitchen| {
                let mut checks = kitchen.reach("red-1", "red-2", Answered)?;
                checks.extend(kitchen.reach("red-1", "blue", TimedOut)?);
                checks.extend(kitchen.reach("blue", "red-2", TimedOut)?);
                checks.extend(kitchen.reach("front", "red-1", Answered)?);
                Ok(checks)
            },
            "tenants",
        )
    }

    fn allow_one_namespace(&mut self) -> anyhow::Result<()> {
        self.cook(
            ALLOW_ONE_NAMESPACE,
            &[("netpol", "shop", "api-from-front")],
            |kitchen| {
                let mut checks = kitchen.reach("front", "shop", Answered)?;
                checks.extend(kitchen.reach("blue", "shop", TimedOut)?);
                Ok(checks)
            },
            "one",
        )
    }

    fn block_metadata(&mut self) -> anyhow::Result<()> {
        self.table.row(
            "metadata",
            "before: the address answers",
            "answered",
            self.outside("shop", METADATA)?.word(),
        );
        self.cook(
            BLOCK_METADATA,
            &[("gnp", "default", "no-metadata")],
            |kitchen| {
                let mut checks = vec![kitchen.out("shop", METADATA, TimedOut)?];
                checks.push(kitchen.out("shop", LISTED, Answered)?);
                checks.extend(kitchen.reach("front", "shop", Answered)?);
                Ok(checks)
            },
            "metadata",
        )
    }

    fn egress_through_sets(&mut self) -> anyhow::Result<()> {
        self.cook(
            EGRESS_THROUGH_SETS,
            &[("snp", "shop", "egress-through-sets"), ("gns", "default", "allowed-outside")],
            |kitchen| {
                let mut checks = vec![kitchen.out("shop", LISTED, Answered)?];
                checks.push(kitchen.out("shop", METADATA, TimedOut)?);
                checks.extend(kitchen.reach("shop", "front", Answered)?);
                Ok(checks)
            },
            "sets",
        )
    }

    /// From one namespace's pod to another's, in both families.
    fn reach(&self, from: &'static str, to: &str, expected: Seen) -> anyhow::Result<Vec<Check<'static>>> {
        let addresses = by_family(pods::addresses(self.cluster, to, "a")?)?;
        Ok(pair(&From::Pod(from, "a"), &format!("{from} -> {to}"), addresses, WEB, expected).into())
    }

    fn out(&self, from: &'static str, to: &str, expected: Seen) -> anyhow::Result<Check<'static>> {
        let (what, to) = (format!("{from} -> {to} outside"), to.parse::<IpAddr>()?);
        Ok(Check { what, from: From::Pod(from, "a"), to, way: Way::Tcp(API), expected })
    }

    fn outside(&self, from: &str, to: &str) -> anyhow::Result<Seen> {
        let from = From::Pod(from, "a");
        crate::probe::probe_until(self.cluster, &from, to.parse()?, Way::Tcp(API), Answered, 20)
    }
}

/// The pod that stands for DNS, in a namespace that is not ours to remove.
struct Dns<'a>(&'a Cluster);

impl Drop for Dns<'_> {
    fn drop(&mut self) {
        let words = ["delete", "pod", "--namespace", "kube-system", "recipes-dns", "--ignore-not-found"];
        if let Err(error) = self.0.kubectl_ok(&words) {
            eprintln!("  clean-up: {error}");
        }
    }
}

/// Addresses of the recipes on the machine outside of the cluster.
struct Outside<'a>(&'a Cluster);

impl<'a> Outside<'a> {
    fn lay(cluster: &'a Cluster) -> anyhow::Result<Self> {
        let outside = Self(cluster);
        for address in [METADATA, LISTED] {
            let words = ["ip", "address", "replace", &format!("{address}/32"), "dev", "lo"];
            let done = cluster.require_bed()?.outside_exec(&words)?;
            ensure!(done.success(), "{address}: {}", done.stderr);
        }
        Ok(outside)
    }
}

impl Drop for Outside<'_> {
    fn drop(&mut self) {
        for address in [METADATA, LISTED] {
            let words = ["ip", "address", "del", &format!("{address}/32"), "dev", "lo"];
            let done = self.0.require_bed().and_then(|bed| bed.outside_exec(&words));
            if let Err(error) = done {
                eprintln!("  clean-up: {error}");
            }
        }
    }
}

fn server(name: &str, labels: &serde_json::Value, node: Option<&str>, port: u16) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "nodeSelector": Pod::pinned(node),
            "containers": [{
                "name": "agnhost", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                "args": ["netexec", format!("--http-port={port}"), "--udp-port=-1"],
                "readinessProbe": { "httpGet": { "path": "/hostname", "port": port }, "periodSeconds": 1 },
            }],
        },
    })
}
