//! The planner by itself: what time retires, what is too large, what stands already.

use std::time::{Duration, Instant};

use rstest::rstest;
use selvage_crds::address_group::Owner;
use selvage_crds::bucket::Bucket;
use selvage_crds::codec::SIZE_LIMIT;
use selvage_crds::conditions::reason;
use selvage_crds::{Basis, codec};
use selvage_policy::compiled::{EndpointKey, PolicyKey, PolicyKind};
use selvage_policy::engine::Engine;
use selvage_policy::model::{self, Change, Entity, Namespaces, Peer, PodSet};
use selvage_policy::selector::Selector;

use super::*;
use crate::watch::Place;

mod owners;

/// An engine, a planner, and an API server that says yes to everything.
struct World {
    engine: Engine,
    planner: Planner,
    now: Instant,
    version: u64,
    /// The newest slices of the newest cut.
    slices: std::collections::BTreeMap<String, AddressGroup>,
}

/// Address number 0.
const BASE: u32 = 0x0a00_0000;

impl World {
    fn new() -> Self {
        let mut engine = Engine::new();
        for node in ["n1", "n2"] {
            engine.apply(Change::Node(node.into(), Some(model::Node::default())));
        }
        engine.apply(Change::Namespace("a".into(), Some(model::Namespace::default())));
        Self {
            engine,
            planner: Planner::new("s".into()),
            now: Instant::now(),
            version: 0,
            slices: Default::default(),
        }
    }

    fn leading() -> Self {
        let mut world = Self::new();
        world.engine.flush();
        world.planner.lead(&world.engine, world.now);
        world
    }

    fn pod(&mut self, name: &str, node: &str, number: u32, there: bool) {
        let pod = model::Pod {
            uid: name.into(),
            labels: [("app".into(), name.split('-').next().unwrap().into())].into(),
            ..pod_at(node, number)
        };
        let key = EndpointKey { namespace: "a".into(), name: name.into() };
        self.engine.apply(Change::Pod(key, there.then_some(pod)));
    }

    /// A policy that lets `web` reach `db`.
    fn policy(&mut self, there: bool) {
        let set = |app: &str| PodSet {
            accounts: Selector::All,
            namespaces: Namespaces::Named("a".into()),
            pods: Selector::equals("app", app),
        };
        let rule = model::Rule {
            action: selvage_policy::compiled::Action::Allow,
            family: None,
            ports: vec![],
            source: Entity::any_of(vec![Peer::Pods(set("web"))]),
            destination: Entity::default(),
        };
        let policy = model::Policy {
            uid: "u".into(),
            generation: 1,
            tier: "default".into(),
            order: model::Order::new(1000.0),
            subject: set("db"),
            ingress: Some(vec![rule]),
            egress: None,
        };
        let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "a".into(), name: "p".into() };
        self.engine.apply(Change::Policy(key, there.then_some(policy)));
    }

    /// Compiles, and writes all there is to write: what was done, as `+`, `=` or `-` with the object.
    fn write(&mut self) -> Vec<String> {
        let delta = self.engine.flush();
        self.planner.changed(&delta, &self.engine, self.now);
        self.planner.retire(self.now);
        let mut done = Vec::new();
        while let Some((write, _)) = self.planner.next(&self.engine, &Basis::new(), self.now) {
            self.version += 1;
            let (sign, stands) = match &write {
                Write::Node(_, Action::Create(_)) | Write::Slice(_, Action::Create(_)) => ('+', true),
                Write::Node(_, Action::Replace(_)) | Write::Slice(_, Action::Replace(_)) => ('=', true),
                Write::Node(_, Action::Delete { .. }) | Write::Slice(_, Action::Delete { .. }) => {
                    ('-', false)
                }
            };
            if let Write::Slice(id, Action::Create(object) | Action::Replace(object)) = &write {
                self.slices
                    .retain(|name, _| SliceId::parse(name).is_some_and(|known| known.epoch == id.epoch));
                self.slices.insert(id.to_string(), (**object).clone());
            }
            let item = write.item();
            done.push(match &item {
                Item::Node(name) => format!("{sign}{name}"),
                Item::Slice(id) => format!("{sign}{}/{}", id.epoch, id.index),
            });
            let place = Place { version: self.version.to_string(), uid: "u".into(), generation: 1 };
            self.planner.written(&item, Outcome::Done(stands.then_some(place)), self.now);
        }
        done
    }

    fn later(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.write()
    }
}

