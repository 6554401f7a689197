//! Verdicts through node policies and groups equal those straight from the objects.

mod common;

use common::evaluate;
use common::random::packet::packet;
use common::random::{changes, seed};
use common::snapshot::Snapshot;
use common::world::{World, WorldExt, engine};
use proptest::collection::vec;
use proptest::prelude::*;
use selvage_policy::oracle::pool;
use selvage_policy::oracle::verdict::{Direction, judge};
use selvage_policy::oracle::who::owner;

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn compiled_verdicts_equal_naive_ones(changes in changes(30), packets in vec(packet(), 20)) {
        let mut world = World::default();
        seed().into_iter().chain(changes).for_each(|change| world.apply(change));
        let snapshot = Snapshot::of(&engine(world.list()));
        for packet in packets {
            for (address, direction) in
                [(packet.source, Direction::Egress), (packet.destination, Direction::Ingress)]
            {
                let Some((judged, _)) = owner(&world, address) else { continue };
                let expected = judge(&world, judged, direction, &packet).allowed;
                let seen = evaluate::allowed(&snapshot, judged, direction, &packet);
                prop_assert_eq!(seen, expected, "{:?} {} {:?}", direction, judged, packet);
            }
            for (name, node) in &snapshot.nodes {
                let seen = node.masquerade.as_ref().is_some_and(|masquerade| {
                    masquerade.from.iter().any(|net| net.contains(&packet.source))
                        && !masquerade.inside.iter().any(|net| net.contains(&packet.destination))
                });
                prop_assert_eq!(seen, pool::masquerades(&world, name, &packet), "{} {:?}", name, packet);
            }
        }
    }
}
