//! Endpoints that change and go: labels that move, pods that terminate or finish, addresses that another pod gets, and
//! what a pod sends before anybody has looked at it.

mod first_packet;
mod reuse;

use std::net::SocketAddr;
use std::thread;

use anyhow::{Context, bail, ensure};
use selvage_e2e::{Cluster, Node, wait_for};
use serde_json::{Value, json};

use crate::netns::PodNet;
use crate::pods::{self, AGNHOST, Namespaces};
use crate::probe::Seen;
use crate::status;
use crate::table::Table;
use crate::traffic::{Echo, Talk};

const SPACE: &str = "endpoints";
const GUESTS: &str = "endpoints-guests";
/// Where every pod listens.
const PORT: u16 = 8080;
const ECHO: u16 = 9000;
/// How long a change that no condition announces may take to be seen, in seconds.
const SETTLED: u64 = 15;
/// How long a pod that terminates here goes on: longer than anybody looks at it.
const GRACE: u32 = 120;

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[SPACE, GUESTS])?;
    let mut world = World::build(cluster)?;
    world.labels()?;
    world.tightened()?;
    world.terminating()?;
    reuse::finished(&mut world)?;
    reuse::address_changes_hands(&mut world)?;
    first_packet::run(&mut world)?;
    world.table.finish()
}

/// A server, which friends and guests may enter, and those who try.
struct World<'a> {
    cluster: &'a Cluster,
    table: Table,
    /// The server's node, and another.
    near: Node,
    far: Node,
    server: PodNet,
    friend: PodNet,
    stranger: PodNet,
    guest: PodNet,
}

/// What a pod tries and what should come of it, in both families.
struct Attempt<'a> {
    what: &'a str,
    from: &'a PodNet,
    to: &'a PodNet,
    expected: Seen,
}

impl<'a> World<'a> {
    fn build(cluster: &'a Cluster) -> anyhow::Result<Self> {
        cluster.require_bed()?;
        let nodes = cluster.nodes()?;
        let [near, far, ..] = nodes.as_slice() else { bail!("this scenario needs two nodes") };
        let pods = [
            (SPACE, "server", near, "server"),
            (SPACE, "friend", far, "friend"),
            (SPACE, "stranger", near, "stranger"),
            (GUESTS, "guest", far, "guest"),
        ];
        for (namespace, name, node, role) in pods {
            cluster.apply(namespace, &pod(name, &node.name, role).to_string())?;
        }
        let of = |namespace, name| ready(cluster, namespace, name);
        let world = Self {
            cluster,
            table: Table::start("endpoints that change and go"),
            server: of(SPACE, "server")?,
            friend: of(SPACE, "friend")?,
            stranger: of(SPACE, "stranger")?,
            guest: of(GUESTS, "guest")?,
            near: near.clone(),
            far: far.clone(),
        };
        world.judge(&["friend"])?;
        Ok(world)
    }

    /// Lets the server be entered by pods of these roles and by guests.
    fn judge(&self, roles: &[&str]) -> anyhow::Result<()> {
        let roles = json!({ "matchExpressions": [{ "key": "role", "operator": "In", "values": roles }] });
        let from = json!([
            { "podSelector": roles },
            { "namespaceSelector": { "matchLabels": { "guests": "yes" } } },
        ]);
        let spec =
            json!({ "podSelector": { "matchLabels": { "role": "server" } }, "ingress": [{ "from": from }] });
        self.policy("judge", spec)
    }

