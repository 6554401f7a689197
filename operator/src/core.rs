//! The one task that owns all state: what watches tell goes in, writes come out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use selvage_crds::Basis;
use selvage_policy::compiled::PolicyKey;
use selvage_policy::engine::Engine;
use selvage_policy::model::Change;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info};

use crate::lease::Fence;
use crate::metrics::{Metrics, QueueLabel, WriteLabel};
use crate::publish::{self, CONCURRENCY, Item, Planner, SliceId};
use crate::status::{self, Board, Pools};
use crate::watch::{Kind, Message, Update};

/// How often what is over is looked for.
const TICK: Duration = Duration::from_secs(10);
/// How many messages are taken together before their changes are compiled.
const BATCH: usize = 64;
/// How many statuses are written together.
const STATUS_CONCURRENCY: usize = 8;

/// Why the operator must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another replica leads.
    #[error(transparent)]
    Publish(#[from] publish::Error),
    /// A write's task panicked.
    #[error("a write ended badly: {0}")]
    Task(#[from] JoinError),
    /// The watches ended.
    #[error("the watches ended")]
    Watches,
}

/// How far this replica is from publishing.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// Somebody else leads, or nobody yet; the index is kept warm.
    Standby,
    /// It leads, and waits for lists that began after that (or for the first): round by kind.
    Waiting(BTreeMap<Kind, u64>),
    /// It leads, and its lists of inputs are not older than anything that stands: round by kind.
    CatchingUp(BTreeMap<Kind, u64>),
    /// It publishes.
    Leading,
}

enum Done {
    Policy(Item, Instant, Result<publish::Outcome, publish::Error>),
    Status(PolicyKey, status::Outcome),
    Pool(Arc<str>, bool),
    Told,
}

/// What the task is given.
pub struct Inputs {
    /// What watches tell.
    pub messages: mpsc::Receiver<Message>,
    /// Asks the watch of a kind for a new list, by a higher number.
    pub relist: BTreeMap<Kind, watch::Sender<u64>>,
    /// Whether this replica holds the lease.
    pub fence: Fence,
    /// Told which lists are not complete.
    pub missing: watch::Sender<Vec<Kind>>,
}

/// The state.
pub struct Core {
    engine: Engine,
    planner: Planner,
    board: Board,
    pools: Pools,
    role: Role,
    /// The highest resourceVersion of each kind.
    versions: BTreeMap<Kind, u64>,
    /// The newest round of which a list is complete, by kind.
    listed: BTreeMap<Kind, u64>,
    refused: BTreeSet<Item>,
    inputs: Inputs,
    publisher: publish::Writer,
    reporter: status::Writer,
    writes: JoinSet<Done>,
    statuses: usize,
    metrics: Metrics,
    next_tick: Instant,
}

impl Core {
    /// A core with an empty view of the cluster.
    pub fn new(
        namespace: &str,
        pools: Pools,
        inputs: Inputs,
        publisher: publish::Writer,
        reporter: status::Writer,
        metrics: Metrics,
    ) -> Self {
        Self {
            engine: Engine::new(),
            planner: Planner::new(namespace.into()),
            board: Board::default(),
            pools,
            role: Role::Standby,
            versions: BTreeMap::new(),
            listed: BTreeMap::new(),
            refused: BTreeSet::new(),
            inputs,
            publisher,
            reporter,
            writes: JoinSet::new(),
            statuses: 0,
            metrics,
            next_tick: Instant::now() + TICK,
        }
    }

