//! Keeps the kernel's tables equal to what is wanted.
//!
//! Everything wanted is a pure function of the latest views: [`decide`] says what to enforce, the renderer what the
//! table must hold, the diff how to get there. What arrives while the kernel works is seen together afterwards.

mod binding;
pub mod decide;
pub mod endpoints;
pub mod hold;
pub mod kernel;
mod meanwhile;
mod table;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use selvage_nftables::model::{Ruleset, TableFamily};
use selvage_nftables::netlink::Change;
use selvage_nftables::render::bridge::{bridge, without_lost_pairs};
use selvage_nftables::render::owners::{self, Owner};
use selvage_nftables::render::{LocalFacts, Rendered, Settings, closed, render};
use selvage_nftables::transaction::Transaction;
use selvage_policy::compiled::GroupId;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::admin::Readiness;
use crate::facts::cni_dir::CniView;
use crate::facts::links::NodeLinks;
use crate::metrics::Metrics;
use crate::report::{Outcome, Report};
use crate::views;
use crate::watch::groups::GroupView;
use crate::watch::policy::PolicyView;

use binding::{Bindings, Spoofing};
use decide::{Accepted, Decider, Decision};
use endpoints::Placement;
use kernel::{Kernel, KernelError};
use table::{Standing, Tables};

/// How often what the rules of the bridge family have counted is read.
const COUNT: Duration = Duration::from_secs(10);
/// How often the table is read and compared without any sign of a change.
const VERIFY: Duration = Duration::from_secs(60);
/// How long signs of a change by others are gathered before the table is read, and the least time between two such
/// reads.
const GATHER: Duration = Duration::from_millis(100);
const VERIFY_PAUSE: Duration = Duration::from_millis(500);
/// Pauses after a failure, doubled up to the second.
const RETRY: Duration = Duration::from_millis(500);
const RETRY_LONGEST: Duration = Duration::from_secs(15);
/// The least time until what must wait is tried again.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// How often a table that another process owns is looked at: it is an earlier agent that is about to end.
const FOREIGN_RETRY: Duration = Duration::from_secs(1);

/// What the loop looks at.
#[derive(Debug)]
pub struct Inputs {
    /// This node's NodePolicy.
    pub policy: watch::Receiver<PolicyView>,
    /// Address groups.
    pub groups: watch::Receiver<GroupView>,
    /// CNI results.
    pub cni: watch::Receiver<CniView>,
    /// The node's network.
    pub links: watch::Receiver<NodeLinks>,
    /// Changes of the table by others.
    pub changes: mpsc::Receiver<Change>,
}

/// Who hears what the loop did.
#[derive(Debug)]
pub struct Outputs {
    /// For the status.
    pub report: watch::Sender<Report>,
    /// For /readyz.
    pub ready: watch::Sender<Readiness>,
    /// Groups that must not be forgotten.
    pub in_use: watch::Sender<BTreeSet<GroupId>>,
    /// Figures.
    pub metrics: Arc<Metrics>,
}

/// The enforcing loop.
#[derive(Debug)]
pub struct Enforcer<K> {
    inputs: Inputs,
    outputs: Outputs,
    settings: Settings,
    pod_interfaces: BTreeSet<Arc<str>>,
    /// None only while a call is under way, or was lost.
    kernel: Option<K>,
    decider: Decider,
    tables: Tables,
    placement: Placement,
    /// What the ports of pods are held to.
    bindings: Bindings,
    spoofing: Spoofing,
    /// When counters are read again.
    count_at: Instant,
    /// Whose connections the kernel may hold, as the table records it.
    recorded: BTreeMap<IpAddr, Owner>,
    /// Addresses of pods anywhere that changed hands, as groups tell, and that are not recorded yet.
    handed_over: BTreeSet<IpAddr>,
    /// When connections of such addresses may be forgotten again.
    forget_at: Instant,
    /// Who changed the tables since they were read last, where the kernel said so.
    disturbers: BTreeSet<String>,
    /// The tables were read at least once since the start.
    looked: bool,
    /// The table was committed at least once since the start.
    applied: bool,
    /// When the table must be read again.
    verify_at: Instant,
    verified_at: Instant,
    retry: Duration,
    revision: u64,
}

