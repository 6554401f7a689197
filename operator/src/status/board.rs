//! All that statuses are made from, and which to write next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use selvage_crds::node_policy::NodePolicyStatus;
use selvage_policy::compiled::{self, GroupId, PolicyKey};
use selvage_policy::engine::Engine;
use selvage_policy::model::Key;

use super::about::About;
use super::alarms::alarms;
use super::ledger::{Ledger, News, StatusWrite};
use super::node::{Node, Published, Standing};
use super::policies::Policy;
use super::progress::Progress;
use super::sets::Set;
use crate::convert::{Converted, Read, Reason};
use crate::publish::{Item, Refusal};
use crate::upkeep::Upkeep;
use crate::watch::{Agent, Stood};

/// How often what is not written yet is looked for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What publication knows that conditions depend on.
pub trait Publication {
    /// Objects that are not written, and why.
    fn refused(&self) -> &BTreeMap<Item, Refusal>;
    /// Whether a node's NodePolicy is still to be written.
    fn node_waits(&self, name: &Arc<str>) -> bool;
    /// Whether a slice of a group is still to be written.
    fn group_waits(&self, id: GroupId) -> bool;
}

/// What a look needs to see beside what the board was told.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What is enforced.
    pub engine: &'a Engine,
    /// What is published.
    pub publication: &'a dyn Publication,
    /// Tiers and pools.
    pub upkeep: &'a Upkeep,
    /// The time, for pauses.
    pub now: Instant,
    /// The time, for people.
    pub time: &'a Time,
}

/// All that statuses are made from, and those that wait to be written.
#[derive(Default)]
pub struct Board {
    pub(super) policies: BTreeMap<PolicyKey, Policy>,
    pub(super) sets: BTreeMap<Key, Set>,
    /// Sets by the policies that use them, as they were last looked at.
    pub(super) used_by: BTreeMap<PolicyKey, BTreeSet<Key>>,
    /// How far tiers and pools have come.
    pub(super) progress: BTreeMap<About, Progress>,
    pub(super) nodes: BTreeMap<Arc<str>, Node>,
    agents: BTreeMap<Arc<str>, Agent>,
    pub(super) ledger: Ledger,
}

impl Board {
    /// A policy as it is now; None where it is gone.
    pub fn policy(&mut self, key: &PolicyKey, converted: Option<&Converted>) {
        let about = About::Policy(key.clone());
        let Some(converted) = converted else {
            self.policies.remove(key);
            self.ledger.forget(&about);
            return;
        };
        let before = self.policies.remove(key);
        self.policies.insert(key.clone(), Policy::new(converted, before));
        self.ledger.touch(about);
    }

    /// A policy can't be decoded. Where an older version of it is enforced, its status stays about that.
    pub fn unreadable(&mut self, key: &PolicyKey, converted: &Converted) {
        let readable = |policy: &Policy| policy.issues.iter().all(|issue| issue.reason != Reason::Unreadable);
        let stays = |policy: &Policy| policy.uid == converted.uid && readable(policy);
        if !self.policies.get(key).is_some_and(stays) {
            self.policy(key, Some(converted));
        }
    }

    /// A set as it is now; None where it is gone.
    pub fn set<T>(&mut self, key: &Key, read: Option<&Read<T>>) {
        let about = About::Set(key.clone());
        match read {
            Some(read) => {
                self.sets.insert(key.clone(), Set::new(read));
                self.ledger.touch(about);
            }
            None => {
                self.sets.remove(key);
                self.ledger.forget(&about);
            }
        }
    }

    /// A tier or pool is gone.
    pub fn gone(&mut self, about: &About) {
        self.progress.remove(about);
        self.ledger.forget(about);
    }

    /// Something of an object may be another than before.
    pub fn touch(&mut self, about: About) {
        self.ledger.touch(about);
    }

