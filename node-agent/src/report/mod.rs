//! What the agent tells: NodePolicy.status.

mod not_programmed;
mod status;
mod writer;

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use selvage_crds::conditions::reason;
use selvage_crds::node_policy::NotProgrammed;
use selvage_nftables::render::Problem;
use selvage_policy::compiled::GroupId;
use tokio::time::Instant;

use crate::enforce::decide::Accepted;
use crate::enforce::kernel::KernelError;
use crate::metrics::Sizes;
use crate::watch::groups::GroupView;
use crate::watch::policy::PolicyView;

pub use status::status;
pub use writer::{StatusOf, Target, write};

/// How long a change by somebody else is told.
const TOLD: Duration = Duration::from_secs(600);

/// What the enforcing loop did in one round.
#[derive(Debug)]
pub enum Outcome {
    /// The kernel holds this NodePolicy.
    Enforced {
        /// Which.
        accepted: Accepted,
        /// How much it is.
        sizes: Sizes,
        /// What was rendered closed.
        problems: BTreeSet<Problem>,
    },
    /// The table is gone, as asked.
    TornDown,
}

/// Everything the status is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The generation that was looked at; None before anything was done.
    pub generation: Option<i64>,
    /// `spec.digest` of what the kernel holds.
    pub digest: Option<String>,
    /// `spec.policySet` of what the kernel holds.
    pub policy_set: Option<String>,
    /// The kernel holds what is wanted.
    pub programmed: Verdict,
    /// The agent works and the node is fit.
    pub ready: Verdict,
    /// Transactions since the start.
    pub revision: u64,
    /// How much the kernel holds.
    pub sizes: Sizes,
    /// What went wrong last, and when it was first seen.
    pub last_error: Option<(String, Timestamp)>,
    /// Policies that do not stand as they should.
    pub not_programmed: Vec<NotProgrammed>,
    /// The node's own addresses in the pod network.
    pub addresses: Vec<String>,
    /// What somebody else did to the tables last, for a while.
    pub disturbed: Option<Disturbance>,
    /// The highest resourceVersion of an AddressGroup that was seen before the kernel was last brought up to date.
    pub applied_to: Option<u64>,
    /// Groups of which something newer is known than the kernel holds.
    pub pending: BTreeSet<GroupId>,
}

/// What somebody else did to the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disturbance {
    /// What differed, who did it where the kernel said so, and when it was repaired.
    pub message: String,
    /// When it was seen, for how long it is told.
    pub seen: Instant,
}

/// A condition before it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it holds.
    pub holds: bool,
    /// One of [`selvage_crds::conditions::reason`].
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Default for Verdict {
    fn default() -> Self {
        Self::no(reason::WAITING, "nothing was done yet")
    }
}

impl Verdict {
    fn yes(reason: &'static str, message: &str) -> Self {
        Self { holds: true, reason, message: message.to_owned() }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, reason, message: message.into() }
    }
}