    fn policy(&self, name: &str, spec: Value) -> anyhow::Result<()> {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": { "name": name }, "spec": spec,
        });
        self.cluster.apply(SPACE, &policy.to_string())?;
        status::programmed(self.cluster, SPACE, name)?;
        Ok(())
    }

    /// A label of a pod or namespace, with its new value; the empty one takes it away.
    fn label(&self, words: &[&str], label: &str) -> anyhow::Result<()> {
        let mut all = vec!["label", "--overwrite"];
        all.extend(words);
        all.push(label);
        self.cluster.kubectl_ok(&all)?;
        Ok(())
    }

    fn label_pod(&self, pod: &str, label: &str) -> anyhow::Result<()> {
        self.label(&["pod", "--namespace", SPACE, pod], label)
    }

    /// A row for each attempt and family. With `seconds` of patience for a change that nothing announces.
    fn see(&mut self, step: &str, seconds: u64, attempts: &[Attempt<'_>]) -> anyhow::Result<()> {
        let mut all = Vec::new();
        for attempt in attempts {
            for (ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
                all.push((attempt, family, SocketAddr::new(attempt.to.address(ipv6)?, PORT)));
            }
        }
        let seen: Vec<anyhow::Result<Seen>> = thread::scope(|scope| {
            let running = all.iter().map(|(attempt, _, to)| {
                let (from, to, expected) = (attempt.from, *to, attempt.expected);
                // What should pass may be slow; what should not may pass once only while a change is on its way.
                let patience = if expected == Seen::TimedOut { seconds } else { SETTLED };
                scope.spawn(move || from.attempt_until(to, expected, patience))
            });
            let running: Vec<_> = running.collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a probe panicked")))
            };
            running.into_iter().map(join).collect()
        });
        for ((attempt, family, _), seen) in all.into_iter().zip(seen) {
            let what = format!("{}, {family}", attempt.what);
            self.table.row(step, &what, attempt.expected.word(), seen?.word());
        }
        Ok(())
    }

    /// One pod to another, once a change has arrived.
    fn settles(
        &mut self,
        step: &str,
        what: &str,
        from: impl Fn(&Self) -> &PodNet,
        expected: Seen,
    ) -> anyhow::Result<()> {
        // Lent out for the time of the look, since the table is written to meanwhile.
        let (from, server) = (from(self).clone(), self.server.clone());
        self.see(step, SETTLED, &[Attempt { what, from: &from, to: &server, expected }])
    }

    /// Labels of a peer, of a peer's namespace and of the subject move access at once.
    fn labels(&mut self) -> anyhow::Result<()> {
        self.settles("label", "a friend -> the server", |world| &world.friend, Seen::Answered)?;
        for (role, expected) in
            [("stranger", Seen::TimedOut), ("friend", Seen::Answered), ("stranger", Seen::TimedOut)]
        {
            self.label_pod("stranger", &format!("role={role}"))?;
            let what = format!("the stranger labelled {role} -> the server");
            self.settles("label", &what, |world| &world.stranger, expected)?;
        }
        for (label, expected) in
            [("guests=no", Seen::TimedOut), ("guests=yes", Seen::Answered), ("guests-", Seen::TimedOut)]
        {
            self.label(&["namespace", GUESTS], label)?;
            let what = format!("a guest, its namespace labelled {label} -> the server");
            self.settles("label", &what, |world| &world.guest, expected)?;
        }
        for (role, expected) in [("free", Seen::Answered), ("server", Seen::TimedOut)] {
            self.label_pod("server", &format!("role={role}"))?;
            let what = format!("the stranger -> the server labelled {role}");
            self.settles("label", &what, |world| &world.stranger, expected)?;
        }
        Ok(())
    }

    /// What is open stays open when a policy takes away what let it in.
    fn tightened(&mut self) -> anyhow::Result<()> {
        let _echo = Echo::start(&self.server, ECHO)?;
        let mut talks = Vec::new();
        for ipv6 in [false, true] {
            talks.push(Talk::start(&self.friend, SocketAddr::new(self.server.address(ipv6)?, ECHO))?);
        }
        self.judge(&["nobody"])?;
        self.settles(
            "open",
            "the friend, let in no more -> the server, anew",
            |world| &world.friend,
            Seen::TimedOut,
        )?;
        for (talk, family) in talks.iter_mut().zip(["IPv4", "IPv6"]) {
            let seen = if talk.goes_on().is_ok() { "goes on" } else { "was cut" };
            let what = format!("its connection from before, {family}");
            self.table.row("open", &what, "goes on", seen);
        }
        self.judge(&["friend"])
    }

    /// A pod that is asked to end is subject and peer until its last container has ended, and its labels still count.
    fn terminating(&mut self) -> anyhow::Result<()> {
        let names = ["leaving-server", "leaving-friend"];
        for (name, role) in names.into_iter().zip(["server", "friend"]) {
            let mut pod = pod(name, &self.far.name, role);
            pod["spec"]["terminationGracePeriodSeconds"] = json!(GRACE);
            pod["spec"]["containers"][0]["args"]
                .as_array_mut()
                .context("arguments")?
                .push(json!(format!("--delay-shutdown={GRACE}")));
            self.cluster.apply(SPACE, &pod.to_string())?;
        }
        let [server, friend] = [ready(self.cluster, SPACE, names[0])?, ready(self.cluster, SPACE, names[1])?];
        let seen = self.while_terminating(names, &server, &friend);
        let mut words = vec!["delete", "pod", "--namespace", SPACE, "--force", "--grace-period=0"];
        words.extend(names);
        self.cluster.kubectl_ok(&words)?;
        seen
    }

    fn while_terminating(
        &mut self,
        names: [&str; 2],
        server: &PodNet,
        friend: &PodNet,
    ) -> anyhow::Result<()> {
        let mut words = vec!["delete", "pod", "--namespace", SPACE, "--wait=false"];
        words.extend(names);
        self.cluster.kubectl_ok(&words)?;
        let (own_friend, stranger) = (self.friend.clone(), self.stranger.clone());
        let main = self.server.clone();
        self.see(
            "ends",
            SETTLED,
            &[
                Attempt {
                    what: "a friend -> a server that ends",
                    from: &own_friend,
                    to: server,
                    expected: Seen::Answered,
                },
                Attempt {
                    what: "the stranger -> a server that ends",
                    from: &stranger,
                    to: server,
                    expected: Seen::TimedOut,
                },
                Attempt {
                    what: "a friend that ends -> the server",
                    from: friend,
                    to: &main,
                    expected: Seen::Answered,
                },
            ],
        )?;
        // What the operator knows of them moves on while they end, so that it is not what it was before that is seen.
        for (role, expected) in [("stranger", Seen::TimedOut), ("friend", Seen::Answered)] {
            self.label_pod(names[1], &format!("role={role}"))?;
            let what = format!("one that ends, now labelled {role} -> the server");
            self.see("ends", SETTLED, &[Attempt { what: &what, from: friend, to: &main, expected }])?;
        }
        for (role, expected) in [("free", Seen::Answered), ("server", Seen::TimedOut)] {
            self.label_pod(names[0], &format!("role={role}"))?;
            let what = format!("the stranger -> one that ends, now labelled {role}");
            self.see("ends", SETTLED, &[Attempt { what: &what, from: &stranger, to: server, expected }])?;
        }
        for name in names {
            let pod = self.cluster.kubectl_json(&["get", "pod", "--namespace", SPACE, name])?;
            let ends =
                pod["metadata"]["deletionTimestamp"].is_string() && pod["status"]["phase"] == "Running";
            ensure!(ends, "{name} was not asked to end, or has ended: {pod}");
        }
        Ok(())
    }
}