impl<K: Kernel> Enforcer<K> {
    /// A loop that has done nothing yet.
    pub fn new(
        kernel: K,
        settings: Settings,
        pod_interfaces: BTreeSet<Arc<str>>,
        inputs: Inputs,
        outputs: Outputs,
    ) -> Self {
        let now = Instant::now();
        Self {
            inputs,
            outputs,
            settings,
            pod_interfaces,
            kernel: Some(kernel),
            decider: Decider::default(),
            tables: Tables::default(),
            placement: Placement::default(),
            bindings: Bindings::default(),
            spoofing: Spoofing::default(),
            count_at: now,
            recorded: BTreeMap::new(),
            handed_over: BTreeSet::new(),
            forget_at: now,
            disturbers: BTreeSet::new(),
            looked: false,
            applied: false,
            verify_at: now + VERIFY,
            verified_at: now,
            retry: RETRY,
            revision: 0,
        }
    }

    /// Enforces until one of the views has no writer any more, or the kernel connection is lost.
    pub async fn run(mut self) {
        loop {
            let again = self.step().await;
            if self.kernel.is_none() {
                return;
            }
            let wake = again.map_or(self.verify_at, |at| at.min(self.verify_at));
            let late = self.applied && self.recorded.values().any(|owner| *owner == Owner::ENDED);
            let wake = if late { wake.min(self.forget_at.max(Instant::now() + LEAST_PAUSE)) } else { wake };
            self.count_at =
                if self.count_at <= Instant::now() { Instant::now() + COUNT } else { self.count_at };
            let wake = wake.min(self.count_at);
            let Inputs { policy, groups, cni, links, changes } = &mut self.inputs;
            let alive = tokio::select! {
                changed = policy.changed() => changed.is_ok(),
                changed = groups.changed() => changed.is_ok(),
                changed = cni.changed() => changed.is_ok(),
                changed = links.changed() => changed.is_ok(),
                Some(change) = changes.recv() => {
                    tracing::warn!(?change, "somebody else changed the table");
                    if let Change::Foreign { by } = change {
                        self.disturbers.extend(by);
                    }
                    let soon = (Instant::now() + GATHER).max(self.verified_at + VERIFY_PAUSE);
                    self.verify_at = self.verify_at.min(soon);
                    true
                }
                () = tokio::time::sleep_until(wake) => true,
            };
            if !alive {
                return;
            }
        }
    }

    /// Does what there is to do now, and says when to look again even if nothing changes.
    async fn step(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let policy = self.inputs.policy.borrow_and_update().clone();
        let groups = {
            let seen = self.inputs.groups.borrow_and_update();
            // Taken with the view that says so: what is forgotten before the sets are right may come again.
            self.handed_over.append(&mut seen.handed_over.take());
            seen.clone()
        };
        let cni = self.inputs.cni.borrow_and_update().clone();
        let links = self.inputs.links.borrow_and_update().clone();
        let (decision, held_until) = self.decider.decide(&policy, &groups, now);
        views::replace(&self.outputs.in_use, self.decider.groups_in_use(&policy));
        let outcome = match decision {
            Decision::Wait(why) => {
                views::replace(&self.outputs.ready, Err(why.to_owned()));
                self.outputs.report.send_modify(|report| report.refuse(&policy));
                return self.wait(&cni, &links, held_until).await;
            }
            Decision::TearDown => self.tear_down().await.map(|()| Outcome::TornDown),
            Decision::Enforce(accepted) => self.enforce(&accepted, &groups, &cni, &links).await,
        };
        let pause = match &outcome {
            Ok(_) => None,
            Err(KernelError::Foreign(_)) => Some(FOREIGN_RETRY),
            Err(_) => Some(self.retry),
        };
        let problem = links.bridge_problem();
        let ready = match (&problem, self.applied) {
            (Some(problem), _) => Err(problem.clone()),
            (None, false) => Err("the first ruleset is not committed yet".to_owned()),
            (None, true) => Ok(()),
        };
        views::replace(&self.outputs.ready, ready);
        self.outputs.report.send_modify(|report| {
            report.update(&policy, &groups, outcome, problem, self.revision);
            report.addresses = links.pod_network_addresses(&self.pod_interfaces);
            report.calm_down();
            self.outputs.metrics.sizes(&report.sizes);
        });
        let Some(pause) = pause else {
            self.retry = RETRY;
            return held_until;
        };
        self.tables = Tables::default();
        self.retry = (self.retry * 2).min(RETRY_LONGEST);
        let at = Instant::now() + pause;
        // A read that was due and failed must not be due at once again.
        self.verify_at = self.verify_at.max(at);
        self.forget_at = self.forget_at.max(at);
        Some(held_until.map_or(at, |held| held.min(at)))
    }

