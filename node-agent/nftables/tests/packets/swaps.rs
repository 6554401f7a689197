//! Packets while policies are swapped: with a chain made first and switched to then, none passes a policy that only
//! drops.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use selvage_nftables::model::{Elements, Name, Ruleset, Verdict};
use selvage_nftables::transaction::{Op, Transaction};
use selvage_policy::compiled::Action;

use crate::agent::Agent;
use crate::bed::{Bed, Host};
use crate::flood::{PACKETS, flooded};
use crate::locks::{Lock, without};
use crate::matrix::{Ask, UDP, check, yes};
use crate::probe::{GRACE, PATIENCE, Token, send_udp};
use crate::wire::Wire;
use crate::world::{Narrow, World, ports, rule};

/// Swaps in the tests of what does not leak. Where both locks are open, about one in a thousand leaks.
const SWAPS: u16 = 1_000;
/// Swaps after which the hole counts as gone: a hundred times as many as it takes.
const SWAPS_TO_LEAK: u32 = 100_000;
/// The rule that a packet meets which falls out of a policy's chain.
const BEHIND: Lock = ("to_pod", "unknown-pod");

/// Pod 1 under a policy that does the same with every packet, each time another: by turns one of other rules in the
/// same chain, and one of another chain.
fn under(pods: &[Host<'_>; 2], action: Action, turn: u32) -> World {
    let mut world = World::of(pods);
    let [chain, rules] = [turn / 2, turn].map(|n| u16::try_from(n % 60_000).unwrap() + 10);
    let mut rules = [chain, rules].map(|port| rule(action).on(ports(UDP, port, port))).to_vec();
    rules.push(rule(action));
    world.select(pods[1], Some(rules), None);
    world.rename_profiles(u64::from(turn / 2));
    world
}

/// How the plan of a swap is committed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As the plan says: what is new is made before it is led to.
    Planned,
    /// All in one transaction.
    AtOnce,
}

fn swap(agent: &mut Agent, wanted: &Ruleset, way: Way) {
    let plan = agent.plan(wanted);
    assert!(!plan.transactions.is_empty());
    for transaction in &plan.transactions {
        assert!(
            born_and_led_to(transaction).is_empty(),
            "a plan leads to a chain born in the same transaction"
        );
    }
    match way {
        Way::Planned => plan.transactions.iter().for_each(|transaction| agent.commit(transaction)),
        Way::AtOnce => {
            agent.commit(&plan.transactions.into_iter().flat_map(|transaction| transaction.ops).collect());
        }
    }
    agent.stands(plan.after);
}

/// Fails when a packet passes while policies that only drop are swapped under a flood.
fn nothing_passes(way: Way, open: &[Lock]) {
    let bed = Bed::new(2);
    let pods = [bed.pod(0), bed.pod(1)];
    let mut agent = Agent::start(&bed);
    agent.apply_ruleset(&without(&under(&pods, Action::Deny, 0).ruleset(), open));
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let token = Token::new();
    flooded(&bed, &token, |sent| {
        let mut turn = 0;
        while turn < u32::from(SWAPS) || sent.load(Ordering::Relaxed) < PACKETS {
            turn += 1;
            swap(&mut agent, &without(&under(&pods, Action::Deny, turn).ruleset(), open), way);
            assert!(!receiver.sees(&token, Duration::ZERO), "a packet passed at swap {turn}");
        }
    });
    control(&bed, &receiver);
    assert!(!receiver.sees(&token, GRACE), "a packet passed");
}

#[test]
fn no_packet_passes_while_policies_are_swapped() {
    nothing_passes(Way::Planned, &[]);
}

#[test]
fn making_chains_before_they_are_led_to_is_enough() {
    nothing_passes(Way::Planned, &[BEHIND]);
}

#[test]
fn the_drop_behind_the_policies_is_enough() {
    nothing_passes(Way::AtOnce, &[]);
}

/// The hole: a packet that came to the base chain before the commit finds the map's new element and, behind it, the
/// chain as it was before the commit, which is empty.
#[test]
fn packets_pass_where_both_are_missing() {
    let processors = std::thread::available_parallelism().unwrap().get();
    assert!(processors > 1, "prerequisite missing: two processors, one for packets and one for commits");
    let bed = Bed::new(2);
    let pods = [bed.pod(0), bed.pod(1)];
    let mut agent = Agent::start(&bed);
    let wanted = |turn| without(&under(&pods, Action::Deny, 2 * turn).ruleset(), &[BEHIND]);
    agent.apply_ruleset(&wanted(0));
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let token = Token::new();
    let leaked = flooded(&bed, &token, |_| {
        (1..SWAPS_TO_LEAK).any(|turn| {
            swap(&mut agent, &wanted(turn), Way::AtOnce);
            receiver.sees(&token, Duration::ZERO)
        })
    });
    assert!(
        leaked,
        "no packet passed in {SWAPS_TO_LEAK} swaps: the kernel has changed, or the flood has not run"
    );
}

#[test]
fn no_packet_is_lost_while_policies_that_allow_it_are_swapped() {
    let bed = Bed::new(2);
    let pods = [bed.pod(0), bed.pod(1)];
    let mut agent = Agent::start(&bed);
    agent.apply(&under(&pods, Action::Allow, 0));
    let token = Token::new();
    flooded(&bed, &token, |sent| {
        let mut turn = 0;
        while turn < u32::from(SWAPS) || sent.load(Ordering::Relaxed) < PACKETS {
            turn += 1;
            swap(&mut agent, &under(&pods, Action::Allow, turn).ruleset(), Way::Planned);
        }
    });
    for (chain, id) in [BEHIND, ("from_pod", "unknown-pod")] {
        assert_eq!(agent.counted(chain, id), 0, "packets fell out of the policies into {id} of {chain}");
    }
    check(&bed, &[yes(bed.pod(0), bed.pod(1), Ask::Udp(9))]);
}

/// Chains that a transaction makes and leads a map's element to.
fn born_and_led_to(transaction: &Transaction) -> BTreeSet<Name> {
    let mut born = BTreeSet::new();
    let mut led_to = BTreeSet::new();
    for op in &transaction.ops {
        match op {
            Op::AddChain { name, .. } => drop(born.insert(name.clone())),
            Op::AddElements { elements: Elements::Verdicts(verdicts), .. } => {
                led_to.extend(verdicts.values().filter_map(|verdict| match verdict {
                    Verdict::Jump(chain) | Verdict::Goto(chain) => Some(chain.clone()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    born.intersection(&led_to).cloned().collect()
}

/// A packet of the node's own, which every policy lets pass, reaches the wire behind all that was sent before.
fn control(bed: &Bed, receiver: &Wire) {
    let token = Token::new();
    send_udp(&bed.node, "0.0.0.0:0".parse().unwrap(), (bed.pod(1).addresses.v4, 9).into(), &token);
    assert!(receiver.sees(&token, PATIENCE), "the bed does not work any more");
}
