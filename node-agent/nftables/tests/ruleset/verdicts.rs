//! What the ruleset does to a packet is what the compiled policy says of it.

use proptest::prelude::*;
use selvage_nftables::fake::check;
use selvage_nftables::trace::trace;

use crate::{oracle, random};

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_ruleset_does_what_the_policy_says(
        world in random::world(), packets in proptest::collection::vec(random::packet(), 40)
    ) {
        let rendered = world.render();
        check(&rendered.ruleset).unwrap();
        for packet in &packets {
            let trace = trace(&rendered.ruleset, packet).unwrap();
            prop_assert_eq!(trace.accepted, oracle::passes(&world, packet), "{:?}\n{:?}", packet, trace);
            prop_assert_eq!(trace.masqueraded, oracle::masquerades(&world, packet), "{:?}\n{:?}", packet, trace);
            for step in trace.steps.iter().filter(|s| s.rule.starts_with("p-") || s.rule.starts_with("t-")) {
                prop_assert!(rendered.origins.contains_key(&step.rule), "{} has no origin", step.rule);
            }
        }
    }

    #[test]
    fn equal_input_gives_an_equal_ruleset(world in random::world()) {
        prop_assert_eq!(world.render(), world.clone().render());
    }
}
