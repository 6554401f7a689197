//! Install, upgrade, rollback, uninstall and failures, while an allowed connection must never be cut and a denied
//! packet never arrive.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use selvage_e2e::{Cluster, Node, Progress, run_with_input, wait_for};
use serde_json::json;

use crate::netns::PodNet;
use crate::pods::{self, Namespaces, Pod};
use crate::product::{self, Images, NAMESPACE, RELEASE};
use crate::status;
use crate::traffic::{Echo, Flood, Talk};

const SPACE: &str = "lifecycle";
const PORT: u16 = 9000;
/// How long agents may take to be asked for, end and start again on a loaded machine, in seconds.
const SLOW: u64 = 120;
const TABLE: [&str; 6] = ["nft", "-n", "list", "table", "inet", "selvage"];

/// The scenario.
pub fn run(cluster: &Cluster, images: &Images) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[SPACE])?;
    let mut world = World::build(cluster, images)?;
    world.judged("at the start")?;
    world.upgrade_and_rollback()?;
    world.agents_killed()?;
    world.leader_killed()?;
    world.agent_silent()
}

/// The second half: strangers at the table, the API server away, and the ways off and back on.
pub fn removal(cluster: &Cluster, images: &Images) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[SPACE])?;
    let mut world = World::build(cluster, images)?;
    world.judged("at the start")?;
    world.table_touched()?;
    world.api_server_away()?;
    world.uninstall()?;
    world.plain_manifest()?;
    world.reinstall()
}

/// A server on one node; a friend, whom its policy lets in, and a stranger on another.
struct World<'a> {
    cluster: &'a Cluster,
    images: &'a Images,
    progress: Progress,
    nodes: Vec<Node>,
    server: PodNet,
    friend: PodNet,
    stranger: PodNet,
    /// Open since the start, from the friend, in each family.
    talks: [Talk; 2],
    /// From the stranger, in each family.
    floods: Vec<Flood>,
    _echo: Echo,
}

impl<'a> World<'a> {
    fn build(cluster: &'a Cluster, images: &'a Images) -> anyhow::Result<Self> {
        cluster.require_bed()?;
        let nodes = cluster.nodes()?;
        let [first, second, ..] = nodes.as_slice() else { bail!("this scenario needs two nodes") };
        pods::start(
            cluster,
            &[
                Pod::client(SPACE, "server", Some(&first.name)),
                Pod::client(SPACE, "friend", Some(&second.name)),
                Pod::client(SPACE, "stranger", Some(&second.name)),
            ],
        )?;
        cluster.apply(SPACE, &policy("server", "friend"))?;
        status::programmed(cluster, SPACE, "server")?;
        let server = PodNet::of(cluster, SPACE, "server")?;
        let friend = PodNet::of(cluster, SPACE, "friend")?;
        let echo = Echo::start(&server, PORT)?;
        let talk = |ipv6| Talk::start(&friend, SocketAddr::new(server.address(ipv6)?, PORT));
        let talks = [talk(false)?, talk(true)?];
        let stranger = PodNet::of(cluster, SPACE, "stranger")?;
        let mut world = Self {
            cluster,
            images,
            progress: Progress::default(),
            nodes,
            server,
            friend,
            stranger,
            talks,
            floods: Vec::new(),
            _echo: echo,
        };
        world.flood()?;
        Ok(world)
    }

    /// The stranger starts to send, once nothing may arrive.
    fn flood(&mut self) -> anyhow::Result<()> {
        self.floods.clear();
        for (ipv6, port) in [(false, PORT + 1), (true, PORT + 2)] {
            self.floods.push(Flood::start(&self.stranger, &self.server, ipv6, port)?);
        }
        Ok(())
    }

