//! What is said of a policy, given what nodes report.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use selvage_crds::conditions::{PROGRAMMED, find, reason};
use selvage_crds::digest;
use selvage_crds::network_policy_status::PolicyStatus;
use selvage_crds::node_policy::{NodePolicyStatus, NotProgrammed, PolicyRef};
use selvage_policy::compiled::{self, EndpointKey, GroupId, PolicyKey, PolicyKind};
use selvage_policy::engine::Engine;
use selvage_policy::model::{self, Change};
use serde_json::json;

use super::node::{Node, Published, Standing};
use super::{About, Board, Publication, Said, StatusWrite, View};
use crate::convert;
use crate::publish::{Item, Refusal};
use crate::upkeep::{Pools, Upkeep};
use crate::watch::{Agent, Place, Stood};

mod objects;

const SECOND: Duration = Duration::from_secs(1);

/// A board beside an engine, with one policy of all pods in a namespace.
struct World {
    engine: Engine,
    board: Board,
    now: Instant,
    key: PolicyKey,
    version: u64,
    said: PolicyStatus,
    writes: Writes,
    upkeep: Upkeep,
}

/// What publication says.
#[derive(Default)]
struct Writes {
    refused: BTreeMap<Item, Refusal>,
    /// Nodes and groups that are still to be written.
    waits: bool,
}

impl Publication for Writes {
    fn refused(&self) -> &BTreeMap<Item, Refusal> {
        &self.refused
    }
    fn node_waits(&self, _: &Arc<str>) -> bool {
        self.waits
    }
    fn group_waits(&self, _: GroupId) -> bool {
        self.waits
    }
}

impl World {
    fn new(nodes: usize) -> Self {
        let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "a".into(), name: "p".into() };
        let mut world = Self {
            engine: Engine::new(),
            board: Board::default(),
            now: Instant::now(),
            key,
            version: 0,
            said: PolicyStatus::default(),
            writes: Writes::default(),
            upkeep: Upkeep::new(Pools::new(vec![], true)),
        };
        world.policy(1);
        for number in 1..=nodes {
            world.node(number);
        }
        world
    }

    fn policy(&mut self, generation: i64) {
        let object = serde_json::from_value(json!({
            "metadata": { "namespace": "a", "name": "p", "uid": "u", "generation": generation },
            "spec": { "podSelector": {} },
        }));
        let converted = convert::network_policy(&object.unwrap()).unwrap();
        self.board.policy(&self.key, Some(&converted));
        self.engine.apply(Change::Policy(self.key.clone(), converted.policy));
        self.flush();
    }

    /// A node with a ready agent and a pod.
    fn node(&mut self, number: usize) {
        let name: Arc<str> = format!("n{number:02}").into();
        self.agent(&name, true);
        self.engine.apply(Change::Node(name.clone(), Some(model::Node::default())));
        let key = EndpointKey { namespace: "a".into(), name: name.clone() };
        let pod = model::Pod {
            uid: name.clone(),
            created: 0,
            node: name,
            labels: BTreeMap::new(),
            service_account: "default".into(),
            addresses: Default::default(),
            named_ports: Default::default(),
        };
        self.engine.apply(Change::Pod(key, Some(pod)));
        self.flush();
    }

    fn agent(&mut self, node: &str, ready: bool) {
        self.board.agent(&node.into(), Some(Agent { node: node.into(), ready }), self.now);
    }

    fn flush(&mut self) {
        let delta = self.engine.flush();
        for policy in delta.nodes.values() {
            self.board.sent(policy, self.now);
        }
        self.board.touch_policies(&delta.policies);
        delta.sets.iter().for_each(|key| self.board.touch(About::Set(key.clone())));
    }

    /// The node reports that it enforces what it was sent, but for what `change` says.
    fn report(&mut self, node: &str, change: impl FnOnce(&mut NodePolicyStatus)) {
        let sent = self.engine.node(node).unwrap();
        let published = Published {
            policy_set: digest::policy_set(&sent),
            digest: digest::node_policy(&sent),
            generation: 1,
        };
        let mut status = enforces(&published);
        change(&mut status);
        self.board.reported(&node.into(), Some(published), Some(status), self.now);
    }

    /// The next status to write, after some time.
    fn next(&mut self, after: Duration) -> Option<StatusWrite> {
        self.now += after;
        let time = Time(Timestamp::from_second(1_800_000_000).unwrap());
        let view = View {
            engine: &self.engine,
            publication: &self.writes,
            upkeep: &self.upkeep,
            now: self.now,
            time: &time,
        };
        self.board.next(view)
    }

    /// A status is written.
    fn done(&mut self, write: StatusWrite) -> Said {
        self.version += 1;
        let place = Place { version: self.version.to_string(), uid: "s".into(), generation: 1 };
        let stood = Stood { place, uid: write.uid.to_string(), said: write.said.clone() };
        self.board.written(&write.about, Some(stood), self.now);
        write.said
    }

    /// Writes what there is to write, after some time; whether that was anything.
    fn write(&mut self, after: Duration) -> bool {
        let Some(write) = self.next(after) else { return false };
        match self.done(write) {
            Said::Policy(status) => self.said = status,
            other => panic!("{other:?}"),
        }
        true
    }

    /// Programmed as it was last written: status, reason, and programmed/desired.
    fn programmed(&self) -> (String, String, String) {
        let condition = find(&self.said.conditions, PROGRAMMED).unwrap();
        (condition.status.clone(), condition.reason.clone(), self.said.nodes.summary.clone())
    }

    fn says(&self, status: &str, reason: &str, summary: &str) {
        assert_eq!(self.programmed(), (status.into(), reason.into(), summary.into()), "{:?}", self.said);
    }
}

