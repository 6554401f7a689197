//! Which NetworkPolicyStatus to write next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use selvage_crds::conditions::{self, PROGRAMMED};
use selvage_crds::network_policy_status::PolicyStatus;
use selvage_crds::node_policy::NodePolicyStatus;
use selvage_policy::compiled::{self, PolicyKey};
use selvage_policy::engine::Engine;

use super::judge::{Facts, status};
use super::node::{Node, Published, Standing};
use super::pace::Pace;
use crate::convert::{Converted, Issue, Reason};
use crate::publish::{Item, Refusal};
use crate::watch::{Agent, Place, SeenStatus};

/// How long a node that a policy newly reaches may take before the policy no longer counts as programmed.
const NEW_NODE_GRACE: Duration = Duration::from_secs(5);
/// How often a policy is looked at, at most: its nodes report one by one, and each look goes over all of them.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(2);

/// One status to write.
#[derive(Debug, Clone)]
pub struct StatusWrite {
    /// The policy, whose namespace and name the object has.
    pub key: PolicyKey,
    /// The policy's uid.
    pub policy_uid: Arc<str>,
    /// Where the object stands that is about this policy; None where there is none.
    pub place: Option<Place>,
    /// The object of another policy of the same name, which has to go first.
    pub stale: Option<Place>,
    /// What it should say.
    pub status: PolicyStatus,
    /// What to tell by an Event: the policy is not accepted, and that is new.
    pub event: Option<String>,
}

#[derive(Debug)]
struct Policy {
    uid: Arc<str>,
    generation: i64,
    enforced: bool,
    issues: Vec<Issue>,
    /// Its nodes that have not reported it, and since when.
    pending: BTreeMap<Arc<str>, Instant>,
    accepted: Option<bool>,
    programmed: Option<bool>,
}

/// All that statuses are made from, and those that wait to be written.
#[derive(Default)]
pub struct Board {
    policies: BTreeMap<PolicyKey, Policy>,
    nodes: BTreeMap<Arc<str>, Node>,
    agents: BTreeMap<Arc<str>, Agent>,
    standing: BTreeMap<PolicyKey, SeenStatus>,
    /// Policies to look at.
    dirty: BTreeSet<PolicyKey>,
    /// When each was looked at last.
    looked: BTreeMap<PolicyKey, Instant>,
    /// Policies to look at again at some time, because time alone changes what is to be said.
    later: BTreeMap<PolicyKey, Instant>,
    /// What differs from what stands; those that fail first.
    wanted: BTreeMap<PolicyKey, (bool, StatusWrite)>,
    in_flight: BTreeSet<PolicyKey>,
    /// Statuses with a write under way that were deleted meanwhile: maybe what that write made.
    gone_meanwhile: BTreeSet<PolicyKey>,
    pace: Pace<PolicyKey>,
}

impl Board {
    /// A NetworkPolicy as it is now; None where it is gone (its status is its own to take along).
    pub fn policy(&mut self, key: &PolicyKey, converted: Option<&Converted>) {
        let Some(converted) = converted else {
            self.policies.remove(key);
            self.wanted.remove(key);
            self.later.remove(key);
            self.looked.remove(key);
            return;
        };
        let pending = self.policies.remove(key).filter(|old| old.uid == converted.uid).map(|old| old.pending);
        let policy = Policy {
            uid: converted.uid.clone(),
            generation: converted.generation,
            enforced: converted.policy.is_some(),
            issues: converted.issues.clone(),
            pending: pending.unwrap_or_default(),
            accepted: None,
            programmed: None,
        };
        self.policies.insert(key.clone(), policy);
        self.dirty.insert(key.clone());
    }

    /// A NetworkPolicy can't be decoded. Where an older version of it is enforced, its status stays about that.
    pub fn unreadable(&mut self, key: &PolicyKey, converted: &Converted) {
        let readable = |policy: &Policy| policy.issues.iter().all(|issue| issue.reason != Reason::Unreadable);
        let stays = |policy: &Policy| policy.uid == converted.uid && readable(policy);
        if !self.policies.get(key).is_some_and(stays) {
            self.policy(key, Some(converted));
        }
    }

