//! The traffic witness: allowed and denied traffic that goes on while something is done to the cluster, and afterwards
//! what became of each packet.
//!
//! A [`Scene`] is pods and policies, a [`Witness`] the traffic between them, and [`Witness::case`] one thing that is
//! done meanwhile: no allowed packet may be lost, and no denied one pass.

mod client;
mod flow;
mod packet;
mod scene;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use selvage_e2e::wait_for;

use crate::netns::PodNet;
use client::Client;
use flow::{Fate, Log, longest_gap};
use server::Server;

pub use flow::Flow;
pub use scene::Scene;

/// Where the servers listen.
const TCP: u16 = 9000;
const UDP: u16 = 9001;
/// How long everything that is allowed may take until it has passed once, in seconds.
const START: u64 = 60;
/// How long after a case its last packets are waited for, in seconds: longer than any of them is.
const SETTLE: u64 = 30;
/// How long after a case denied packets that are still on their way count.
const IN_FLIGHT: Duration = Duration::from_millis(300);
/// Losses and leaks that are printed one by one.
const TOLD: usize = 12;

/// Traffic between the pods of a scene, until it is dropped.
#[derive(Debug)]
pub struct Witness {
    logs: Arc<[Log]>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Those whose TCP must not have to send anything twice.
    pods: Vec<(&'static str, PodNet)>,
    servers: Vec<Server>,
}

/// What became of the packets of a case.
#[derive(Debug, Clone)]
pub struct Tally {
    /// The case.
    pub case: String,
    /// Allowed packets and attempts that were sent.
    pub sent: usize,
    /// Those that were not answered, and the segments that TCP had to send again: flow, since the case began, why.
    pub lost: Vec<(Flow, Duration, String)>,
    /// Denied packets and attempts that were sent.
    pub tried: usize,
    /// Those that arrived: flow, when sent since the case began.
    pub passed: Vec<(Flow, Duration)>,
    /// The longest time without an answer in one allowed flow, when it began, and in which.
    pub gap: (Duration, Duration, String),
    /// How long it took.
    pub took: Duration,
    /// TCP segments that the pods sent again.
    pub sent_again: u64,
}

impl Witness {
    /// Starts all flows and waits until each that is allowed has been answered.
    ///
    /// # Errors
    /// Where one is not, or a socket can't be had.
    pub fn start(scene: &Scene<'_>) -> anyhow::Result<Self> {
        scene.cluster.require_bed()?;
        let mut nets: BTreeMap<&'static str, PodNet> = BTreeMap::new();
        let logs: Arc<[Log]> = scene::flows().into_iter().map(Log::new).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let mut servers = Vec::new();
        for (pod, is_server) in scene::pods_and_servers() {
            let net = PodNet::of(scene.cluster, scene.space, pod)?;
            if is_server {
                servers.push(Server::start(&net, &logs, &stop).with_context(|| pod.to_owned())?);
            }
            nets.insert(pod, net);
        }
        let mut witness =
            Self { logs: Arc::clone(&logs), stop, threads: Vec::new(), pods: Vec::new(), servers };
        for (id, log) in logs.iter().enumerate() {
            let net = |pod: &str| nets.get(pod).with_context(|| format!("no pod {pod}"));
            let to = net(log.flow.to)?.address(log.flow.ipv6)?;
            let client = (u16::try_from(id)?, to);
            witness.threads.push(witness.client(net(log.flow.from)?, client));
        }
        let judged = |pod: &str| pod == "server" || pod.starts_with("friend");
        witness.pods = nets.into_iter().filter(|(pod, _)| judged(pod)).collect();
        wait_for("every allowed flow to be answered", START, || {
            let silent: Vec<String> = witness
                .logs
                .iter()
                .filter(|log| log.flow.allowed && !log.works())
                .map(|log| log.flow.to_string())
                .collect();
            if silent.is_empty() { Ok(()) } else { Err(silent.join("; ")) }
        })?;
        Ok(witness)
    }

    fn client(&self, net: &PodNet, (id, to): (u16, IpAddr)) -> JoinHandle<io::Result<()>> {
        let (logs, stop) = (Arc::clone(&self.logs), Arc::clone(&self.stop));
        net.spawn(move || {
            let Some(log) = logs.get(usize::from(id)) else { return Ok(()) };
            Client { id, log, to, stop: &stop }.run()
        })
    }

