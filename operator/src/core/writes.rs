//! Writes under way, and what became of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::lead::Role;
use super::{Core, Error, STATUS_CONCURRENCY, TICK};
use crate::metrics::{QueueLabel, WriteLabel};
use crate::publish::{self, CONCURRENCY, Item};
use crate::status::{self, About, View};

/// What came of a write.
pub(super) enum Done {
    Policy(Item, Instant, Result<publish::Outcome, publish::Error>),
    Status(About, status::Outcome),
    Chore(&'static str, bool),
    Told,
}

impl Core {
    /// Starts as many writes as may be under way.
    pub(super) fn pump(&mut self) {
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
            let view = View {
                engine: &self.engine,
                publication: &self.planner,
                upkeep: &self.upkeep,
                now,
                time: &time,
            };
            let Some(write) = self.board.next(view) else { break };
            let reporter = self.reporter.clone();
            self.statuses += 1;
            self.writes.spawn(async move {
                let about = write.about.clone();
                Done::Status(about, reporter.status(write).await)
            });
        }
        while self.statuses < STATUS_CONCURRENCY {
            let Some(chore) = self.upkeep.next(now) else { break };
            let keeper = self.keeper.clone();
            self.statuses += 1;
            self.writes.spawn(async move {
                let kind = chore.kind();
                Done::Chore(kind, keeper.work(chore).await)
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
                        self.board.touch_policies(policy.policies.keys());
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

    /// Tells of what an agent reports. A standby leaves that to the leader, which sees the same.
    pub(super) fn tell_of_node(&mut self, name: &Arc<str>, news: status::News) {
        if !self.inputs.fence.holds() {
            return;
        }
        let (reporter, name) = (self.reporter.clone(), name.clone());
        self.statuses += 1;
        self.writes.spawn(async move {
            reporter.reported(&name, &news).await;
            Done::Told
        });
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

    pub(super) fn done(&mut self, done: Done) -> Result<(), Error> {
        let now = Instant::now();
        let (kind, result) = match done {
            Done::Policy(item, since, outcome) => {
                let outcome = outcome?;
                let kind = match &item {
                    Item::Node(_) => "NodePolicy",
                    Item::Slice(_) => "AddressGroup",
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
            Done::Status(about, outcome) => {
                self.statuses -= 1;
                let result = match outcome {
                    status::Outcome::Done(stood) => {
                        self.board.written(&about, Some(*stood), now);
                        "done"
                    }
                    status::Outcome::Again => {
                        self.board.written(&about, None, now);
                        "failed"
                    }
                    status::Outcome::Gone => {
                        self.board.going(&about, now);
                        "failed"
                    }
                };
                (about.holder().kind, result)
            }
            Done::Chore(kind, done) => {
                self.statuses -= 1;
                self.upkeep.done(done, now);
                (kind, if done { "done" } else { "failed" })
            }
            Done::Told => {
                self.statuses -= 1;
                return Ok(());
            }
        };
        self.metrics.writes.get_or_create(&WriteLabel { kind, result }).inc();
        Ok(())
    }
}