    async fn enforce(
        &mut self,
        accepted: &Accepted,
        groups: &GroupView,
        cni: &CniView,
        links: &NodeLinks,
    ) -> Result<Outcome, KernelError> {
        let placement =
            endpoints::place(&accepted.policy.endpoints, cni, &links.interfaces, &self.pod_interfaces);
        let facts = LocalFacts {
            pod_interfaces: self.pod_interfaces.clone(),
            addresses: placement
                .addresses
                .iter()
                .map(|(key, addresses)| (key.clone(), addresses.iter().copied().collect()))
                .collect::<BTreeMap<_, _>>(),
        };
        let bindings = Bindings::of(cni, links, &self.pod_interfaces);
        let ports = bridge(&bindings.facts);
        let mut rendered = render(&accepted.policy, &groups.groups, &facts, &self.settings);
        self.read_if_due().await?;
        if Instant::now() >= self.count_at || bindings.facts != self.bindings.facts {
            self.count_spoofed().await?;
        }
        // A port loses an address before that address is another pod's.
        if let Some(standing) = self.tables.bridge.changeable() {
            let narrowed = without_lost_pairs(standing, &ports);
            self.commit_bridge(&narrowed).await?;
        }
        if !self.applied {
            self.recorded = self.tables.inet.owners();
            let standing = self.tables.inet.known();
            let meanwhile = standing.map(|standing| meanwhile::handed_over(standing, groups));
            self.handed_over.extend(meanwhile.into_iter().flatten());
        }
        let owners = placement.record();
        // Of the node's own addresses the CNI results told before, and what they had open was forgotten then.
        self.handed_over
            .retain(|address| owners.get(address).is_none_or(|now| self.recorded.get(address) != Some(now)));
        self.recorded.extend(self.handed_over.iter().map(|address| (*address, Owner::ENDED)));
        let changed =
            |(address, old): &(&IpAddr, &Owner)| owners.get(*address).is_none_or(|new| !old.may_be(*new));
        let lost: BTreeMap<IpAddr, Owner> =
            self.recorded.iter().filter(changed).map(|(address, owner)| (*address, *owner)).collect();
        // A hand-over is recorded once the connections are forgotten, so that an agent that ends in between leaves
        // the next one to do it.
        let mut kept = owners.clone();
        kept.extend(&lost);
        owners::record(&mut rendered.ruleset, &kept);
        let mut committed = self.commit_ruleset(&rendered.ruleset, &facts).await?;
        self.recorded = kept;
        self.handed_over.clear();
        self.placement = placement;
        // To look through all connections for every pod that ends anywhere must not keep a busy node busy.
        // An address that is another pod's of this node can't wait: that pod would inherit what is open.
        let waits =
            |(address, owner): (&IpAddr, &Owner)| *owner == Owner::ENDED && !owners.contains_key(address);
        let due = Instant::now() >= self.forget_at || !lost.iter().all(waits);
        if !lost.is_empty() && due {
            let started = Instant::now();
            self.forget(lost.into_keys().collect()).await?;
            self.forget_at = Instant::now() + 4 * started.elapsed();
            owners::record(&mut rendered.ruleset, &owners);
            committed |= self.commit_ruleset(&rendered.ruleset, &facts).await?;
            self.recorded = owners;
        }
        self.commit_bridge(&ports).await?;
        let unbound = self.placement.addresses.keys().filter(|pod| !bindings.binds(pod)).count();
        self.outputs.metrics.bound(bindings.facts.ports.len(), unbound);
        self.bindings = bindings;
        if committed && !self.applied {
            // What was just built is read once, as the kernel tells it.
            self.verify_at = Instant::now();
        }
        self.applied = true;
        Ok(self.outcome(accepted, groups, rendered))
    }

    /// Brings the table of the bridge family to this ruleset.
    async fn commit_bridge(&mut self, wanted: &Ruleset) -> Result<(), KernelError> {
        let plan = self.tables.bridge.plan(wanted, || wanted.clone())?;
        self.commit(TableFamily::Bridge, plan.transactions, Standing::Ours(plan.after)).await
    }

    /// Takes over what the rules have counted: a change of the pods' ports makes their counters anew.
    async fn count_spoofed(&mut self) -> Result<(), KernelError> {
        if self.tables.bridge.changeable().is_none() {
            return Ok(());
        }
        let counted = self.call(|kernel| kernel.counters(TableFamily::Bridge)).await?;
        self.spoofing.take(&counted, &self.bindings, &self.outputs.metrics);
        self.count_at = Instant::now() + COUNT;
        Ok(())
    }

