//! Conditions as every kind here carries them: `Accepted` and `Programmed` of GEP-713, and `Ready` of an agent.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The object was understood, and what it asks for is being enforced.
pub const ACCEPTED: &str = "Accepted";
/// What the object asks for stands in the kernel of every node concerned.
pub const PROGRAMMED: &str = "Programmed";
/// The agent works and its node is fit to enforce policy.
pub const READY: &str = "Ready";
/// Nobody but the agent has changed its tables lately.
pub const INTACT: &str = "Intact";

/// The object was deleted, and can't go yet.
pub const DELETION_HELD: &str = "DeletionHeld";

/// Reasons, which are constants: they are what alerts and tests match on.
pub mod reason {
    /// Accepted: all of it is understood.
    pub const ACCEPTED: &str = "Accepted";
    /// Accepted: a part can't be read; it matches nothing, and the rest is enforced.
    pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    /// Accepted is False: nothing of the object can be enforced.
    pub const INVALID: &str = "Invalid";
    /// Accepted is False: the policy names a tier that does not exist, so it is not enforced.
    pub const TIER_NOT_FOUND: &str = "TierNotFound";
    /// Accepted is False: the pool overlaps an older one, so it is not used.
    pub const OVERLAP: &str = "Overlap";
    /// DeletionHeld: policies use the object.
    pub const IN_USE: &str = "InUse";
    /// Programmed: on every node concerned, or on the agent's node.
    pub const PROGRAMMED: &str = "Programmed";
    /// Programmed: no node has an endpoint that is concerned.
    pub const NO_ENDPOINTS: &str = "NoEndpoints";
    /// Programmed: no policy uses the set.
    pub const NO_POLICIES: &str = "NoPolicies";
    /// Programmed: no node has to do anything for the pool.
    pub const NO_NODES: &str = "NoNodes";
    /// Programmed is False: nodes have not reported it yet.
    pub const PENDING: &str = "Pending";
    /// Programmed is False: nodes reported that they could not.
    pub const FAILED: &str = "Failed";
    /// Programmed is Unknown: the agents of some nodes do not report.
    pub const AGENT_NOT_READY: &str = "AgentNotReady";
    /// Programmed is False: some rules are closed, because an address group they name is not complete.
    pub const PARTIALLY_PROGRAMMED: &str = "PartiallyProgrammed";
    /// An address group that is named is not complete.
    pub const GROUP_INCOMPLETE: &str = "GroupIncomplete";
    /// The object was not read: its digest is not that of its content, or a part has no meaning here.
    pub const UNREADABLE: &str = "Unreadable";
    /// The object is in a format that this agent does not know.
    pub const UNKNOWN_FORMAT: &str = "UnknownFormat";
    /// The object would be larger than the API server takes.
    pub const TOO_LARGE: &str = "TooLarge";
    /// The API server has not taken the object for a while.
    pub const NOT_PUBLISHED: &str = "NotPublished";
    /// The kernel refused a transaction.
    pub const KERNEL_REFUSED: &str = "KernelRefused";
    /// The node lacks something that enforcement needs.
    pub const NODE_NOT_FIT: &str = "NodeNotFit";
    /// The table was removed, as asked by `spec.teardown`.
    pub const TORN_DOWN: &str = "TornDown";
    /// Intact: nobody else has changed the tables lately.
    pub const INTACT: &str = "Intact";
    /// Intact is False: somebody else changed the agent's tables. What was changed is repaired, unless Programmed says
    /// otherwise.
    pub const CHANGED_BY_OTHERS: &str = "ChangedByOthers";
    /// Ready: the agent works.
    pub const READY: &str = "Ready";
    /// Ready is False: the agent has no policy for its node yet.
    pub const WAITING: &str = "Waiting";
}

/// A condition's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It can't be told.
    Unknown,
}

/// What a condition should say from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// [`ACCEPTED`], [`PROGRAMMED`] or [`READY`].
    pub kind: &'static str,
    /// Whether it holds.
    pub status: Status,
    /// One of [`reason`].
    pub reason: &'static str,
    /// For people; cut to what the API server takes.
    pub message: &'a str,
    /// The generation that was looked at.
    pub observed_generation: Option<i64>,
}

/// The API server's limit of a condition's message, in characters.
pub const MAX_MESSAGE: usize = 32_768;

/// Sets one condition in a list and says whether anything changed.
///
/// `lastTransitionTime` becomes `now` only where the status changes, as the API conventions ask.
pub fn set(conditions: &mut Vec<Condition>, wanted: &Wanted<'_>, now: &Time) -> bool {
    let mut condition = Condition {
        type_: wanted.kind.to_owned(),
        status: wanted.status.as_str().to_owned(),
        reason: wanted.reason.to_owned(),
        message: wanted.message.chars().take(MAX_MESSAGE).collect(),
        observed_generation: wanted.observed_generation,
        last_transition_time: now.clone(),
    };
    let Some(current) = conditions.iter_mut().find(|current| current.type_ == wanted.kind) else {
        conditions.push(condition);
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        return true;
    };
    if current.status == condition.status {
        condition.last_transition_time = current.last_transition_time.clone();
    }
    let changed = *current != condition;
    *current = condition;
    changed
}

/// The condition of that type.
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of that type is True.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == Status::True.as_str())
}

impl Status {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).expect("a valid time"))
    }

    fn wanted(status: Status, message: &str) -> Wanted<'_> {
        Wanted { kind: PROGRAMMED, status, reason: reason::PENDING, message, observed_generation: Some(1) }
    }

    #[test]
    fn the_transition_time_moves_with_the_status_alone() {
        let mut conditions = Vec::new();
        assert!(set(&mut conditions, &wanted(Status::False, "1 of 3"), &at(10)));
        assert!(!set(&mut conditions, &wanted(Status::False, "1 of 3"), &at(20)), "nothing changed");
        assert!(set(&mut conditions, &wanted(Status::False, "2 of 3"), &at(30)), "the message changed");
        assert_eq!(conditions.first().map(|c| &c.last_transition_time), Some(&at(10)));
        assert!(set(&mut conditions, &wanted(Status::True, "3 of 3"), &at(40)));
        assert_eq!(conditions.first().map(|c| &c.last_transition_time), Some(&at(40)));
        assert_eq!(conditions.len(), 1);
        assert!(is_true(&conditions, PROGRAMMED));
        assert!(!is_true(&conditions, ACCEPTED));
    }

    #[test]
    fn a_message_is_cut_at_the_api_servers_limit() {
        let mut conditions = Vec::new();
        set(&mut conditions, &wanted(Status::False, &"ü".repeat(MAX_MESSAGE + 1)), &at(1));
        assert_eq!(conditions.first().map(|c| c.message.chars().count()), Some(MAX_MESSAGE));
    }
}