    /// Something of policies may be another than before.
    pub fn touch_policies<'a>(&mut self, keys: impl IntoIterator<Item = &'a PolicyKey>) {
        keys.into_iter().for_each(|key| self.ledger.touch(About::Policy(key.clone())));
    }

    /// This replica leads from here on: everything is looked at again.
    pub fn lead(&mut self, now: Instant) {
        self.ledger.lead(now);
        self.touch_all();
    }

    /// Looks at every policy and set again.
    pub fn touch_all(&mut self) {
        self.policies.keys().for_each(|key| self.ledger.touch(About::Policy(key.clone())));
        self.sets.keys().for_each(|key| self.ledger.touch(About::Set(key.clone())));
    }

    /// A node is to enforce this from now on.
    pub fn sent(&mut self, policy: &compiled::NodePolicy, now: Instant) {
        let agents = &self.agents;
        let node = self.nodes.entry(policy.node.clone()).or_insert_with(|| fresh(agents, &policy.node, now));
        if node.sent(policy) {
            let policies: Vec<_> = node.policies().cloned().collect();
            self.touch_policies(&policies);
        }
    }

    /// A node is gone.
    pub fn node_gone(&mut self, name: &str) {
        if let Some(node) = self.nodes.remove(name) {
            self.touch_policies(node.policies());
        }
    }

    /// A node's NodePolicy stands so, with what its agent reports. Returns what is new of it that somebody must act on.
    pub fn reported(
        &mut self,
        name: &Arc<str>,
        published: Option<Published>,
        report: Option<NodePolicyStatus>,
        now: Instant,
    ) -> Vec<News> {
        let agents = &self.agents;
        let node = self.nodes.entry(name.clone()).or_insert_with(|| fresh(agents, name, now));
        let alarms = alarms(node.report(), report.as_ref());
        if node.reported(published, report) {
            let policies: Vec<_> = node.policies().cloned().collect();
            self.touch_policies(&policies);
            self.touch_progress();
        }
        alarms
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
            let policies: Vec<_> = node.policies().cloned().collect();
            self.touch_policies(&policies);
            self.touch_progress();
        }
    }

    fn touch_progress(&mut self) {
        self.progress.keys().for_each(|about| self.ledger.touch(about.clone()));
    }

    /// A status as it stands; None where there is none.
    pub fn stands(&mut self, about: &About, stood: Option<Stood>) {
        self.ledger.stands(about, stood);
    }

    /// The next status to write; None while there is none, or it is too early.
    pub fn next(&mut self, view: View<'_>) -> Option<StatusWrite> {
        for about in self.ledger.look(view.now) {
            let look = match &about {
                About::Policy(key) => self.look_at_policy(key, view),
                About::Set(key) => self.look_at_set(key, view),
                About::Tier(name) => self.look_at_tier(name, view),
                About::Pool(name) => self.look_at_pool(name, view),
            };
            self.ledger.looked(about, look, view.now);
        }
        self.ledger.next(view.now)
    }

    /// What became of a write: what stands now, or None where it has to be tried again.
    pub fn written(&mut self, about: &About, stands: Option<Stood>, now: Instant) {
        self.ledger.written(about, stands, now);
    }

    /// A write was of no use, because the object goes.
    pub fn going(&mut self, about: &About, now: Instant) {
        self.ledger.going(about, now);
    }

    /// When [`Board::next`] may give something that it does not give now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.ledger.due(now)
    }

    /// How many statuses wait to be written.
    pub fn waiting(&self) -> usize {
        self.ledger.waiting()
    }

    /// How many policies are not accepted, and how many not programmed, among those that were looked at.
    pub fn troubles(&self) -> (usize, usize) {
        let count = |of: fn(&Policy) -> Option<bool>| {
            self.policies.values().filter(|policy| of(policy) == Some(false)).count()
        };
        (count(|policy| policy.accepted), count(|policy| policy.programmed))
    }

    /// How a policy stands on its nodes, and when time alone may change that.
    pub(super) fn standing(
        &self,
        key: &PolicyKey,
        policy: &Policy,
        span: &[Arc<str>],
        view: View<'_>,
    ) -> (Vec<(Arc<str>, Standing)>, Option<Instant>) {
        let refused = view.publication.refused();
        let group = refused_group(key, span, view);
        let mut again: Option<Instant> = None;
        let mut nodes = Vec::new();
        for name in span {
            let refusal = refused.get(&Item::Node(name.clone())).or(group);
            let standing = match (refusal, self.nodes.get(name)) {
                (Some(Refusal { reason, message }), _) => {
                    Standing::Failed { reason: (*reason).into(), message: message.clone() }
                }
                (None, Some(node)) => {
                    again = again.into_iter().chain(node.grace_ends(view.now)).min();
                    node.standing(key, &policy.uid, policy.generation, view.now)
                }
                (None, None) => Standing::Pending,
            };
            nodes.push((name.clone(), standing));
        }
        (nodes, again)
    }

    /// How a version of a tier or pool stands on the nodes concerned.
    pub(super) fn progress(
        &mut self,
        about: &About,
        version: (&Arc<str>, i64),
        span: &BTreeSet<Arc<str>>,
        view: View<'_>,
    ) -> (Vec<(Arc<str>, Standing)>, Option<Instant>) {
        let settled = self
            .ledger
            .standing(about, version.0)
            .is_some_and(|stood| programmed_at(stood.said.conditions(), version.1));
        let nodes = &self.nodes;
        let progress = self.progress.entry(about.clone()).or_default();
        let unwritten = |name: &Arc<str>| view.publication.node_waits(name);
        let mut standing = progress.look(version, settled, span, nodes, unwritten, view.now);
        for (name, standing) in &mut standing {
            if let Some(Refusal { reason, message }) =
                view.publication.refused().get(&Item::Node(name.clone()))
            {
                *standing = Standing::Failed { reason: (*reason).into(), message: message.clone() };
            }
        }
        let grace = span.iter().filter_map(|name| nodes.get(name)?.grace_ends(view.now)).min();
        let waits = standing.iter().any(|(_, standing)| *standing == Standing::Pending);
        (standing, waits.then(|| view.now + LOOK_AGAIN).into_iter().chain(grace).min())
    }
}