/// A web server on one node, with a role.
fn pod(name: &str, node: &str, role: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": { "role": role } },
        "spec": {
            "terminationGracePeriodSeconds": 1, "restartPolicy": "Never",
            "nodeSelector": pods::Pod::pinned(Some(node)),
            "containers": [{
                "name": "agnhost", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                "args": ["netexec", format!("--http-port={PORT}"), "--udp-port=-1"],
            }],
        },
    })
}

/// The same, running a script.
fn scripted(name: &str, node: &str, role: &str, script: &str) -> Value {
    let mut pod = pod(name, node, role);
    let container = &mut pod["spec"]["containers"][0];
    container["command"] = json!(["sh", "-c", script]);
    container["args"] = json!([]);
    pod
}

fn ready(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<PodNet> {
    pods::wait_ready(cluster, namespace, name)?;
    PodNet::of(cluster, namespace, name)
}

/// Waits until a pod has finished in this phase.
fn finished(cluster: &Cluster, name: &str, phase: &str) -> anyhow::Result<()> {
    wait_for(&format!("{name} to be {phase}"), 90, || {
        let words = ["get", "pod", "--namespace", SPACE, name, "--output=jsonpath={.status.phase}"];
        let seen = cluster.kubectl_ok(&words).map_err(|error| error.to_string())?;
        if seen == phase { Ok(()) } else { Err(seen) }
    })?;
    Ok(())
}
