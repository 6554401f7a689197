//! The one task that owns all state: what watches tell goes in, writes come out.

mod lead;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_policy::compiled::PolicyKey;
use selvage_policy::engine::Engine;
use selvage_policy::model::Change;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tracing::{debug, info};

use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::publish::{self, CONCURRENCY, Item, Planner, SliceId};
use crate::status::{self, About, Board};
use crate::upkeep::{self, Pools, Upkeep};
use crate::watch::{Kind, Message, Update};
use lead::Role;
use writes::Done;

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

/// What sends writes.
pub struct Writers {
    /// NodePolicies and AddressGroups.
    pub publisher: publish::Writer,
    /// Statuses and Events.
    pub reporter: status::Writer,
    /// Tiers and IPPools.
    pub keeper: upkeep::Writer,
}

/// The state.
pub struct Core {
    engine: Engine,
    planner: Planner,
    board: Board,
    upkeep: Upkeep,
    role: Role,
    /// The highest resourceVersion of each kind.
    versions: BTreeMap<Kind, u64>,
    /// The newest round of which a list is complete, by kind.
    listed: BTreeMap<Kind, u64>,
    refused: BTreeSet<Item>,
    inputs: Inputs,
    publisher: publish::Writer,
    reporter: status::Writer,
    keeper: upkeep::Writer,
    writes: JoinSet<Done>,
    statuses: usize,
    /// Pods came, went or changed since the last compilation.
    pods_changed: bool,
    metrics: Metrics,
    next_tick: Instant,
}

impl Core {
    /// A core with an empty view of the cluster.
    pub fn new(namespace: &str, pools: Pools, inputs: Inputs, writers: Writers, metrics: Metrics) -> Self {
        let Writers { publisher, reporter, keeper } = writers;
        Self {
            engine: Engine::new(),
            planner: Planner::new(namespace.into()),
            board: Board::default(),
            upkeep: Upkeep::new(pools),
            role: Role::Standby,
            versions: BTreeMap::new(),
            listed: BTreeMap::new(),
            refused: BTreeSet::new(),
            inputs,
            publisher,
            reporter,
            keeper,
            writes: JoinSet::new(),
            statuses: 0,
            pods_changed: false,
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
                let due = self.board.due(now).into_iter().chain(self.upkeep.due(now));
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
                    Kind::ALL.iter().copied().filter(|kind| !self.listed.contains_key(kind)).collect();
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
                        let blocks = node.as_ref().map(|node| node.blocks.as_slice());
                        if self.upkeep.pools.node(name, blocks) {
                            self.touch_pools();
                        }
                    }
                    Change::Pod(..) => self.pods_changed = true,
                    _ => {}
                }
                self.engine.apply(change);
            }
            Update::Policy(key, converted) => {
                self.board.policy(&key, converted.as_deref());
                let policy = converted.and_then(|converted| converted.policy);
                let tiers = self.upkeep.tiers.policy(&key, policy.as_ref().map(|policy| &policy.tier));
                self.touch_tiers(tiers);
                self.engine.apply(Change::Policy(key, policy));
            }
            Update::Unreadable(key, converted) => self.board.unreadable(&key, &converted),
            Update::Set(key, read) => {
                self.board.set(&key, read.as_deref());
                self.engine.apply(Change::NetworkSet(key, read.and_then(|read| read.value)));
            }
            Update::Tier(name, seen) => {
                if seen.is_none() {
                    self.board.gone(&About::Tier(name.clone()));
                }
                let change = self.upkeep.tiers.stands(&name, seen.map(|seen| *seen));
                self.engine.apply(change);
                self.touch_tiers([name]);
            }
            Update::Pool(name, seen) => {
                if seen.is_none() {
                    self.board.gone(&About::Pool(name.clone()));
                }
                for change in self.upkeep.pools.stands(&name, seen.map(|seen| *seen)) {
                    self.engine.apply(change);
                }
                self.touch_pools();
            }
            Update::Agent(pod, agent) => self.board.agent(&pod, agent, now),
            Update::NodePolicy(name, seen) => {
                self.planner.node_seen(&name, seen.as_deref(), now);
                let (published, report) =
                    seen.map(|seen| (seen.published(), seen.status)).unwrap_or_default();
                for alarm in self.board.reported(&name, published, report, now) {
                    self.tell_of_node(&name, alarm);
                }
            }
            Update::Slice(name, seen) => match SliceId::parse(&name) {
                Some(id) => self.planner.slice_seen(id, seen, now),
                None => debug!(name = &*name, "an AddressGroup of another making is left alone"),
            },
            Update::Stands(about, stood) => self.board.stands(&about, stood.map(|stood| *stood)),
        }
    }

    fn touch_tiers(&mut self, names: impl IntoIterator<Item = Arc<str>>) {
        for name in names {
            self.board.touch(About::Tier(name));
            self.upkeep.touch();
        }
    }

    fn touch_pools(&mut self) {
        for name in self.upkeep.pools.names() {
            self.board.touch(About::Pool(name.clone()));
        }
        self.upkeep.touch();
    }

    /// Compiles what came. Before every list of inputs is complete, a policy would be compiled against half a
    /// cluster.
    fn compile(&mut self) {
        if !Kind::INPUTS.iter().all(|kind| self.listed.contains_key(kind)) {
            return;
        }
        let now = Instant::now();
        if std::mem::take(&mut self.pods_changed) {
            self.upkeep.pools.names().for_each(|name| self.board.touch(About::Pool(name.clone())));
        }
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
        self.board.touch_policies(&delta.policies);
        delta.sets.iter().for_each(|key| self.board.touch(About::Set(key.clone())));
        self.touch_tiers_of(&delta.policies);
        self.planner.changed(&delta, &self.engine, now);
        self.metrics.compile_seconds.observe(now.elapsed().as_secs_f64());
    }

    /// Tiers whose policies are another than before, or reach other nodes.
    fn touch_tiers_of(&mut self, policies: &BTreeSet<PolicyKey>) {
        let tiers = policies.iter().filter_map(|key| self.upkeep.tiers.of(key));
        let tiers: BTreeSet<Arc<str>> = tiers.cloned().collect();
        tiers.into_iter().for_each(|name| self.board.touch(About::Tier(name)));
    }
}