    /// Something of a policy may be another than before.
    pub fn touch<'a>(&mut self, keys: impl IntoIterator<Item = &'a PolicyKey>) {
        self.dirty.extend(keys.into_iter().cloned());
    }

    /// Looks at every policy again.
    pub fn touch_all(&mut self) {
        self.dirty.extend(self.policies.keys().cloned());
    }

    /// A node is to enforce this from now on.
    pub fn sent(&mut self, policy: &compiled::NodePolicy, now: Instant) {
        let agents = &self.agents;
        let node = self.nodes.entry(policy.node.clone()).or_insert_with(|| fresh(agents, &policy.node, now));
        if node.sent(policy) {
            self.dirty.extend(node.policies().cloned());
        }
    }

    /// A node is gone.
    pub fn node_gone(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            self.dirty.extend(node.policies().cloned());
        }
    }

    /// A node's NodePolicy stands so, with what its agent reports.
    pub fn reported(
        &mut self,
        name: &Arc<str>,
        published: Option<Published>,
        report: Option<NodePolicyStatus>,
        now: Instant,
    ) {
        let agents = &self.agents;
        let node = self.nodes.entry(name.clone()).or_insert_with(|| fresh(agents, name, now));
        if node.reported(published, report) {
            self.dirty.extend(node.policies().cloned());
        }
    }

    /// An agent's pod, by name; None where it is gone.
    pub fn agent(&mut self, pod: &Arc<str>, agent: Option<Agent>, now: Instant) {
        let before = match agent {
            Some(agent) => {
                let node = agent.node.clone();
                self.agents.insert(pod.clone(), agent);
                Some(node)
            }
            None => self.agents.remove(pod).map(|agent| agent.node),
        };
        let Some(name) = before else { return };
        let ready = self.agents.values().any(|agent| agent.node == name && agent.ready);
        let Some(node) = self.nodes.get_mut(&name) else { return };
        if node.agent(ready, now) {
            self.dirty.extend(node.policies().cloned());
        }
    }

    /// A NetworkPolicyStatus as it stands; None where there is none.
    pub fn stands(&mut self, key: &PolicyKey, seen: Option<SeenStatus>) {
        match seen {
            Some(seen) => {
                let known = self.standing.get(key);
                if known.is_some_and(|known| seen.place.is_older_than(&known.place)) {
                    return;
                }
                self.gone_meanwhile.remove(key);
                self.standing.insert(key.clone(), seen);
            }
            None => {
                if self.in_flight.contains(key) {
                    self.gone_meanwhile.insert(key.clone());
                }
                self.standing.remove(key);
            }
        }
        self.dirty.insert(key.clone());
    }

    /// The next status to write; None while there is none, or it is too early.
    pub fn next(
        &mut self,
        engine: &Engine,
        refused: &BTreeMap<Item, Refusal>,
        now: Instant,
        time: &Time,
    ) -> Option<StatusWrite> {
        self.look(engine, refused, now, time);
        let free = |key: &PolicyKey| !self.in_flight.contains(key) && self.pace.free(key, now) <= now;
        let failing = self.wanted.iter().find(|(key, (failing, _))| *failing && free(key));
        let (key, _) = failing.or_else(|| self.wanted.iter().find(|(key, _)| free(key)))?;
        let key = key.clone();
        let (_, write) = self.wanted.remove(&key)?;
        self.in_flight.insert(key.clone());
        self.pace.written(key, now);
        Some(write)
    }

    /// What became of a write: what stands now, or None where it has to be tried again.
    pub fn written(&mut self, key: &PolicyKey, stands: Option<SeenStatus>, now: Instant) {
        self.in_flight.remove(key);
        match stands.filter(|_| !self.gone_meanwhile.remove(key)) {
            Some(seen) => self.stands(key, Some(seen)),
            None => {
                self.pace.hold(key.clone(), now + RETRY);
                self.dirty.insert(key.clone());
            }
        }
    }

    /// When [`Board::next`] may give something that it does not give now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.wanted.keys().filter(|key| !self.in_flight.contains(*key));
        let free = waiting.map(|key| self.pace.free(key, now)).min();
        free.into_iter().chain(self.later.values().copied()).min()
    }

    /// How many statuses wait to be written.
    pub fn waiting(&self) -> usize {
        self.wanted.len()
    }

    /// How many policies are not accepted, and how many not programmed, among those that were looked at.
    pub fn troubles(&self) -> (usize, usize) {
        let count = |of: fn(&Policy) -> Option<bool>| {
            self.policies.values().filter(|policy| of(policy) == Some(false)).count()
        };
        (count(|policy| policy.accepted), count(|policy| policy.programmed))
    }

    fn look(&mut self, engine: &Engine, refused: &BTreeMap<Item, Refusal>, now: Instant, time: &Time) {
        let due: Vec<_> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.later.remove(&key);
            self.dirty.insert(key);
        }
        for key in std::mem::take(&mut self.dirty) {
            if self.in_flight.contains(&key) {
                // Its answer comes first, and looks again.
                continue;
            }
            if let Some(at) = self.looked.get(&key).map(|at| *at + LOOK_PAUSE).filter(|at| *at > now) {
                self.later.entry(key).and_modify(|later| *later = at.min(*later)).or_insert(at);
                continue;
            }
            self.looked.insert(key.clone(), now);
            self.look_at(&key, engine, refused, now, time);
        }
    }

    fn look_at(
        &mut self,
        key: &PolicyKey,
        engine: &Engine,
        refused: &BTreeMap<Item, Refusal>,
        now: Instant,
        time: &Time,
    ) {
        let Some(policy) = self.policies.get_mut(key) else { return };
        let known = engine.policy(key).filter(|known| known.generation == policy.generation);
        let span = known.as_ref().map(|known| known.nodes.as_slice()).unwrap_or_default();
        let group = refused_group(key, span, engine, refused);
        let mut again: Option<Instant> = None;
        let mut nodes = Vec::new();
        for name in span {
            let refusal = refused.get(&Item::Node(name.clone())).or(group);
            let standing = match (refusal, self.nodes.get(name)) {
                (Some(Refusal { reason, message }), _) => {
                    Standing::Failed { reason: (*reason).into(), message: message.clone() }
                }
                (None, Some(node)) => {
                    again = again.into_iter().chain(node.grace_ends(now)).min();
                    node.standing(key, &policy.uid, policy.generation, now)
                }
                (None, None) => Standing::Pending,
            };
            nodes.push((&**name, standing));
        }
        let waits =
            |name: &str| nodes.iter().any(|(node, standing)| *node == name && *standing == Standing::Pending);
        policy.pending.retain(|name, _| waits(name));
        for (name, _) in nodes.iter().filter(|(_, standing)| *standing == Standing::Pending) {
            policy.pending.entry(Arc::from(*name)).or_insert(now);
        }

        let same = self.standing.get(key).filter(|seen| seen.policy_uid == *policy.uid);
        let empty = PolicyStatus::default();
        let before = same.map_or(&empty, |seen| &seen.status);
        let failing = nodes.iter().any(|(_, standing)| matches!(standing, Standing::Failed { .. }));
        // Pods that come to a new node don't make a policy look unprogrammed while that node catches up.
        let grace = policy.pending.values().map(|since| *since + NEW_NODE_GRACE).min();
        let held = !failing && programmed_at(before, policy.generation) && grace.is_some_and(|end| end > now);
        if held {
            again = again.into_iter().chain(grace).min();
        }
        if let Some(at) = again {
            self.later.insert(key.clone(), at);
        }
        if held {
            return;
        }
        let facts = Facts {
            generation: policy.generation,
            enforced: policy.enforced,
            issues: &policy.issues,
            endpoints: known.as_ref().map_or(0, |known| known.endpoints),
            nodes: &nodes,
        };
        policy.accepted = Some(policy.issues.iter().all(Issue::is_note));
        policy.programmed =
            Some(policy.enforced && nodes.iter().all(|(_, standing)| *standing == Standing::Programmed));
        match status(&facts, before, time) {
            None => {
                self.wanted.remove(key);
            }
            Some(status) => {
                let event = news(before, &status);
                let write = StatusWrite {
                    key: key.clone(),
                    policy_uid: policy.uid.clone(),
                    place: same.map(|seen| seen.place.clone()),
                    stale: self.standing.get(key).filter(|_| same.is_none()).map(|seen| seen.place.clone()),
                    status,
                    event,
                };
                self.wanted.insert(key.clone(), (failing, write));
            }
        }
    }
}