    fn outcome(&self, accepted: &Accepted, groups: &GroupView, rendered: Rendered) -> Outcome {
        Outcome::Enforced {
            accepted: accepted.clone(),
            sizes: table::sizes(&rendered.ruleset, &accepted.policy, &self.placement, groups),
            problems: rendered.problems,
        }
    }

    /// Brings the kernel to this ruleset; false where it holds it already.
    async fn commit_ruleset(&mut self, wanted: &Ruleset, facts: &LocalFacts) -> Result<bool, KernelError> {
        let plan = self.tables.inet.plan(wanted, || closed(facts, &self.settings))?;
        let changes = !plan.transactions.is_empty();
        self.commit(TableFamily::Inet, plan.transactions, Standing::Ours(plan.after)).await?;
        Ok(changes)
    }

    async fn tear_down(&mut self) -> Result<(), KernelError> {
        self.read_if_due().await?;
        for family in Tables::FAMILIES {
            let plan = self.tables.of(family).removal()?;
            self.commit(family, plan.transactions, Standing::Absent).await?;
        }
        self.placement = Placement::default();
        self.recorded.clear();
        self.applied = true;
        Ok(())
    }

    /// Reads the tables where one is not known, or may have been changed.
    async fn read_if_due(&mut self) -> Result<(), KernelError> {
        if !self.tables.unknown() && Instant::now() < self.verify_at {
            return Ok(());
        }
        // What is heard up to now is in what is read.
        while let Ok(change) = self.inputs.changes.try_recv() {
            if let Change::Foreign { by } = change {
                self.disturbers.extend(by);
            }
        }
        let mut differences = Vec::new();
        for family in Tables::FAMILIES {
            let read = self.call(move |kernel| kernel.read(family)).await?;
            let table = self.tables.of(family);
            let difference = table.learn(read)?.or_else(|| table.stranger().filter(|_| !self.looked));
            if let Some(difference) = difference {
                tracing::warn!(?family, difference, "a table is not what was committed; repairing it");
                self.outputs.metrics.repair();
                let family = match family {
                    TableFamily::Inet => "inet",
                    TableFamily::Bridge => "bridge",
                };
                differences.push(format!("{family} selvage: {difference}"));
            }
        }
        self.looked = true;
        let by = std::mem::take(&mut self.disturbers);
        if !differences.is_empty() {
            self.outputs.report.send_modify(|report| report.disturbed(&differences.join("; "), &by));
        }
        self.verified_at = Instant::now();
        self.verify_at = self.verified_at + VERIFY;
        Ok(())
    }

    /// Commits the transactions to the table of this family, after which it stands as told.
    async fn commit(
        &mut self,
        family: TableFamily,
        transactions: Vec<Transaction>,
        then: Standing,
    ) -> Result<(), KernelError> {
        if transactions.is_empty() {
            return Ok(());
        }
        // Until the last answer is in, what stands is not known.
        *self.tables.of(family) = Standing::Unknown;
        let started = Instant::now();
        let steps = transactions.len();
        let result = self
            .call(move |kernel| {
                transactions.iter().try_for_each(|transaction| kernel.commit(family, transaction))
            })
            .await;
        let took = started.elapsed();
        self.outputs.metrics.commit(took, result.is_ok());
        match &result {
            Ok(()) => {
                self.revision += u64::try_from(steps).unwrap_or_default();
                *self.tables.of(family) = then;
                tracing::info!(?family, transactions = steps, ?took, "committed");
            }
            Err(error) => tracing::error!(?family, %error, "a commit failed; what stood before still stands"),
        }
        result
    }

    /// Forgets the connections of addresses that left their pods.
    async fn forget(&mut self, addresses: BTreeSet<IpAddr>) -> Result<(), KernelError> {
        let count = addresses.len();
        let deleted = self.call(move |kernel| kernel.forget(&addresses)).await?;
        tracing::info!(
            addresses = count,
            connections = deleted,
            "forgot the connections of addresses that left"
        );
        self.outputs.metrics.forgot(u64::try_from(deleted).unwrap_or_default());
        Ok(())
    }

    /// Runs a blocking kernel call beside the runtime.
    async fn call<R: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut K) -> Result<R, KernelError> + Send + 'static,
    ) -> Result<R, KernelError> {
        let mut kernel = self.kernel.take().ok_or(KernelError::Lost)?;
        let (kernel, result) = tokio::task::spawn_blocking(move || {
            let result = call(&mut kernel);
            (kernel, result)
        })
        .await
        .map_err(|_| KernelError::Lost)?;
        self.kernel = Some(kernel);
        result
    }
}