    /// The friend's open connections go on, new ones are made, and nothing of the stranger's has ever arrived.
    fn judged(&mut self, when: &str) -> anyhow::Result<()> {
        let mut answers = 0;
        for talk in &mut self.talks {
            answers += talk.goes_on().with_context(|| when.to_owned())?;
        }
        for ipv6 in [false, true] {
            let to = SocketAddr::new(self.server.address(ipv6)?, PORT);
            self.friend.connect_within(to, 20).with_context(|| when.to_owned())?;
            self.stranger.connect_in_vain(to).with_context(|| when.to_owned())?;
        }
        let leaked: u64 = self.floods.iter().map(Flood::received).sum();
        ensure!(leaked == 0, "{leaked} packets of the stranger arrived {when}");
        self.progress
            .step(format_args!("{when}: open connections go on ({answers} answers), none denied passed"));
        Ok(())
    }

    /// Both programs are replaced, one node after the other, and once more on the way back.
    fn upgrade_and_rollback(&mut self) -> anyhow::Result<()> {
        let mut values = product::values(self.cluster, self.images)?;
        values.extend(["log.level=debug".to_owned(), "agent.maxUnavailable=100%".to_owned()]);
        product::helm_upgrade(self.cluster, &product::chart(), &values)?;
        product::wait_ready(self.cluster)?;
        self.judged("after an upgrade")?;
        self.helm(&["rollback", RELEASE, "--namespace", NAMESPACE])?;
        product::wait_ready(self.cluster)?;
        self.judged("after a rollback")
    }

    fn agents_killed(&mut self) -> anyhow::Result<()> {
        for node in &self.nodes {
            signal_agent(self.cluster, &node.name, "KILL")?;
        }
        self.judged("after kill -9 of every agent")?;
        for node in &self.nodes {
            wait_for("the agent to run again", SLOW, || {
                signal_agent(self.cluster, &node.name, "0").map_err(|error| error.to_string())
            })?;
        }
        product::wait_ready(self.cluster)?;
        self.judged("with agents that start again")
    }