/// Why a group that the policy names is not published as it should be, where one is not.
fn refused_group<'a>(
    key: &PolicyKey,
    span: &[Arc<str>],
    engine: &Engine,
    refused: &'a BTreeMap<Item, Refusal>,
) -> Option<&'a Refusal> {
    let slices = refused.iter().filter_map(|(item, refusal)| match item {
        Item::Slice(id) => Some((id.group, refusal)),
        Item::Node(_) => None,
    });
    let mut slices = slices.peekable();
    slices.peek()?;
    let node = span.first().and_then(|name| engine.node(name))?;
    let policy = node.policies.get(key)?;
    let named: BTreeSet<_> = policy.groups().collect();
    slices.find(|(group, _)| named.contains(group)).map(|(_, refusal)| refusal)
}

fn fresh(agents: &BTreeMap<Arc<str>, Agent>, name: &Arc<str>, now: Instant) -> Node {
    let mut node = Node::new(now);
    node.agent(agents.values().any(|agent| agent.node == *name && agent.ready), now);
    node
}

fn programmed_at(status: &PolicyStatus, generation: i64) -> bool {
    conditions::find(&status.conditions, PROGRAMMED).is_some_and(|condition| {
        condition.status == "True" && condition.observed_generation == Some(generation)
    })
}

/// The message of Accepted, where that is False now and was not, or said something else.
fn news(before: &PolicyStatus, after: &PolicyStatus) -> Option<String> {
    let refused = |status: &PolicyStatus| {
        conditions::find(&status.conditions, conditions::ACCEPTED)
            .filter(|condition| condition.status == "False")
            .map(|condition| condition.message.clone())
    };
    refused(after).filter(|message| refused(before).as_ref() != Some(message))
}
