//! What is said of sets, tiers and pools.

use selvage_crds::conditions::{ACCEPTED, DELETION_HELD};
use selvage_crds::{GlobalNetworkPolicy, GlobalNetworkSet, IPPool, Tier};
use serde_json::Value;

use super::*;
use crate::watch::{SeenPool, SeenTier};

fn object<T: serde::de::DeserializeOwned>(name: &str, generation: i64, spec: Value) -> T {
    let metadata = json!({ "name": name, "uid": format!("uid-{name}"), "generation": generation, "labels": { "list": "bad" } });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

impl World {
    fn stands_at(&mut self, about: &About, uid: &str, generation: i64) {
        self.version += 1;
        let place = Place { version: self.version.to_string(), uid: uid.into(), generation };
        let said = about.nothing_said();
        self.board.stands(about, Some(Stood { place, uid: uid.into(), said }));
    }

    fn set(&mut self, generation: i64, nets: Value) {
        let set: GlobalNetworkSet = object("s", generation, json!({ "nets": nets }));
        let (key, read) = convert::global_network_set(&set).unwrap();
        if generation == 1 {
            self.stands_at(&About::Set(key.clone()), "uid-s", 1);
        }
        self.board.set(&key, Some(&read));
        self.engine.apply(Change::NetworkSet(key, read.value));
        self.flush();
    }

    /// A policy of every pod that names the set, in a tier.
    fn global(&mut self, tier: &str) -> PolicyKey {
        let spec = json!({ "tier": tier, "ingress": [{ "action": "Allow", "source": { "selector": "list == 'bad'" } }] });
        let policy: GlobalNetworkPolicy = object("g", 1, spec);
        let converted = convert::global_network_policy(&policy).unwrap();
        let key = converted.key.clone();
        self.stands_at(&About::Policy(key.clone()), "uid-g", 1);
        self.board.policy(&key, Some(&converted));
        let tiers = self.upkeep.tiers.policy(&key, converted.policy.as_ref().map(|policy| &policy.tier));
        tiers.into_iter().for_each(|tier| self.board.touch(About::Tier(tier)));
        self.engine.apply(Change::Policy(key.clone(), converted.policy));
        self.flush();
        key
    }

    fn tier(&mut self, generation: i64, deleting: bool) {
        let mut tier: Tier = object("t", generation, json!({ "order": generation, "defaultAction": "Pass" }));
        if deleting {
            tier.metadata.deletion_timestamp = Some(Time(Timestamp::from_second(1_800_000_000).unwrap()));
        }
        let about = About::Tier("t".into());
        if generation == 1 && !deleting {
            self.stands_at(&about, "uid-t", 1);
        }
        let change = self.upkeep.tiers.stands(&"t".into(), SeenTier::of(&tier));
        self.board.touch(about);
        self.engine.apply(change);
        self.flush();
    }

    /// Writes everything that there is to write, and what was said of this object last.
    fn settle(&mut self, about: &About) -> Option<Said> {
        let mut said = None;
        for _ in 0..20 {
            let Some(write) = self.next(2 * SECOND) else { continue };
            let found = write.about == *about;
            let written = self.done(write);
            if found {
                said = Some(written);
            }
        }
        said
    }
}

/// Status, reason and message of a condition.
fn condition(said: Option<&Said>, kind: &str) -> (String, String, String) {
    let found = find(said.unwrap().conditions(), kind).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn is(said: Option<&Said>, kind: &str, status: &str, reason: &str) {
    let found = condition(said, kind);
    assert_eq!((found.0.as_str(), found.1.as_str()), (status, reason), "{said:?}");
}

#[test]
fn a_set_is_programmed_when_it_is_published_and_its_policies_stand() {
    let mut world = World::new(1);
    let about = About::Set(model::Key { namespace: "".into(), name: "s".into() });
    world.set(1, json!(["192.0.2.0/24", "192.0.2.0/24", "2001:db8::/32"]));
    let said = world.settle(&about);
    is(said.as_ref(), PROGRAMMED, "True", reason::NO_POLICIES);
    world.global("default");
    world.writes.waits = true;
    world.report("n01", |_| ());
    let Some(Said::Set(status)) = world.settle(&about) else { panic!("nothing was said") };
    assert_eq!((status.members, status.policies.count, status.nodes.summary.as_str()), (2, 1, "1/1"));
    assert_eq!(status.policies.names, ["GlobalNetworkPolicy g"]);

    world.set(2, json!(["192.0.2.0/24"]));
    is(world.settle(&about).as_ref(), PROGRAMMED, "False", reason::PENDING);
    world.writes.waits = false;
    is(world.settle(&about).as_ref(), PROGRAMMED, "True", reason::PROGRAMMED);
    // Pods that come and go make no news of it.
    world.writes.waits = true;
    world.node(2);
    assert!(world.settle(&about).is_some_and(|said| condition(Some(&said), PROGRAMMED).0 == "True"));
}

#[test]
fn a_set_with_entries_that_cannot_be_read_names_them() {
    let mut world = World::new(0);
    let about = About::Set(model::Key { namespace: "".into(), name: "s".into() });
    world.set(1, json!(["192.0.2.0/24", "010.0.0.0/8"]));
    let said = world.settle(&about);
    is(said.as_ref(), ACCEPTED, "False", reason::PARTIALLY_INVALID);
    assert!(condition(said.as_ref(), ACCEPTED).2.starts_with("spec.nets[1]: "), "{said:?}");
}

#[test]
fn a_policy_in_a_missing_tier_says_so_until_the_tier_comes() {
    let mut world = World::new(1);
    let about = About::Policy(world.global("t"));
    let said = world.settle(&about);
    is(said.as_ref(), ACCEPTED, "False", reason::TIER_NOT_FOUND);
    is(said.as_ref(), PROGRAMMED, "False", reason::TIER_NOT_FOUND);
    world.tier(1, false);
    is(world.settle(&about).as_ref(), ACCEPTED, "True", reason::ACCEPTED);
}

#[test]
fn a_tier_is_programmed_when_its_nodes_enforce_that_version() {
    let mut world = World::new(2);
    let about = About::Tier("t".into());
    world.tier(1, false);
    is(world.settle(&about).as_ref(), PROGRAMMED, "True", reason::NO_ENDPOINTS);
    world.global("t");
    world.report("n01", |_| ());
    world.report("n02", |_| ());
    let Some(Said::Tier(status)) = world.settle(&about) else { panic!("nothing was said") };
    assert_eq!((status.policies.count, status.nodes.summary.as_str()), (1, "2/2"));
    world.writes.waits = true;
    world.tier(2, false);
    is(world.settle(&about).as_ref(), PROGRAMMED, "False", reason::PENDING);
    let generation = |world: &mut World, node: &str, generation: i64, reports: i64| {
        let sent = world.engine.node(node).unwrap();
        let of = |generation| Published {
            policy_set: digest::policy_set(&sent),
            digest: digest::node_policy(&sent),
            generation,
        };
        world.board.reported(&node.into(), Some(of(generation)), Some(enforces(&of(reports))), world.now);
    };
    world.writes.waits = false;
    // The NodePolicies are written, and one agent has yet to say that it enforces the new one.
    generation(&mut world, "n01", 2, 2);
    generation(&mut world, "n02", 2, 1);
    is(world.settle(&about).as_ref(), PROGRAMMED, "False", reason::PENDING);
    generation(&mut world, "n02", 2, 2);
    is(world.settle(&about).as_ref(), PROGRAMMED, "True", reason::PROGRAMMED);
}

#[test]
fn a_deleted_tier_names_the_policies_that_hold_it() {
    let mut world = World::new(1);
    world.tier(1, false);
    world.global("t");
    world.settle(&About::Tier("t".into()));
    world.tier(1, true);
    world.now += 2 * SECOND;
    let write = world.next(2 * SECOND).unwrap();
    assert_eq!(write.about, About::Tier("t".into()));
    is(Some(&write.said), DELETION_HELD, "True", reason::IN_USE);
    assert!(condition(Some(&write.said), DELETION_HELD).2.contains("GlobalNetworkPolicy g"));
    assert_eq!(write.event.as_ref().unwrap().reason, reason::IN_USE);
    world.done(write);
    assert!(world.next(2 * SECOND).is_none(), "told once");
}

#[test]
fn of_two_pools_that_overlap_the_younger_is_not_accepted() {
    let mut world = World::new(1);
    for (name, cidr, created) in [("old", "10.0.0.0/8", 1), ("young", "10.1.0.0/16", 2)] {
        let pool: IPPool = object(name, 1, json!({ "cidr": cidr, "natOutgoing": true }));
        let mut seen = SeenPool::of(&pool).unwrap();
        seen.created = created;
        world.stands_at(&About::Pool(name.into()), &format!("uid-{name}"), 1);
        for change in world.upkeep.pools.stands(&name.into(), Some(seen)) {
            world.engine.apply(change);
        }
    }
    world.flush();
    let young = world.settle(&About::Pool("young".into()));
    is(young.as_ref(), ACCEPTED, "False", reason::OVERLAP);
    is(young.as_ref(), PROGRAMMED, "False", reason::INVALID);
    world.report("n01", |_| ());
    world.board.touch(About::Pool("old".into()));
    let Some(Said::Pool(status)) = world.settle(&About::Pool("old".into())) else {
        panic!("nothing was said")
    };
    assert_eq!(status.capacity, "16777216");
    assert!(selvage_crds::conditions::is_true(&status.conditions, PROGRAMMED), "{status:?}");
}