/// The report that a node enforces this.
fn enforces(published: &Published) -> NodePolicyStatus {
    NodePolicyStatus {
        policy_set: Some(published.policy_set.clone()),
        observed_generation: Some(published.generation),
        digest: Some(published.digest.clone()),
        ..NodePolicyStatus::default()
    }
}

#[test]
fn a_set_that_comes_back_is_not_programmed_by_the_report_of_its_first_time() {
    let now = Instant::now();
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "a".into(), name: "p".into() };
    let policy = Arc::new(compiled::Policy { uid: "u".into(), generation: 1, ..Default::default() });
    let with = compiled::NodePolicy { policies: [(key.clone(), policy)].into(), ..Default::default() };
    let without = compiled::NodePolicy::default();
    let mut node = Node::new(now);
    node.agent(true, now);
    let of = |set: &compiled::NodePolicy, generation| Published {
        policy_set: digest::policy_set(set),
        digest: digest::node_policy(set),
        generation,
    };
    let first = of(&with, 1);
    node.sent(&with);
    assert!(node.reported(Some(first.clone()), Some(enforces(&first))));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Programmed);
    // An endpoint more changes nothing about the policy.
    assert!(!node.reported(Some(of(&with, 2)), Some(enforces(&first))));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Programmed);
    node.sent(&without);
    node.sent(&with);
    // The set without the policy was on its way, and lands.
    assert!(node.reported(Some(of(&without, 3)), Some(enforces(&first))));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Pending);
    node.reported(Some(of(&with, 4)), Some(enforces(&first)));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Pending);
    node.reported(Some(of(&with, 5)), Some(enforces(&of(&without, 3))));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Pending);
    assert!(node.reported(Some(of(&with, 5)), Some(enforces(&of(&with, 4)))));
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Programmed);
    assert!(node.reported(None, None), "the NodePolicy went");
    assert_eq!(node.standing(&key, "u", 1, now), Standing::Pending);
}

#[test]
fn all_nodes_have_to_report() {
    let mut world = World::new(2);
    assert!(world.write(SECOND));
    world.says("False", reason::PENDING, "0/2");
    world.report("n01", |_| ());
    assert!(world.write(SECOND));
    world.says("False", reason::PENDING, "1/2");
    world.report("n02", |_| ());
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "2/2");
    world.report("n02", |status| status.revision = 8);
    assert!(!world.write(SECOND), "nothing new is nothing to write");
}

#[test]
fn a_report_counts_for_the_generation_that_its_set_had() {
    let mut world = World::new(1);
    let old = digest::policy_set(&world.engine.node("n01").unwrap());
    world.policy(2);
    world.report("n01", |status| status.policy_set = Some(old.clone()));
    assert!(world.write(SECOND));
    world.says("False", reason::PENDING, "0/1");
    world.report("n01", |_| ());
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "1/1");
    assert_eq!(world.said.observed_generation, Some(2));
    world.report("n01", |status| status.policy_set = Some("0123456789abcdef".into()));
    assert!(!world.write(SECOND), "an unknown set is not yet a reason to say False");
    assert!(world.write(5 * SECOND));
    world.says("False", reason::PENDING, "0/1");
}

#[test]
fn a_set_that_is_not_the_newest_counts_too() {
    let mut world = World::new(1);
    let first = digest::policy_set(&world.engine.node("n01").unwrap());
    // Another policy makes another set; the report of the first says enough about this policy.
    let mut other = convert::network_policy(
        &serde_json::from_value(json!({
            "metadata": { "namespace": "a", "name": "other", "uid": "o", "generation": 1 },
            "spec": { "podSelector": {} },
        }))
        .unwrap(),
    )
    .unwrap();
    world.engine.apply(Change::Policy(other.key.clone(), other.policy.take()));
    world.flush();
    world.report("n01", |status| status.policy_set = Some(first));
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "1/1");
}

#[test]
fn a_new_node_has_five_seconds() {
    let mut world = World::new(1);
    world.report("n01", |_| ());
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "1/1");
    world.node(2);
    assert!(!world.write(SECOND));
    assert!(!world.write(4 * SECOND));
    let due = world.board.due(world.now).unwrap();
    assert_eq!(due - world.now, SECOND, "it looks again by itself");
    assert!(world.write(SECOND));
    world.says("False", reason::PENDING, "1/2");
    world.report("n02", |_| ());
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "2/2");
}