    /// Works until `stop` is true, then waits for writes under way.
    ///
    /// # Errors
    /// When this process must not go on.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut fence = self.inputs.fence.clone();
        loop {
            let wake = tokio::time::Instant::from_std(self.wake());
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                message = self.inputs.messages.recv() => {
                    self.take(message.ok_or(Error::Watches)?);
                    for _ in 1..BATCH {
                        let Ok(message) = self.inputs.messages.try_recv() else { break };
                        self.take(message);
                    }
                    self.compile();
                }
                () = fence.won(), if self.role == Role::Standby => self.won(),
                Some(done) = self.writes.join_next() => self.done(done?)?,
                () = tokio::time::sleep_until(wake) => {}
            }
            self.proceed();
            self.pump();
        }
        while let Some(done) = self.writes.join_next().await {
            self.done(done?)?;
        }
        Ok(())
    }

    /// When to look again although nothing happens.
    fn wake(&self) -> Instant {
        let now = Instant::now();
        let mut wake = self.next_tick;
        if self.role == Role::Leading && !self.planner.torn_down() {
            if self.writes.len() - self.statuses < CONCURRENCY {
                wake = self.planner.due().map_or(wake, |due| due.min(wake));
            }
            if self.statuses < STATUS_CONCURRENCY {
                let due = self.board.due(now).into_iter().chain(self.pools.due(now));
                wake = due.fold(wake, Instant::min);
            }
        }
        // Never in a circle, whatever a queue says.
        wake.max(now + Duration::from_millis(5))
    }

    fn take(&mut self, message: Message) {
        let Message { kind, updates, version, listed, errors, undecodable, objects } = message;
        let now = Instant::now();
        for update in updates {
            self.update(update, now);
        }
        if let Some(version) = version {
            let highest = self.versions.entry(kind).or_insert(version);
            *highest = version.max(*highest);
            self.metrics.versions.get_or_create(&kind.into()).set(*highest as f64);
        }
        if let Some(round) = listed {
            let first = self.listed.insert(kind, round).is_none();
            if first {
                let missing: Vec<Kind> =
                    Kind::ALL.into_iter().filter(|kind| !self.listed.contains_key(kind)).collect();
                info!(%kind, objects, ?missing, "list complete");
                self.inputs.missing.send_replace(missing);
            }
        }
        self.metrics.objects.get_or_create(&kind.into()).set(i64::try_from(objects).unwrap_or(i64::MAX));
        self.metrics.watch_errors.get_or_create(&kind.into()).inc_by(errors);
        self.metrics.undecodable.get_or_create(&kind.into()).inc_by(undecodable);
    }

    fn update(&mut self, update: Update, now: Instant) {
        match update {
            Update::Change(change) => {
                match &change {
                    Change::Node(name, node) => {
                        self.pools.node(name, node.as_ref().map(|node| node.blocks.as_slice()));
                    }
                    Change::Pod(..) => self.pools.touch(),
                    _ => {}
                }
                self.engine.apply(change);
            }
            Update::Policy(key, converted) => {
                self.board.policy(&key, converted.as_deref());
                let policy = converted.and_then(|converted| converted.policy);
                self.engine.apply(Change::Policy(key, policy));
            }
            Update::Unreadable(key, converted) => self.board.unreadable(&key, &converted),
            Update::Agent(pod, agent) => self.board.agent(&pod, agent, now),
            Update::NodePolicy(name, seen) => {
                self.planner.node_seen(&name, seen.as_deref(), now);
                let (published, report) =
                    seen.map(|seen| (seen.published(), seen.status)).unwrap_or_default();
                self.board.reported(&name, published, report, now);
            }
            Update::Slice(name, seen) => match SliceId::parse(&name) {
                Some(id) => self.planner.slice_seen(id, seen, now),
                None => debug!(name = &*name, "an AddressGroup of another making is left alone"),
            },
            Update::Status(key, seen) => self.board.stands(&key, seen.map(|seen| *seen)),
            Update::Pool(name, seen) => self.pools.stands(&name, seen.map(|seen| *seen)),
        }
    }

    /// Compiles what came. Before every list of inputs is complete, a policy would be compiled against half a
    /// cluster.
    fn compile(&mut self) {
        if !Kind::INPUTS.iter().all(|kind| self.listed.contains_key(kind)) {
            return;
        }
        let now = Instant::now();
        let delta = self.engine.flush();
        if delta.is_empty() {
            return;
        }
        for policy in delta.nodes.values() {
            self.board.sent(policy, now);
        }
        for name in &delta.removed_nodes {
            self.board.node_gone(name);
        }
        self.board.touch(&delta.policies);
        self.planner.changed(&delta, now);
        self.metrics.compile_seconds.observe(now.elapsed().as_secs_f64());
    }

    /// This replica leads now. What the last leader wrote at the end may not have come by the watches yet.
    fn won(&mut self) {
        self.metrics.leader.set(1);
        let mut rounds: BTreeMap<Kind, u64> = Kind::INPUTS.into_iter().map(|kind| (kind, 0)).collect();
        for kind in Kind::ALL.into_iter().filter(|kind| !Kind::INPUTS.contains(kind)) {
            rounds.insert(kind, self.relist(kind));
        }
        self.role = Role::Waiting(rounds);
    }

    fn relist(&self, kind: Kind) -> u64 {
        let Some(sender) = self.inputs.relist.get(&kind) else { return 0 };
        let round = sender.borrow().saturating_add(1);
        sender.send_replace(round);
        round
    }

    /// Goes on towards publishing, as far as the lists allow.
    fn proceed(&mut self) {
        let reached = |rounds: &BTreeMap<Kind, u64>| {
            rounds.iter().all(|(kind, round)| self.listed.get(kind).is_some_and(|listed| listed >= round))
        };
        match &self.role {
            Role::Waiting(rounds) if reached(rounds) => {
                let mut rounds = BTreeMap::new();
                for (name, wanted) in self.planner.standing_basis() {
                    let Some(kind) = Kind::INPUTS.into_iter().find(|kind| kind.name() == name) else {
                        continue;
                    };
                    let have = self.versions.get(&kind).copied().unwrap_or_default();
                    if have < wanted {
                        // The highest version may be that of a deletion, which no list shows. A list that begins
                        // now is newer than anything that was published before.
                        info!(%kind, have, wanted, "what stands is based on newer objects: listing again");
                        rounds.insert(kind, self.relist(kind));
                        if wanted < u64::MAX {
                            self.versions.insert(kind, wanted);
                        }
                    }
                }
                self.role = Role::CatchingUp(rounds);
                self.proceed();
            }
            Role::CatchingUp(rounds) if reached(rounds) => {
                self.compile();
                self.role = Role::Leading;
                self.planner.lead(&self.engine, Instant::now());
                self.board.touch_all();
                info!(
                    nodes = self.engine.nodes().len(),
                    groups = self.engine.groups().len(),
                    "publishing from here on"
                );
            }
            _ => {}
        }
    }

    fn basis(&self) -> Basis {
        let of = |kind: &Kind| Some((kind.name().to_owned(), self.versions.get(kind)?.to_string()));
        Kind::INPUTS.iter().filter_map(of).collect()
    }

    /// Starts as many writes as may be under way.
    fn pump(&mut self) {
        let now = Instant::now();
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.planner.retire(now);
        }
        self.metrics.torn_down.set(self.planner.torn_down().into());
        if self.role != Role::Leading || self.planner.torn_down() {
            return;
        }
        let basis = self.basis();
        while self.writes.len() - self.statuses < CONCURRENCY {
            let Some((write, since)) = self.planner.next(&self.engine, &basis, now) else { break };
            let publisher = self.publisher.clone();
            self.writes.spawn(async move {
                let item = write.item();
                Done::Policy(item, since, publisher.write(write).await)
            });
        }
        self.note_refused();
        let time = Time(Timestamp::now());
        while self.statuses < STATUS_CONCURRENCY {
            let Some(write) = self.board.next(&self.engine, self.planner.refused(), now, &time) else {
                break;
            };
            let reporter = self.reporter.clone();
            self.statuses += 1;
            self.writes.spawn(async move {
                let key = write.key.clone();
                Done::Status(key, reporter.status(write).await)
            });
        }
        while self.statuses < STATUS_CONCURRENCY {
            let Some(write) = self.pools.next(&self.engine, now, &time) else { break };
            let reporter = self.reporter.clone();
            self.statuses += 1;
            self.writes.spawn(async move {
                let name = write.name().clone();
                Done::Pool(name, reporter.pool(write).await)
            });
        }
        self.gauges();
    }

    /// Policies of nodes and groups that began or ceased to be refused have another status.
    fn note_refused(&mut self) {
        let refused: BTreeSet<Item> = self.planner.refused().keys().cloned().collect();
        if refused == self.refused {
            return;
        }
        for item in refused.symmetric_difference(&self.refused) {
            match item {
                Item::Node(name) => {
                    if let Some(policy) = self.engine.node(name) {
                        self.board.touch(policy.policies.keys());
                    }
                }
                Item::Slice(_) => self.board.touch_all(),
            }
            if let Some(refusal) = self.planner.refused().get(item) {
                let (reporter, item, refusal) = (self.reporter.clone(), item.clone(), refusal.clone());
                self.statuses += 1;
                self.writes.spawn(async move {
                    reporter.refused(&item, &refusal).await;
                    Done::Told
                });
            }
        }
        self.refused = refused;
    }

    fn gauges(&self) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (queue, waiting) in [("policy", self.planner.waiting()), ("status", self.board.waiting())] {
            self.metrics.queued.get_or_create(&QueueLabel { queue }).set(number(waiting));
        }
        let (not_accepted, not_programmed) = self.board.troubles();
        self.metrics.policies_not_accepted.set(number(not_accepted));
        self.metrics.policies_not_programmed.set(number(not_programmed));
        self.metrics.refused.set(number(self.refused.len()));
        self.metrics.over_budget.set(number(self.planner.over_budget()));
    }

    fn done(&mut self, done: Done) -> Result<(), Error> {
        let now = Instant::now();
        let (kind, result) = match done {
            Done::Policy(item, since, outcome) => {
                let outcome = outcome?;
                let kind = match &item {
                    Item::Node(_) => Kind::NodePolicy,
                    Item::Slice(_) => Kind::AddressGroup,
                };
                let result = match &outcome {
                    publish::Outcome::Done(_) => {
                        self.metrics
                            .publish_seconds
                            .observe(now.saturating_duration_since(since).as_secs_f64());
                        "done"
                    }
                    publish::Outcome::Conflict(_) => "conflict",
                    publish::Outcome::Failed { .. } => "failed",
                    publish::Outcome::Refused(_) => "refused",
                };
                self.planner.written(&item, outcome, now);
                (kind, result)
            }
            Done::Status(key, outcome) => {
                self.statuses -= 1;
                let (stands, result) = match outcome {
                    status::Outcome::Done(seen) => (Some(seen), "done"),
                    status::Outcome::Again | status::Outcome::Gone => (None, "failed"),
                };
                self.board.written(&key, stands, now);
                (Kind::NetworkPolicyStatus, result)
            }
            Done::Pool(name, done) => {
                self.statuses -= 1;
                self.pools.written(&name, done, now);
                (Kind::IPPool, if done { "done" } else { "failed" })
            }
            Done::Told => {
                self.statuses -= 1;
                return Ok(());
            }
        };
        self.metrics.writes.get_or_create(&WriteLabel { kind: kind.name(), result }).inc();
        Ok(())
    }
}