/// A pod with that address.
fn pod_at(node: &str, number: u32) -> model::Pod {
    model::Pod {
        uid: "".into(),
        created: 0,
        node: node.into(),
        labels: Default::default(),
        service_account: "default".into(),
        addresses: [std::net::Ipv4Addr::from(BASE + number).into()].into(),
        named_ports: Default::default(),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn nothing_is_kept_and_nothing_written_before_leading() {
    let mut world = World::new();
    world.policy(true);
    world.pod("web", "n1", 1, true);
    world.pod("db", "n2", 2, true);
    assert_eq!(world.write(), [""; 0]);
    assert_eq!(world.planner.waiting(), 0);
    world.planner.lead(&world.engine, world.now);
    assert_eq!(world.write(), ["+1/0", "+n1", "+n2"]);
    assert_eq!(world.write(), [""; 0]);
}

#[test]
fn a_group_that_no_node_names_is_forgotten_after_a_while() {
    let mut world = World::leading();
    world.policy(true);
    world.pod("web", "n1", 1, true);
    world.pod("db", "n2", 2, true);
    assert_eq!(world.write(), ["+1/0", "+n1", "+n2"]);
    world.policy(false);
    assert_eq!(world.write(), ["=n2"]);
    // Back in time, it is the group that it was.
    world.now += FORGET_AFTER - SECOND;
    world.policy(true);
    assert_eq!(world.write(), ["=n2"]);
    assert_eq!(world.later(FORGET_AFTER), [""; 0]);
    world.policy(false);
    assert_eq!(world.write(), ["=n2"]);
    assert_eq!(world.later(FORGET_AFTER - SECOND), [""; 0]);
    assert_eq!(world.later(SECOND), ["-1/0"]);
}

#[test]
fn labels_are_added_first_and_removed_late() {
    let (one, other) = (Bucket::of_node("n1"), Bucket::of_node("n2"));
    // The test says nothing where both nodes share a bucket.
    let other_node = if one == other { "n4" } else { "n2" };
    let mut world = World::leading();
    world.policy(true);
    world.pod("web", "n1", 1, true);
    world.pod("db-1", "n1", 2, true);
    assert_eq!(world.write(), ["+1/0", "+n1", "+n2"]);
    world.engine.apply(Change::Node(other_node.into(), Some(model::Node::default())));
    world.pod("db-2", other_node, 3, true);
    let created = if other_node == "n2" { "=n2" } else { "+n4" };
    assert_eq!(world.write(), ["=1/0", created], "the label before the policy that needs it");
    world.pod("db-2", other_node, 3, false);
    assert_eq!(world.write(), [format!("={other_node}")]);
    assert_eq!(world.later(RETIRE_AFTER - SECOND), [""; 0]);
    assert_eq!(world.later(SECOND), ["=1/0"], "the label goes");
}

#[test]
fn another_cut_leaves_the_old_one_to_its_readers() {
    let mut world = World::leading();
    world.policy(true);
    world.pod("db", "n2", 1, true);
    for number in 0..200 {
        world.pod(&format!("web-{number}"), "n1", 100 + number, true);
    }
    assert_eq!(world.write(), ["+1/0", "+n1", "+n2"]);
    for number in 200..300 {
        world.pod(&format!("web-{number}"), "n1", 100 + number, true);
    }
    assert_eq!(world.write(), ["+2/0", "+2/1", "=n1"], "no node names the cut, so none is written for it");
    assert_eq!(world.later(RETIRE_AFTER - SECOND), [""; 0]);
    assert_eq!(world.later(SECOND), ["-1/0"]);
}

#[test]
fn an_old_cut_stays_while_the_new_one_is_not_complete() {
    let mut world = World::leading();
    world.policy(true);
    world.pod("db", "n2", 1, true);
    world.pod("web", "n1", 2, true);
    world.write();
    for number in 0..300 {
        world.pod(&format!("web-{number}"), "n1", 100 + number, true);
    }
    world.write();
    let part = SliceId { epoch: 2, ..*world.planner_slice(2, 1) };
    world.planner.slice_seen(part, None, world.now);
    world.now += RETIRE_AFTER;
    world.planner.retire(world.now);
    let next = world.write();
    assert_eq!(next.first().map(String::as_str), Some("+2/1"), "first it is made whole: {next:?}");
}

impl World {
    fn planner_slice(&self, epoch: u32, index: u32) -> &SliceId {
        let group = self.engine.groups().into_iter().next().unwrap();
        Box::leak(Box::new(SliceId { group, epoch, index }))
    }
}

#[test]
fn what_is_too_large_is_refused_and_holds_nobody_up() {
    let mut world = World::leading();
    assert_eq!(world.write(), ["+n1", "+n2"]);
    for number in 0..12_000 {
        world.pod(&format!("web-{number}"), "n1", 1000 + number, true);
    }
    world.pod("db", "n2", 1, true);
    assert_eq!(world.write(), ["=n2"], "what stood on n1 stays");
    let refusal = &world.planner.refused()[&Item::Node("n1".into())];
    assert_eq!(refusal.reason, reason::TOO_LARGE);
    for number in 0..12_000 {
        world.pod(&format!("web-{number}"), "n1", 1000 + number, number < 10);
    }
    assert_eq!(world.write(), ["=n1"]);
    assert!(world.planner.refused().is_empty());
    let spec = codec::encode_node_policy(&world.engine.node("n1").unwrap(), Basis::new(), false).unwrap();
    assert!(codec::size(&spec).unwrap() < SIZE_LIMIT);
}

#[test]
fn failed_writes_wait_longer_each_time() {
    let mut world = World::leading();
    let mut pauses = Vec::new();
    let failed = || Outcome::Failed { after: None, message: "no".into() };
    let mut told = None;
    let start = world.now;
    for _ in 0..10 {
        let (write, _) = world.planner.next(&world.engine, &Basis::new(), world.now).unwrap();
        world.planner.written(&write.item(), failed(), world.now);
        // The other node's write fails as well, so that only the times matter.
        while let Some((write, _)) = world.planner.next(&world.engine, &Basis::new(), world.now) {
            world.planner.written(&write.item(), failed(), world.now);
        }
        if !world.planner.refused().is_empty() {
            told.get_or_insert((world.now - start).as_secs());
        }
        let due = world.planner.due().unwrap();
        pauses.push((due - world.now).as_millis());
        world.now = due;
    }
    assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
    assert_eq!(told, Some(31), "the first that fails after half a minute");
    let refusal = &world.planner.refused()[&Item::Node("n1".into())];
    assert_eq!((refusal.reason, refusal.message.as_str()), (reason::NOT_PUBLISHED, "no"));
    assert_eq!(world.write(), ["+n1", "+n2"]);
    assert!(world.planner.refused().is_empty());
}

#[rstest]
#[case("00000000000000000000000000000abc-1-0", true)]
#[case("00000000000000000000000000000abc-12-34", true)]
#[case("00000000000000000000000000000abc-01-0", false)]
#[case("00000000000000000000000000000abc-1", false)]
#[case("00000000000000000000000000000abc-1-0-0", false)]
#[case("00000000000000000000000000000ABC-1-0", false)]
#[case("0abc-1-0", false)]
#[case("somebody-elses", false)]
fn slice_names(#[case] name: &str, #[case] ours: bool) {
    assert_eq!(SliceId::parse(name).map(|id| id.to_string()), ours.then(|| name.to_owned()));
}
