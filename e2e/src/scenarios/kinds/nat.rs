//! `natOutgoing`, seen from an address outside of the cluster, with and without flannel's own masquerade.

use std::net::IpAddr;
use std::process::{Child, Stdio};

use anyhow::{Context, ensure};
use selvage_e2e::{Cluster, Node, wait_for};
use serde_json::{Value, json};

use super::{AWAY, World};

/// Where the listener outside answers with the client's address.
const PORT: u16 = 18_099;
const FLANNEL: [&str; 3] = ["--namespace", "kube-flannel", "daemonset/kube-flannel-ds"];
const AGAIN: u64 = 60;

impl World<'_> {
    pub(super) fn nat(&mut self) -> anyhow::Result<()> {
        let listener = Listener::start(self.cluster)?;
        let routes = Routes::lay(self.cluster, &self.nodes)?;
        let done = self.seen_from_outside();
        let restored = masquerade(self.cluster, &self.nodes, true).and_then(|()| self.nat_outgoing(false));
        drop(routes);
        drop(listener);
        done.and(restored)
    }

    fn seen_from_outside(&mut self) -> anyhow::Result<()> {
        self.outside("flannel", true)?;
        self.nat_outgoing(true)?;
        self.outside("both", true)?;
        masquerade(self.cluster, &self.nodes, false)?;
        self.outside("nat", true)?;
        self.nat_outgoing(false)?;
        self.outside("none", false)
    }

    /// Which address the friend's connections have outside.
    fn outside(&mut self, step: &str, translated: bool) -> anyhow::Result<()> {
        let node = self.nodes.get(1).context("no second node")?.clone();
        let bed = self.cluster.require_bed()?;
        let outside = IpAddr::from(bed.api_server_address());
        let pod = self.friend[0];
        let own = node.addresses.iter().find(|address| address.is_ipv4()).context("no IPv4 address")?;
        let expected = if translated { *own } else { pod }.to_string();
        let url = format!("http://{outside}:{PORT}/clientip");
        let mut seen = String::new();
        // A change of masquerade is seen by new connections, once the node has it.
        let _ = wait_for("the expected address", AGAIN, || {
            let words = ["wget", "-q", "-T", "3", "-O", "-", &url];
            let answer = self.cluster.pod_exec(AWAY, "friend", &words).map_err(|error| error.to_string())?;
            let address = answer.stdout.rsplit_once(':').map_or("", |(address, _)| address);
            seen = address.trim_matches(['[', ']']).to_owned();
            if seen == expected { Ok(()) } else { Err(format!("{seen} {}", answer.stderr)) }
        });
        self.table.row(step, "the friend's address outside", &expected, &seen);
        Ok(())
    }

    /// Switches `natOutgoing` in every pool.
    fn nat_outgoing(&self, on: bool) -> anyhow::Result<()> {
        let pools = self.cluster.kubectl_json(&["get", "ippools"])?;
        let names = pools["items"].as_array().into_iter().flatten();
        let patch = json!({ "spec": { "natOutgoing": on } }).to_string();
        for name in names.filter_map(|pool| pool["metadata"]["name"].as_str()) {
            self.cluster.kubectl_ok(&["patch", "ippool", name, "--type=merge", "-p", &patch])?;
        }
        Ok(())
    }
}

/// A listener outside of the cluster.
struct Listener(Child);

impl Listener {
    fn start(cluster: &Cluster) -> anyhow::Result<Self> {
        let bed = cluster.require_bed()?;
        let agnhost = bed.tools().kubernetes.join("agnhost").display().to_string();
        let port = format!("--http-port={PORT}");
        let mut command = bed.outside_command(&[agnhost.as_str(), "netexec", &port, "--udp-port=-1"])?;
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("  clean-up: {error}");
        }
    }
}

/// Routes from outside to the pods, for connections that are not masqueraded.
struct Routes<'a> {
    cluster: &'a Cluster,
    laid: Vec<String>,
}

impl<'a> Routes<'a> {
    fn lay(cluster: &'a Cluster, nodes: &[Node]) -> anyhow::Result<Self> {
        let mut routes = Self { cluster, laid: Vec::new() };
        for node in nodes {
            let own = node.addresses.iter().find(|address| address.is_ipv4()).context("no IPv4 address")?;
            for cidr in node.pod_cidrs.iter().filter(|cidr| !cidr.contains(':')) {
                let via = own.to_string();
                let bed = cluster.require_bed()?;
                let done = bed.outside_exec(&["ip", "route", "replace", cidr, "via", &via])?;
                ensure!(done.success(), "a route to {cidr}: {}", done.stderr);
                routes.laid.push(cidr.clone());
            }
        }
        Ok(routes)
    }
}

impl Drop for Routes<'_> {
    fn drop(&mut self) {
        for cidr in &self.laid {
            let done =
                self.cluster.require_bed().and_then(|bed| bed.outside_exec(&["ip", "route", "del", cidr]));
            if let Err(error) = done {
                eprintln!("  clean-up: {error}");
            }
        }
    }
}

/// Switches flannel's own masquerade.
fn masquerade(cluster: &Cluster, nodes: &[Node], on: bool) -> anyhow::Result<()> {
    let args: Value =
        if on { json!(["--ip-masq", "--kube-subnet-mgr"]) } else { json!(["--kube-subnet-mgr"]) };
    let patch = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/args", "value": args }]);
    let patch = patch.to_string();
    let [option, namespace, object] = FLANNEL;
    cluster.kubectl_ok(&["patch", option, namespace, object, "--type=json", "-p", &patch])?;
    cluster.kubectl_ok(&["rollout", "status", option, namespace, object, "--timeout=120s"])?;
    if !on {
        // It leaves its rules behind.
        let script = "for t in iptables ip6tables; do $t -t nat -F FLANNEL-POSTRTG 2>/dev/null || true; done; \
                      for f in ip ip6; do for t in flannel-ipv4 flannel-ipv6; do \
                      nft delete table $f $t 2>/dev/null || true; done; done";
        for node in nodes {
            let done = cluster.require_bed()?.node_exec(&node.name, &["sh", "-c", script])?;
            ensure!(done.success(), "flannel's rules on {}: {}", node.name, done.stderr);
        }
    }
    Ok(())
}