/// Why a group that the policy names is not published as it should be, where one is not.
fn refused_group<'a>(key: &PolicyKey, span: &[Arc<str>], view: View<'a>) -> Option<&'a Refusal> {
    let slices = view.publication.refused().iter().filter_map(|(item, refusal)| match item {
        Item::Slice(id) => Some((id.group, refusal)),
        Item::Node(_) => None,
    });
    let mut slices = slices.peekable();
    slices.peek()?;
    let named = groups(key, span, view.engine);
    slices.find(|(group, _)| named.contains(group)).map(|(_, refusal)| refusal)
}

/// The groups that a policy names.
pub(super) fn groups(key: &PolicyKey, span: &[Arc<str>], engine: &Engine) -> BTreeSet<GroupId> {
    let node = span.first().and_then(|name| engine.node(name));
    let policy = node.as_ref().and_then(|node| node.policies.get(key));
    policy.into_iter().flat_map(|policy| policy.groups()).collect()
}

fn fresh(agents: &BTreeMap<Arc<str>, Agent>, name: &Arc<str>, now: Instant) -> Node {
    let mut node = Node::new(now);
    node.agent(agents.values().any(|agent| agent.node == *name && agent.ready), now);
    node
}

/// Whether Programmed is said to be True of that generation.
pub(super) fn programmed_at(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    generation: i64,
) -> bool {
    selvage_crds::conditions::find(conditions, selvage_crds::conditions::PROGRAMMED).is_some_and(
        |condition| condition.status == "True" && condition.observed_generation == Some(generation),
    )
}
