//! Shows that a hole is closed by the rules said to close it: with the whole ruleset, and with each of these rules
//! alone; and that without all of them it is open, so that the attack is known to be one.

use std::sync::Arc;
use std::time::Duration;

use selvage_nftables::model::Ruleset;

use crate::agent::Agent;
use crate::bed::{Bed, Host};
use crate::probe::{GRACE, PATIENCE, Token, echo};
use crate::world::World;

/// A rule by its chain and id, where more than one has the id all of them.
pub type Lock = (&'static str, &'static str);

/// What is tried, and how one sees that it worked.
pub struct Attack<'a> {
    /// Sends a packet with the token.
    pub send: &'a dyn Fn(&Token),
    /// Whether a packet with the token arrives in time.
    pub arrives: &'a dyn Fn(&Token, Duration) -> bool,
}

impl Attack<'_> {
    /// Whether it arrives.
    pub fn works(&self) -> bool {
        let token = Token::new();
        (self.send)(&token);
        (self.arrives)(&token, PATIENCE)
    }

    /// Whether nothing arrives, though packets sent later by the node to the pod and back do.
    pub fn fails(&self, bed: &Bed, pod: Host<'_>) -> bool {
        let token = Token::new();
        (self.send)(&token);
        for address in pod.addresses.both() {
            assert!(echo(&bed.node, None, address, PATIENCE), "the node does not reach {}", pod.name);
        }
        !(self.arrives)(&token, GRACE)
    }
}

/// Fails unless the locks, and nothing else, keep the attack out. `pod` is the one that the node must reach all the
/// while.
pub fn closed_by(bed: &Bed, world: &World, pod: Host<'_>, locks: &[Lock], attack: &Attack<'_>) {
    let mut agent = Agent::start(bed);
    let whole = world.ruleset();
    agent.apply_ruleset(&whole);
    assert!(attack.fails(bed, pod), "open with the whole ruleset");
    for lock in locks {
        let others: Vec<_> = locks.iter().filter(|other| *other != lock).copied().collect();
        agent.apply_ruleset(&without(&whole, &others));
        assert!(attack.fails(bed, pod), "open with {lock:?} alone");
    }
    agent.apply_ruleset(&without(&whole, locks));
    assert!(attack.works(), "closed without {locks:?}: something else closes it, or the attack is none");
    agent.remove();
}

/// Fails unless the attack is kept out by the one ruleset and gets through the other.
pub fn closed_and_open(bed: &Bed, pod: Host<'_>, closed: &Ruleset, open: &Ruleset, attack: &Attack<'_>) {
    let mut agent = Agent::start(bed);
    agent.apply_ruleset(closed);
    assert!(attack.fails(bed, pod), "open with the whole ruleset");
    agent.apply_ruleset(open);
    assert!(attack.works(), "closed by something else, or the attack is none");
    agent.remove();
}

/// The ruleset without these rules, each of which must be there.
pub fn without(whole: &Ruleset, locks: &[Lock]) -> Ruleset {
    let mut rest = whole.clone();
    for (chain, id) in locks {
        let rules =
            &mut rest.chains.get_mut(&Arc::from(*chain)).unwrap_or_else(|| panic!("no chain {chain}")).rules;
        let before = rules.len();
        rules.retain(|rule| &*rule.id != *id);
        assert!(rules.len() < before, "no rule {id} in {chain}");
    }
    rest
}
