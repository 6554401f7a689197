//! The incremental engine equals one built from nothing, whatever happened before.

mod common;

use common::random::changes;
use common::snapshot::Snapshot;
use common::world::{World, WorldExt, engine};
use proptest::prelude::*;
use selvage_policy::engine::{Counts, Engine};
use selvage_policy::model::Change;

/// Applies changes with a flush after every `every` of them, checking each delta against what the engine says.
fn follow(engine: &mut Engine, seen: &mut Snapshot, changes: &[Change], every: usize) {
    for batch in changes.chunks(every) {
        for change in batch {
            engine.apply(change.clone());
        }
        let delta = engine.flush();
        seen.follow(delta, engine);
        let now = Snapshot::of(engine);
        now.check();
        assert_eq!(*seen, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn equals_one_rebuilt_from_nothing(changes in changes(40), every in 1usize..8) {
        let mut world = World::default();
        let mut incremental = Engine::new();
        let mut seen = Snapshot::default();
        let half = changes.len() / 2;
        for (index, part) in [&changes[..half], &changes[half..]].into_iter().enumerate() {
            part.iter().for_each(|change| world.apply(change.clone()));
            follow(&mut incremental, &mut seen, part, every);
            let list = world.list();
            let rebuilt = Snapshot::of(&engine(list.clone()));
            prop_assert_eq!(&seen, &rebuilt, "part {}", index);

            // A relist brings nothing new, and so nothing out.
            list.into_iter().for_each(|change| incremental.apply(change));
            let delta = incremental.flush();
            prop_assert!(delta.is_empty(), "{:#?}", delta);
        }
        let mut reversed = world.list();
        reversed.reverse();
        prop_assert_eq!(&seen, &Snapshot::of(&engine(reversed)), "reversed");
        prop_assert_eq!(&seen, &Snapshot::of(&engine(world.squash(&changes))), "squashed");

        // With everything gone, nothing is left.
        let gone = world.list().into_iter().map(|change| match change {
            Change::Namespace(key, _) => Change::Namespace(key, None),
            Change::Node(key, _) => Change::Node(key, None),
            Change::Pod(key, _) => Change::Pod(key, None),
            Change::Tier(key, _) => Change::Tier(key, None),
            Change::Policy(key, _) => Change::Policy(key, None),
            Change::ServiceAccount(key, _) => Change::ServiceAccount(key, None),
            Change::NetworkSet(key, _) => Change::NetworkSet(key, None),
            Change::Backends(key, _) => Change::Backends(key, None),
            Change::Pool(key, _) => Change::Pool(key, None),
        });
        follow(&mut incremental, &mut seen, &gone.collect::<Vec<_>>(), every);
        prop_assert_eq!(seen, Snapshot::default());
        prop_assert_eq!(incremental.counts(), Counts::default());
    }
}