    /// The other replica publishes what is applied after the leader's death.
    fn leader_killed(&mut self) -> anyhow::Result<()> {
        let lease = self.cluster.kubectl_json(&["get", "lease", "-n", NAMESPACE, "selvage-operator"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().context("nobody leads")?.to_owned();
        let selector = "app.kubernetes.io/component=operator";
        let pods = self.cluster.kubectl_json(&["get", "pods", "-n", NAMESPACE, "-l", selector])?;
        let pods = pods["items"].as_array().cloned().unwrap_or_default();
        let mut names = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
        let leader = names.find(|name| holder.starts_with(name));
        let leader = leader.with_context(|| format!("no pod is {holder}"))?;
        self.cluster.kubectl_ok(&[
            "delete",
            "pod",
            "-n",
            NAMESPACE,
            leader,
            "--force",
            "--grace-period=0",
        ])?;
        self.cluster.apply(SPACE, &policy("stranger", "nobody"))?;
        status::programmed_within(self.cluster, SPACE, "stranger", SLOW)?;
        let lease = self.cluster.kubectl_json(&["get", "lease", "-n", NAMESPACE, "selvage-operator"])?;
        ensure!(lease["spec"]["holderIdentity"] != *holder, "{holder} leads still");
        self.judged("after the leader's death")?;
        self.cluster.kubectl_ok(&["delete", "networkpolicy", "-n", SPACE, "stranger"])?;
        status::gone(self.cluster, SPACE, "stranger")?;
        product::wait_ready(self.cluster)
    }

    /// An agent that does not answer any more is named by the policy's status, until it does.
    fn agent_silent(&mut self) -> anyhow::Result<()> {
        let node = self.nodes.first().context("no nodes")?.name.clone();
        signal_agent(self.cluster, &node, "STOP")?;
        let named = wait_for("the policy's status to name the node", SLOW, || {
            let words = ["get", "networkpolicystatus", "-n", SPACE, "server"];
            let seen = self.cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
            let programmed = status::condition(&seen, "Programmed").clone();
            let said = programmed["message"].as_str().is_some_and(|text| text.contains(&node));
            if programmed["status"] == "Unknown" && programmed["reason"] == "AgentNotReady" && said {
                Ok(programmed["message"].clone())
            } else {
                Err(programmed.to_string())
            }
        });
        let judged = self.judged("with an agent that is stopped");
        signal_agent(self.cluster, &node, "CONT")?;
        self.progress.step(format_args!("the status says: {}", named?));
        judged?;
        status::programmed_within(self.cluster, SPACE, "server", SLOW)?;
        Ok(())
    }

    /// Others can't change an owned table; one that is taken away while nobody owns it comes back.
    fn table_touched(&mut self) -> anyhow::Result<()> {
        let bed = self.cluster.require_bed()?;
        let node = self.nodes.first().context("no nodes")?.name.clone();
        for words in [
            &["nft", "flush", "table", "inet", "selvage"][..],
            &["nft", "delete", "table", "inet", "selvage"],
            &["nft", "flush", "chain", "inet", "selvage", "to_pod"],
            &["nft", "insert", "rule", "inet", "selvage", "to_pod", "accept"],
        ] {
            let refused = bed.node_exec(&node, words)?;
            let owned = !refused.success() && refused.stderr.contains("Operation not permitted");
            ensure!(owned, "{} was not refused: {}", words.join(" "), refused.stderr);
        }
        self.judged("after others tried to change the table")?;
        let killed = Instant::now();
        signal_agent(self.cluster, &node, "KILL")?;
        let deleted = bed.node_exec(&node, &["nft", "delete", "table", "inet", "selvage"])?;
        wait_for("the table to be there again", SLOW, || {
            let table = bed.node_exec(&node, &TABLE).map_err(|error| error.to_string())?;
            if table.success() { Ok(()) } else { Err(table.stderr) }
        })?;
        product::wait_ready(self.cluster)?;
        let denied = SocketAddr::new(self.server.address(false)?, PORT);
        wait_for("the stranger to be denied again", SLOW, || {
            self.stranger.connect_in_vain(denied).map_err(|error| error.to_string())
        })?;
        self.progress.step(format_args!(
            "its agent killed, the table {}: the stranger is denied {:.1} s after the kill at the latest",
            if deleted.success() { "was deleted" } else { "could not be deleted, for it was owned again" },
            killed.elapsed().as_secs_f64()
        ));
        // The stranger may have been let in while there was no table.
        self.flood()?;
        self.judged("with the table back")
    }

    fn api_server_away(&mut self) -> anyhow::Result<()> {
        let bed = self.cluster.require_bed()?;
        let node = self.nodes.first().context("no nodes")?.name.clone();
        bed.stop_api_server()?;
        let judged = self.judged("without the API server").and_then(|()| {
            signal_agent(self.cluster, &node, "KILL")?;
            wait_for("the agent to run again", SLOW, || {
                signal_agent(self.cluster, &node, "0").map_err(|error| error.to_string())
            })?;
            self.judged("without the API server, with an agent that starts again")
        });
        bed.start_api_server()?;
        judged?;
        product::wait_ready(self.cluster)?;
        self.judged("with the API server back")
    }

    /// No rule is left on any node, the definitions are, and nothing was cut.
    fn uninstall(&mut self) -> anyhow::Result<()> {
        self.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=3m"])?;
        self.bare("after helm uninstall")?;
        let kept = self.cluster.kubectl_ok(&["get", "crd", "-o", "name"])?;
        ensure!(kept.matches(".selvage.io").count() >= 4, "the definitions are gone: {kept}");
        Ok(())
    }

    /// No node has a table, and the stranger reaches the server.
    fn bare(&mut self, when: &str) -> anyhow::Result<()> {
        for node in &self.nodes {
            let tables = self.cluster.require_bed()?.node_exec(&node.name, &["nft", "list", "tables"])?;
            ensure!(tables.success(), "nft on {}: {}", node.name, tables.stderr);
            ensure!(!tables.stdout.contains("selvage"), "{} has {}", node.name, tables.stdout);
        }
        for talk in &mut self.talks {
            talk.goes_on().with_context(|| when.to_owned())?;
        }
        self.stranger.connect_within(SocketAddr::new(self.server.address(false)?, PORT), 20)?;
        self.progress.step(format_args!("{when}: no table on any node, nothing was cut"));
        Ok(())
    }

    /// Without Helm: install.yaml and teardown.yaml, as `cargo xtask` renders them.
    fn plain_manifest(&mut self) -> anyhow::Result<()> {
        let folder = std::env::temp_dir().join(format!("slv-lifecycle-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let done = self.with_plain_manifest(&product::root(), &folder);
        fs::remove_dir_all(&folder)?;
        done
    }

    fn with_plain_manifest(&mut self, root: &Path, folder: &Path) -> anyhow::Result<()> {
        let mut xtask = xtask();
        xtask.current_dir(root).args(["install-yaml", "--output"]).arg(folder.join("install.yaml"));
        for value in product::values(self.cluster, self.images)? {
            xtask.arg(format!("--set={value}"));
        }
        run_with_input(&mut xtask, b"")?;
        let file = |name: &str| folder.join(name).display().to_string();
        let (install, teardown) = (file("install.yaml"), file("teardown.yaml"));
        self.cluster.kubectl_ok(&["apply", "--server-side", "--force-conflicts", "-f", &install])?;
        product::wait_ready(self.cluster)?;
        status::programmed_within(self.cluster, SPACE, "server", SLOW)?;
        self.flood()?;
        self.judged("installed by kubectl apply")?;
        self.floods.clear();
        self.cluster.kubectl_ok(&["apply", "-f", &teardown])?;
        let words =
            ["wait", "-n", NAMESPACE, "--for=condition=Complete", "--timeout=180s", "job/selvage-teardown"];
        self.cluster.kubectl_ok(&words)?;
        self.cluster.kubectl_ok(&["delete", "--wait", "-f", &teardown, "-f", &install])?;
        self.bare("after teardown.yaml")
    }

    fn reinstall(&mut self) -> anyhow::Result<()> {
        product::install(self.cluster, self.images, &self.progress)?;
        status::programmed_within(self.cluster, SPACE, "server", SLOW)?;
        self.flood()?;
        self.judged("installed again")
    }

    fn helm(&self, words: &[&str]) -> anyhow::Result<()> {
        let done = self.cluster.helm(words)?;
        ensure!(done.success(), "helm {}: {}{}", words.join(" "), done.stdout, done.stderr);
        Ok(())
    }
}

/// The house's own commands: the program that SELVAGE_XTASK names, or cargo's, which waits for whatever cargo builds.
fn xtask() -> Command {
    if let Some(program) = std::env::var_os("SELVAGE_XTASK") {
        return Command::new(program);
    }
    let mut cargo = Command::new("cargo");
    cargo.arg("xtask");
    cargo
}

/// Lets pods `who` be entered by pods `by` alone.
fn policy(who: &str, by: &str) -> String {
    let label = |pod: &str| json!({ "matchLabels": { "pod": pod } });
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": who },
        "spec": { "podSelector": label(who), "ingress": [{ "from": [{ "podSelector": label(by) }] }] },
    })
    .to_string()
}

/// Sends a signal to a node's agent, from the node: its process numbers are its own.
fn signal_agent(cluster: &Cluster, node: &str, signal: &str) -> anyhow::Result<()> {
    let script = format!(
        "found=1; for p in /proc/[0-9]*; do case $(readlink $p/exe) in \
         */selvage-node-agent) kill -{signal} ${{p#/proc/}} && found=0;; esac; done; exit $found"
    );
    let done = cluster.require_bed()?.node_exec(node, &["sh", "-c", &script])?;
    ensure!(done.success(), "{node} has no agent that runs: {}", done.stderr);
    Ok(())
}