#[test]
fn a_failing_node_is_named_at_once() {
    let mut world = World::new(1);
    world.report("n01", |_| ());
    assert!(world.write(SECOND));
    world.node(2);
    let key = world.key.clone();
    world.report("n02", |status| {
        let entry = NotProgrammed {
            policy: PolicyRef::from(&key),
            reason: reason::KERNEL_REFUSED.into(),
            message: "no".into(),
        };
        status.not_programmed = vec![entry];
        status.not_programmed_total = 1;
    });
    assert!(world.write(SECOND));
    world.says("False", reason::FAILED, "1/2");
    let details: Vec<_> =
        world.said.nodes.details.iter().map(|d| (d.name.as_str(), d.reason.as_str())).collect();
    assert_eq!(details, [("n02", reason::KERNEL_REFUSED)]);
    assert_eq!(world.said.nodes.failed, 1);
}

#[test]
fn a_node_that_names_fewer_than_fail_fails_for_all() {
    let mut world = World::new(1);
    world.report("n01", |status| status.not_programmed_total = 1);
    assert!(world.write(SECOND));
    world.says("False", reason::FAILED, "0/1");
}

#[test]
fn an_agent_that_stays_away_makes_its_node_unknown() {
    let mut world = World::new(1);
    world.report("n01", |_| ());
    assert!(world.write(SECOND));
    world.agent("n01", false);
    assert!(!world.write(SECOND), "a restart is no news");
    world.agent("n01", true);
    assert!(!world.write(super::node::AGENT_GRACE));
    world.agent("n01", false);
    assert!(!world.write(SECOND));
    assert!(world.write(super::node::AGENT_GRACE));
    world.says("Unknown", reason::AGENT_NOT_READY, "0/1");
    world.agent("n01", true);
    assert!(world.write(SECOND));
    world.says("True", reason::PROGRAMMED, "1/1");
}

#[test]
fn a_node_without_an_agent_fails_after_a_while() {
    let mut world = World::new(1);
    world.agent("n01", false);
    assert!(world.write(SECOND));
    world.says("False", reason::PENDING, "0/1");
    assert!(world.write(super::node::AGENT_GRACE));
    world.says("False", reason::FAILED, "0/1");
    assert_eq!(world.said.nodes.details[0].reason, reason::AGENT_NOT_READY);
}

#[test]
fn ten_nodes_are_named_the_failed_ones_first() {
    let mut world = World::new(12);
    world.report("n12", |status| status.not_programmed_total = 1);
    assert!(world.write(SECOND));
    let details = &world.said.nodes.details;
    assert_eq!(details.len(), 10);
    assert_eq!((details[0].name.as_str(), details[1].name.as_str()), ("n12", "n01"));
    assert_eq!((world.said.nodes.desired, world.said.nodes.failed), (12, 1));
}

#[test]
fn one_object_is_written_once_a_second() {
    let mut world = World::new(2);
    assert!(world.write(SECOND));
    world.report("n01", |_| ());
    assert!(!world.write(SECOND / 2));
    world.report("n02", |_| ());
    assert!(world.write(SECOND / 2));
    world.says("True", reason::PROGRAMMED, "2/2");
}

#[test]
fn a_node_that_nothing_could_be_sent_to_fails() {
    let mut world = World::new(2);
    world.report("n01", |_| ());
    world.report("n02", |_| ());
    assert!(world.write(SECOND));
    let refusal = Refusal { reason: reason::TOO_LARGE, message: "2000000 bytes".into() };
    world.writes.refused.insert(Item::Node("n02".into()), refusal);
    world.board.touch(About::Policy(world.key.clone()));
    assert!(world.write(SECOND));
    world.says("False", reason::FAILED, "1/2");
    let detail = &world.said.nodes.details[0];
    assert_eq!((detail.name.as_str(), detail.reason.as_str()), ("n02", reason::TOO_LARGE));
}

#[test]
fn a_new_leader_does_not_call_pending_what_was_known_to_fail() {
    let mut world = World::new(1);
    world.agent("n01", false);
    assert!(world.write(super::node::AGENT_GRACE + SECOND));
    world.says("False", reason::FAILED, "0/1");
    // Another replica begins to lead: it has seen no agent, and does not know for how long there was none.
    let mut next = World::new(1);
    next.agent("n01", false);
    let stood = Stood {
        place: Place { version: "1".into(), uid: "s".into(), generation: 1 },
        uid: "u".into(),
        said: Said::Policy(world.said.clone()),
    };
    next.board.stands(&About::Policy(next.key.clone()), Some(stood));
    next.board.lead(next.now);
    assert!(!next.write(SECOND));
    assert!(!next.write(super::node::AGENT_GRACE), "it fails still");
    next.report("n01", |_| ());
    next.agent("n01", true);
    assert!(next.write(SECOND));
    next.says("True", reason::PROGRAMMED, "1/1");
}
