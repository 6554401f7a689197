//! The order of writes: groups that gain, then NodePolicies, then removals.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Item;

/// When in a round an item is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Slices that gain members or labels: before the NodePolicies that need them.
    Gains,
    /// NodePolicies.
    Nodes,
    /// Slices that only lose, and objects that go.
    Losses,
}

/// Items to write, in rounds. What comes while a round is under way is the next one, so that under load changes
/// coalesce, and no phase can starve another.
#[derive(Debug, Default)]
pub struct Rounds {
    current: Round,
    next: Round,
    in_flight: BTreeSet<Item>,
    delayed: BTreeMap<Item, (Instant, Phase)>,
}

#[derive(Debug, Default)]
struct Round {
    phases: [BTreeSet<Item>; 3],
    /// When its first item was queued.
    since: Option<Instant>,
}

impl Phase {
    const ALL: [Self; 3] = [Self::Gains, Self::Nodes, Self::Losses];
}

impl Round {
    fn is_empty(&self) -> bool {
        self.phases.iter().all(BTreeSet::is_empty)
    }

    fn phase(&mut self, phase: Phase) -> &mut BTreeSet<Item> {
        let [gains, nodes, losses] = &mut self.phases;
        match phase {
            Phase::Gains => gains,
            Phase::Nodes => nodes,
            Phase::Losses => losses,
        }
    }

    /// An item is in one phase: what gains and loses goes with the gains.
    fn add(&mut self, item: Item, phase: Phase, now: Instant) {
        self.since.get_or_insert(now);
        for earlier in Phase::ALL.into_iter().filter(|earlier| *earlier < phase) {
            if self.phase(earlier).contains(&item) {
                return;
            }
        }
        for later in Phase::ALL.into_iter().filter(|later| *later > phase) {
            self.phase(later).remove(&item);
        }
        self.phase(phase).insert(item);
    }
}

impl Rounds {
    /// Queues an item. A delay that was set for it ends: something changed.
    pub fn add(&mut self, item: Item, phase: Phase, now: Instant) {
        self.delayed.remove(&item);
        self.next.add(item, phase, now);
    }

    /// Queues an item for a later time.
    pub fn delay(&mut self, item: Item, phase: Phase, until: Instant) {
        self.delayed.insert(item, (until, phase));
    }

    /// The next item, now under way; None while there is none or its phase has not begun. Also when its round's
    /// first change came.
    pub fn next(&mut self, now: Instant) -> Option<(Item, Phase, Instant)> {
        let due: Vec<_> = self
            .delayed
            .iter()
            .filter(|(_, (at, _))| *at <= now)
            .map(|(item, (_, phase))| (item.clone(), *phase))
            .collect();
        for (item, phase) in due {
            self.add(item, phase, now);
        }
        if self.current.is_empty() && self.in_flight.is_empty() {
            self.current = std::mem::take(&mut self.next);
        }
        let since = self.current.since?;
        for phase in Phase::ALL {
            if let Some(item) = self.current.phase(phase).pop_first() {
                self.in_flight.insert(item.clone());
                return Some((item, phase, since));
            }
            // The next phase begins when everything of this one has landed.
            if !self.in_flight.is_empty() {
                return None;
            }
        }
        None
    }

    /// An item is no longer under way.
    pub fn done(&mut self, item: &Item) {
        self.in_flight.remove(item);
    }

    /// Whether an item is under way.
    pub fn in_flight(&self, item: &Item) -> bool {
        self.in_flight.contains(item)
    }

    /// Whether an item waits or is under way.
    pub fn holds(&self, item: &Item) -> bool {
        let queued = |round: &Round| round.phases.iter().any(|items| items.contains(item));
        queued(&self.current) || queued(&self.next) || self.in_flight(item) || self.delayed.contains_key(item)
    }

    /// How many items wait, those for a later time included.
    pub fn waiting(&self) -> usize {
        let queued = |round: &Round| round.phases.iter().map(BTreeSet::len).sum::<usize>();
        queued(&self.current) + queued(&self.next) + self.delayed.len()
    }

    /// When the next delayed item is due.
    pub fn due(&self) -> Option<Instant> {
        self.delayed.values().map(|(at, _)| *at).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(name: &str) -> Item {
        Item::Node(name.into())
    }

    #[test]
    fn a_phase_begins_when_the_one_before_has_landed() {
        let now = Instant::now();
        let mut rounds = Rounds::default();
        rounds.add(node("loss"), Phase::Losses, now);
        rounds.add(node("node"), Phase::Nodes, now);
        rounds.add(node("gain"), Phase::Gains, now);
        rounds.add(node("gain"), Phase::Losses, now);
        for name in ["gain", "node", "loss"] {
            assert_eq!(rounds.next(now).map(|(item, ..)| item), Some(node(name)));
            assert_eq!(rounds.next(now), None, "{name} is under way");
            rounds.done(&node(name));
        }
        assert_eq!(rounds.next(now), None);
        assert_eq!(rounds.waiting(), 0);
    }

    #[test]
    fn what_comes_meanwhile_is_the_next_round() {
        let now = Instant::now();
        let mut rounds = Rounds::default();
        rounds.add(node("a"), Phase::Nodes, now);
        rounds.add(node("b"), Phase::Losses, now);
        assert!(rounds.next(now).is_some());
        rounds.add(node("a"), Phase::Nodes, now);
        rounds.add(node("c"), Phase::Gains, now);
        rounds.done(&node("a"));
        // A stream of gains can't keep the removal of "b" away.
        let mut order = Vec::new();
        while let Some((item, ..)) = rounds.next(now) {
            rounds.done(&item);
            order.push(item);
        }
        assert_eq!(order, [node("b"), node("c"), node("a")]);
    }

    #[test]
    fn a_delay_ends_with_time_or_with_a_change() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut rounds = Rounds::default();
        rounds.delay(node("a"), Phase::Nodes, later);
        rounds.delay(node("b"), Phase::Nodes, later);
        assert_eq!(rounds.next(now), None);
        assert_eq!(rounds.due(), Some(later));
        rounds.add(node("a"), Phase::Nodes, now);
        assert_eq!(rounds.next(now).map(|(item, ..)| item), Some(node("a")));
        rounds.done(&node("a"));
        assert_eq!(rounds.next(later).map(|(item, ..)| item), Some(node("b")));
        assert_eq!(rounds.due(), None);
    }
}