    /// Does something, and fails where an allowed packet was lost or a denied one passed meanwhile.
    ///
    /// # Errors
    /// That, and those of `work`.
    pub fn case(&self, name: &str, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Tally> {
        let tally = self.watch(name, |_| true, work)?;
        tally.flawless()?;
        Ok(tally)
    }

    /// Does something, and says what became of the packets meanwhile. Only the flows that are `judged` count: what
    /// can't pass for another reason is not lost.
    ///
    /// # Errors
    /// Those of `work`, and where one of these flows ended by itself.
    pub fn watch(
        &self,
        name: &str,
        judged: impl Fn(&Flow) -> bool,
        work: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Tally> {
        let again = self.sent_again()?;
        let begin = Instant::now();
        let done = work();
        let end = Instant::now();
        let settled = wait_for("the last packets' fates", SETTLE, || {
            let mut counted = self.logs.iter().filter(|log| log.flow.allowed && judged(&log.flow));
            match counted.find(|log| !log.settled(begin, end)) {
                None => Ok(()),
                Some(log) => Err(log.flow.to_string()),
            }
        });
        thread::sleep(IN_FLIGHT);
        let mut tally = self.tally(name, &judged, begin, end);
        tally.sent_again = self.sent_again()?.saturating_sub(again);
        println!("  {tally}");
        done.with_context(|| name.to_owned())?;
        settled?;
        let mut senders = self.threads.iter().zip(self.logs.iter()).filter(|(_, log)| judged(&log.flow));
        if let Some((_, log)) = senders.find(|(thread, _)| thread.is_finished()) {
            bail!("{name}: the sender of {} ended", log.flow);
        }
        Ok(tally)
    }

    fn tally(&self, name: &str, judged: impl Fn(&Flow) -> bool, begin: Instant, end: Instant) -> Tally {
        let mut tally = Tally {
            case: name.to_owned(),
            sent: 0,
            lost: Vec::new(),
            tried: 0,
            passed: Vec::new(),
            gap: Default::default(),
            took: end.duration_since(begin),
            sent_again: 0,
        };
        for log in self.logs.iter().filter(|log| judged(&log.flow)) {
            let sent = log.between(begin, end);
            let since = |at: Instant| at.saturating_duration_since(begin);
            if log.flow.allowed {
                tally.sent += sent.len();
                let (gap, from) = longest_gap(&sent, begin, end);
                if gap > tally.gap.0 {
                    tally.gap = (gap, from, log.flow.to_string());
                }
                tally.lost.extend(sent.into_iter().filter_map(|one| match one.fate {
                    Fate::Lost(why) => Some((log.flow, since(one.at), why.into())),
                    Fate::Silent => Some((log.flow, since(one.at), "its fate is not known".to_owned())),
                    Fate::Passed(_) => None,
                }));
            } else {
                tally.tried += sent.len();
                let passed = sent.into_iter().filter(|one| matches!(one.fate, Fate::Passed(_)));
                tally.passed.extend(passed.map(|one| (log.flow, since(one.at))));
            }
        }
        tally.lost.sort_by_key(|(_, at, _)| *at);
        tally.passed.sort_by_key(|(_, at)| *at);
        tally
    }

    /// True where the last packets of every allowed flow were answered.
    pub fn works(&self) -> bool {
        self.logs.iter().filter(|log| log.flow.allowed).all(Log::works)
    }

    /// TCP segments that friends and the server have sent again so far.
    fn sent_again(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for (pod, net) in &self.pods {
            let text = net.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
            let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
            let mut pairs = names.split(' ').zip(values.split(' '));
            let again = pairs.find(|(name, _)| *name == "RetransSegs");
            let (_, again) = again.with_context(|| format!("no RetransSegs in {pod}"))?;
            total += again.parse::<u64>()?;
        }
        Ok(total)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let servers = self.servers.iter_mut().flat_map(|server| server.threads.drain(..));
        for thread in self.threads.drain(..).chain(servers) {
            // Waited for, so that the next witness finds the ports free; one that panicked has freed its own.
            thread.join().ok();
        }
    }
}

impl Tally {
    /// # Errors
    /// Where an allowed packet was lost or a denied one passed, with its flow and its time.
    pub fn flawless(&self) -> anyhow::Result<()> {
        if self.lost.is_empty() && self.passed.is_empty() {
            return Ok(());
        }
        let mut told = String::new();
        for (flow, at, why) in self.lost.iter().take(TOLD) {
            told += &format!("\n    lost at {:.3} s: {flow}: {why}", at.as_secs_f64());
        }
        for (flow, at) in self.passed.iter().take(TOLD) {
            told += &format!("\n    passed at {:.3} s: {flow}", at.as_secs_f64());
        }
        bail!("{}: {} allowed lost, {} denied passed{told}", self.case, self.lost.len(), self.passed.len())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gap, from, flow) = &self.gap;
        write!(
            f,
            "{} | allowed sent {} lost {} | denied sent {} passed {} | longest gap {} ms ({flow}, at {:.1} s) | \
             TCP sent {} again | {:.1} s",
            self.case,
            self.sent,
            self.lost.len(),
            self.tried,
            self.passed.len(),
            gap.as_millis(),
            from.as_secs_f64(),
            self.sent_again,
            self.took.as_secs_f64()
        )
    }
}
