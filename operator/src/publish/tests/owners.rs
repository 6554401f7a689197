//! What slices say of the pods behind their members.

use std::collections::BTreeMap;

use kube::core::DeserializeGuard;
use selvage_crds::address_group::Owners;
use selvage_policy::compiled::Member;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// The owners that the group's slices say: members, former members, heirs.
#[derive(Debug, PartialEq, Eq, Default)]
struct Said {
    members: Vec<(u32, &'static str)>,
    former: Vec<(u32, &'static str)>,
    heirs: Vec<u32>,
}

impl World {
    /// A pod of that name with that address, its `app` told; None where it is gone.
    fn set(&mut self, uid: &str, number: u32, app: Option<&str>) {
        let pod = app.map(|app| model::Pod {
            uid: uid.into(),
            labels: [("app".into(), app.into())].into(),
            ..pod_at("n1", number)
        });
        let key = EndpointKey { namespace: "a".into(), name: uid.into() };
        self.engine.apply(Change::Pod(key, pod));
    }

    fn said(&self) -> Said {
        let names = ["old", "new", "other"].map(|uid| (Owner::of(uid), uid));
        let number = |member: &Member| match member.address() {
            std::net::IpAddr::V4(v4) => v4.to_bits() - BASE,
            std::net::IpAddr::V6(_) => panic!("IPv6"),
        };
        let of = |(member, owner): (&Member, &Owner)| {
            (number(member), names.iter().find(|(known, _)| known == owner).map_or("?", |(_, uid)| *uid))
        };
        let mut said = Said::default();
        for object in self.slices.values() {
            let slice = codec::decode_slice(&object.spec).unwrap();
            let Owners { members, former, heirs } = slice.owners.expect("a group of pods");
            assert_eq!(members.len(), slice.members.len());
            said.members.extend(members.iter().map(of));
            said.former.extend(former.iter().map(of));
            said.heirs.extend(heirs.iter().map(number));
        }
        said
    }

    /// Another leader, which finds what this one wrote, and hears of what happened meanwhile.
    fn succeed(&mut self) -> Vec<String> {
        self.engine.flush();
        self.planner = Planner::new("s".into());
        for (name, object) in &self.slices {
            let mut object = object.clone();
            object.metadata.resource_version = Some(self.version.to_string());
            let seen = SeenSlice::of(DeserializeGuard(Ok(object)));
            self.planner.slice_seen(SliceId::parse(name).unwrap(), Some(seen), self.now);
        }
        self.planner.lead(&self.engine, self.now);
        self.write().into_iter().filter(|write| write.contains('/')).collect()
    }
}

/// `old` is a web pod with address 7, `db` asks for web pods.
fn world() -> World {
    let mut world = World::leading();
    world.pod("db-1", "n2", 1, true);
    world.policy(true);
    world.set("old", 7, Some("web"));
    world.write();
    assert_eq!(world.said(), Said { members: vec![(7, "old")], ..Said::default() });
    world
}

#[test]
fn a_pod_that_ends_leaves_nothing() {
    let mut world = world();
    world.set("old", 7, None);
    assert_eq!(world.write().iter().filter(|write| write.contains('/')).count(), 1);
    assert_eq!(world.said(), Said::default());
}

#[test]
fn a_label_that_changes_leaves_a_former_member_until_its_pod_ends() {
    let mut world = world();
    world.set("old", 7, Some("other"));
    world.write();
    assert_eq!(world.said(), Said { former: vec![(7, "old")], ..Said::default() });
    world.set("old", 7, Some("web"));
    world.write();
    assert_eq!(world.said(), Said { members: vec![(7, "old")], ..Said::default() });
    world.set("old", 7, Some("other"));
    world.write();
    // The pod that comes to its address is in no group that anybody reads.
    world.set("old", 7, None);
    world.set("new", 7, Some("other"));
    world.write();
    assert_eq!(world.said(), Said::default());
}

#[test]
fn a_hand_over_inside_a_group_is_said_even_where_no_member_came_or_went() {
    let mut world = world();
    world.set("old", 7, None);
    world.set("new", 7, Some("web"));
    assert!(world.write().contains(&"=1/0".to_owned()));
    assert_eq!(world.said(), Said { members: vec![(7, "new")], ..Said::default() });
    // Nor is the label of a next one that of the pod before.
    world.set("new", 7, None);
    world.set("other", 7, Some("web"));
    world.engine.flush();
    let mut world = self::world();
    world.set("old", 7, None);
    world.set("new", 7, Some("web"));
    world.set("new", 7, Some("other"));
    world.write();
    assert_eq!(world.said(), Said::default());
}

#[test]
fn a_pod_that_follows_another_is_an_heir_where_it_joins_with_its_address() {
    for (pause, heirs) in [(Duration::ZERO, vec![7]), (9 * MINUTE, vec![7]), (11 * MINUTE, vec![])] {
        let mut world = World::leading();
        world.pod("db-1", "n2", 1, true);
        world.policy(true);
        world.set("old", 7, Some("other"));
        world.write();
        world.set("old", 7, None);
        if pause > Duration::ZERO {
            world.write();
        }
        world.later(pause);
        world.set("new", 7, Some("web"));
        world.write();
        assert_eq!(world.said(), Said { members: vec![(7, "new")], former: vec![], heirs }, "{pause:?}");
    }
    let mut world = world();
    world.set("old", 7, None);
    world.write();
    world.set("new", 7, Some("other"));
    world.write();
    world.set("new", 7, Some("web"));
    world.write();
    assert!(world.said().heirs.is_empty(), "its label changed later");
}

#[test]
fn the_next_leader_says_the_same() {
    let mut world = world();
    world.set("other", 8, Some("web"));
    world.write();
    world.set("old", 7, Some("db"));
    world.set("other", 8, None);
    world.set("new", 8, Some("web"));
    world.write();
    let before = world.said();
    assert_eq!(before, Said { members: vec![(8, "new")], former: vec![(7, "old")], heirs: vec![] });
    assert_eq!(world.succeed(), [""; 0], "nothing to write");
    assert_eq!(world.said(), before);
    // What happens while nobody leads: a label changes, and a former member ends.
    world.set("new", 8, Some("db"));
    world.set("old", 7, None);
    assert_eq!(world.succeed(), ["=1/0"]);
    assert_eq!(world.said(), Said { former: vec![(8, "new")], ..Said::default() });
}

#[test]
fn the_first_leader_that_knows_of_owners_writes_them() {
    let mut world = world();
    let said = world.said();
    world.slices.values_mut().for_each(|object| object.spec.owners = None);
    assert_eq!(world.succeed(), ["=1/0"]);
    assert_eq!(world.said(), said);
}

#[test]
fn former_members_count_for_how_a_group_is_cut() {
    let mut world = World::leading();
    world.pod("db-1", "n2", 1, true);
    world.policy(true);
    let uids: BTreeMap<u32, String> = (10..610).map(|number| (number, format!("p{number}"))).collect();
    for app in ["web", "other"] {
        uids.iter().for_each(|(number, uid)| world.set(uid, *number, Some(app)));
        world.write();
    }
    let sizes: Vec<usize> = world.slices.values().map(|object| codec::size(object).unwrap()).collect();
    assert!(sizes.len() >= 4 && sizes.iter().all(|size| *size < 10_000), "{sizes:?}");
    assert_eq!(world.said().former.len(), 600);
}