impl Report {
    /// Takes in what one round of the enforcing loop did.
    pub fn update(
        &mut self,
        policy: &PolicyView,
        groups: &GroupView,
        outcome: Result<Outcome, KernelError>,
        unfit: Option<String>,
        revision: u64,
    ) {
        self.revision = revision;
        self.ready = match &unfit {
            None => Verdict::yes(reason::READY, "the agent works"),
            Some(why) => Verdict::no(reason::NODE_NOT_FIT, why),
        };
        let Some(observed) = &policy.observed else { return };
        let failure = match outcome {
            Ok(Outcome::TornDown) => {
                self.generation = Some(observed.generation);
                self.hold_nothing();
                self.programmed =
                    Verdict::no(reason::TORN_DOWN, "the table was removed, as asked by spec.teardown");
                None
            }
            Ok(Outcome::Enforced { accepted, sizes, problems }) => {
                self.digest = Some(accepted.digest.clone());
                self.policy_set = Some(accepted.policy_set.clone());
                self.sizes = sizes;
                self.not_programmed = not_programmed::list(&accepted.policy, groups, &problems);
                self.applied_to = groups.seen;
                self.pending = groups.pending.clone();
                self.pending.extend(problems.iter().filter_map(|problem| match problem {
                    Problem::GroupIncomplete { group, .. } => Some(*group),
                    _ => None,
                }));
                match &observed.policy {
                    Ok(_) => {
                        // While a newer one is held back for its groups, this is about the older.
                        self.generation = Some(accepted.generation);
                        self.programmed = enforced(groups, &accepted, &problems, unfit);
                    }
                    Err(unreadable) => {
                        self.generation = Some(observed.generation);
                        self.programmed = Verdict::no(unreadable.reason, &unreadable.message);
                    }
                }
                (!self.programmed.holds).then(|| self.programmed.message.clone())
            }
            Err(error) => {
                self.generation = Some(observed.generation);
                self.programmed = Verdict::no(reason::KERNEL_REFUSED, error.to_string());
                Some(error.to_string())
            }
        };
        self.remember(failure);
    }

    /// Somebody else changed the tables.
    pub fn disturbed(&mut self, what: &str, by: &BTreeSet<String>) {
        let by = by.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let by = if by.is_empty() { by } else { format!(" by {by}") };
        let message = format!("changed{by}, and repaired at {:.0}: {what}", Timestamp::now());
        self.disturbed = Some(Disturbance { message, seen: Instant::now() });
    }

    /// What was done long ago is not told any more.
    pub fn calm_down(&mut self) {
        self.disturbed.take_if(|disturbance| disturbance.seen.elapsed() >= TOLD);
    }

    /// Whether nobody else has changed the tables lately.
    fn intact(&self) -> Verdict {
        match &self.disturbed {
            None => Verdict::yes(reason::INTACT, "nobody else has changed the tables lately"),
            Some(Disturbance { message, .. }) => Verdict::no(reason::CHANGED_BY_OTHERS, message),
        }
    }

    /// An unreadable first NodePolicy: nothing stands, and that must not be silent.
    pub fn refuse(&mut self, policy: &PolicyView) {
        let Some(observed) = &policy.observed else { return };
        let Err(unreadable) = &observed.policy else { return };
        self.generation = Some(observed.generation);
        self.programmed = Verdict::no(unreadable.reason, &unreadable.message);
        self.ready = Verdict::no(reason::WAITING, "no NodePolicy could be read yet");
        self.remember(Some(unreadable.message.clone()));
    }

    fn remember(&mut self, failure: Option<String>) {
        let known = self.last_error.as_ref().map(|(message, _)| message);
        if known != failure.as_ref() {
            self.last_error = failure.map(|message| (message, Timestamp::now()));
        }
    }

    fn hold_nothing(&mut self) {
        self.digest = None;
        self.policy_set = None;
        self.sizes = Sizes::default();
        self.not_programmed.clear();
        self.applied_to = None;
        self.pending.clear();
    }
}

/// How well an enforced NodePolicy stands.
fn enforced(
    groups: &GroupView,
    accepted: &Accepted,
    problems: &BTreeSet<Problem>,
    unfit: Option<String>,
) -> Verdict {
    if let Some(why) = unfit {
        return Verdict::no(reason::NODE_NOT_FIT, why);
    }
    let unreadable = not_programmed::unreadable_slices(&accepted.policy, groups);
    let mut parts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    parts.extend(unreadable.iter().map(|(_, slice, error)| format!("address group slice {slice}: {error}")));
    if parts.is_empty() {
        return Verdict::yes(reason::PROGRAMMED, "the kernel holds what the spec asks for");
    }
    let rest = parts.len().saturating_sub(3);
    parts.truncate(3);
    let mut message = parts.join("; ");
    if rest > 0 {
        message += &format!("; and {rest} more");
    }
    Verdict::no(reason::PARTIALLY_PROGRAMMED, message)
}
