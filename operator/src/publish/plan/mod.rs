//! What to write next, given what should stand and what does.

mod hands;
mod publication;
mod render;
mod teardown;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_crds::Basis;
use selvage_crds::conditions::reason;
use selvage_policy::compiled::{GroupId, Member};
use selvage_policy::engine::{Delta, Engine, GroupDelta, GroupState};
use selvage_policy::slices::SliceChange;

use self::hands::Hands;
use self::teardown::Teardown;
use super::group::Group;
use super::rounds::{Phase, Rounds};
use super::{FORGET_AFTER, Item, RETIRE_AFTER, SliceId, Standing, Write};
use crate::watch::{Place, SeenNode, SeenSlice};

/// The first pause before a write that failed is tried again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long writes of an object may fail before that is said of the policies that need it.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// The object stands as written, or is deleted.
    Done(Option<Place>),
    /// It stands otherwise than was thought: somebody else wrote or deleted it.
    Conflict(Standing),
    /// It may work later.
    Failed {
        /// Not before this time, where the API server names one.
        after: Option<Duration>,
        /// Why not now.
        message: String,
    },
    /// It will not work before something changes.
    Refused(Refusal),
}

/// Why an object is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One of [`selvage_crds::conditions::reason`].
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// An object that could not be written.
#[derive(Debug)]
struct Trouble {
    since: Instant,
    /// The next pause.
    pause: Duration,
}

/// A NodePolicy on the API server.
#[derive(Debug)]
struct StandingNode {
    place: Place,
    digest: Option<String>,
    teardown: bool,
    basis: Basis,
}

/// Decides what is written, and keeps what stands.
pub struct Planner {
    namespace: Arc<str>,
    nodes: BTreeMap<Arc<str>, StandingNode>,
    slices: BTreeMap<SliceId, SeenSlice>,
    /// The groups that some node names; none while this is no leader.
    groups: BTreeMap<GroupId, Group>,
    /// Which groups have former members, and which addresses another pod had.
    hands: Hands,
    /// Slices that no reader should need any more, and when they go.
    retired: BTreeMap<SliceId, Instant>,
    rounds: Rounds,
    troubles: BTreeMap<Item, Trouble>,
    refused: BTreeMap<Item, Refusal>,
    /// Objects that are over the size budget.
    over_budget: BTreeSet<Item>,
    /// What a write under way leaves standing, where it is done.
    sent: BTreeMap<Item, (Phase, Option<Sent>)>,
    /// Objects with a write under way that were deleted meanwhile: maybe what that write made.
    gone_meanwhile: BTreeSet<Item>,
    leading: bool,
    teardown: Teardown,
}

/// What an object holds once its write is done.
#[derive(Debug, Clone)]
enum Sent {
    Node { digest: String, basis: Basis },
    Slice(Box<SeenSlice>),
}

impl Planner {
    /// A planner for that system namespace that writes nothing before [`Planner::lead`].
    pub fn new(namespace: Arc<str>) -> Self {
        Self {
            namespace,
            nodes: BTreeMap::new(),
            slices: BTreeMap::new(),
            groups: BTreeMap::new(),
            hands: Hands::default(),
            retired: BTreeMap::new(),
            rounds: Rounds::default(),
            troubles: BTreeMap::new(),
            refused: BTreeMap::new(),
            over_budget: BTreeSet::new(),
            sent: BTreeMap::new(),
            gone_meanwhile: BTreeSet::new(),
            leading: false,
            teardown: Teardown::default(),
        }
    }

    /// Begins to write: everything that stands otherwise than the engine says.
    pub fn lead(&mut self, engine: &Engine, now: Instant) {
        self.leading = true;
        for id in engine.groups() {
            let Some(state) = engine.group(id) else { continue };
            self.establish(id, state, engine, now);
        }
        for id in self.slices.keys().filter(|id| !self.groups.contains_key(&id.group)) {
            self.retired.insert(*id, now + FORGET_AFTER);
        }
        self.slices.values_mut().for_each(|seen| seen.pods = None);
        for policy in engine.nodes() {
            self.rounds.add(Item::Node(policy.node.clone()), Phase::Nodes, now);
        }
        for name in self.nodes.keys().filter(|name| engine.node(name).is_none()) {
            self.rounds.add(Item::Node(name.clone()), Phase::Losses, now);
        }
        let left_over = self.nodes.values().filter(|node| node.teardown).count();
        if left_over > 0 {
            tracing::warn!(nodes = left_over, "a teardown was left over, and is taken back");
        }
    }

    /// What the engine changed. Without leadership nothing is kept of it: [`Planner::lead`] asks the engine.
    pub fn changed(&mut self, delta: &Delta, engine: &Engine, now: Instant) {
        if !self.leading {
            return;
        }
        self.hands.take(&delta.handed_over, engine, now);
        for (id, change) in &delta.groups {
            self.group_changed(*id, change, delta, engine, now);
        }
        for (address, group) in self.hands.ended(&delta.handed_over) {
            if let Some(change) = self.groups.get_mut(&group).map(|group| group.handed_over(address)) {
                self.cut(group, change, &[], now);
            }
        }
        for id in &delta.removed_groups {
            if let Some(group) = self.groups.remove(id) {
                self.refused.retain(|item, _| !matches!(item, Item::Slice(slice) if slice.group == *id));
                self.hands.forget(*id, &group);
                self.retired.extend(group.slices().map(|slice| (slice, now + FORGET_AFTER)));
            }
        }
        for name in delta.nodes.keys() {
            self.rounds.add(Item::Node(name.clone()), Phase::Nodes, now);
        }
        for name in &delta.removed_nodes {
            self.rounds.add(Item::Node(name.clone()), Phase::Losses, now);
        }
    }

    fn group_changed(
        &mut self,
        id: GroupId,
        change: &GroupDelta,
        delta: &Delta,
        engine: &Engine,
        now: Instant,
    ) {
        let Some(group) = self.groups.get_mut(&id) else {
            let state = GroupState {
                kind: change.kind,
                of_pods: change.of_pods,
                members: change.added.iter().copied().collect(),
                span: change.span_added.clone(),
            };
            self.establish(id, state, engine, now);
            return;
        };
        // Backends may be no pods at all, and outlive the pods that they were.
        let handed_over = |member: &Member| {
            let address = member.address();
            delta.handed_over.contains_key(&address) || engine.owner(address).is_none()
        };
        let came = |member: &Member| self.hands.is_heir(member.address());
        let slices = group.change(change, handed_over, came);
        group.span_removed(&change.span_removed, now);
        let more_labels = group.span_added(&change.span_added);
        if more_labels {
            for slice in group.slices() {
                self.rounds.add(Item::Slice(slice), Phase::Gains, now);
            }
        }
        let left = change.removed.iter().filter(|member| group.is_former(member));
        self.hands.left(id, left.map(Member::address));
        self.cut(id, slices, &change.added, now);
    }

    /// Slices of a group are to be written; those that hold one of `gains` before the NodePolicies.
    fn cut(&mut self, id: GroupId, slices: SliceChange, gains: &[Member], now: Instant) {
        let Some(group) = self.groups.get(&id) else { return };
        for index in slices.changed {
            let gains = slices.retired.is_some() || group.holds_any(index, gains);
            let phase = if gains { Phase::Gains } else { Phase::Losses };
            self.rounds.add(Item::Slice(group.slice_id(index)), phase, now);
        }
        if let Some(old) = slices.retired {
            let epoch = u32::try_from(old.epoch).unwrap_or(u32::MAX);
            self.refused
                .retain(|item, _| !matches!(item, Item::Slice(s) if s.group == id && s.epoch == epoch));
            let slices = (0..old.count).map(|index| SliceId { group: id, epoch, index });
            self.retired.extend(slices.map(|slice| (slice, now + RETIRE_AFTER)));
        }
    }

    fn establish(&mut self, id: GroupId, state: GroupState, engine: &Engine, now: Instant) {
        let group = Group::establish(id, state, &self.slices, engine, now);
        self.hands.left(id, group.former().map(Member::address));
        for slice in group.slices() {
            self.retired.remove(&slice);
            self.rounds.add(Item::Slice(slice), Phase::Gains, now);
        }
        let others = self.slices.keys().filter(|slice| slice.group == id && !group.is_of_cut(**slice));
        for slice in others {
            self.retired.entry(*slice).or_insert(now + RETIRE_AFTER);
        }
        self.groups.insert(id, group);
    }

    /// A NodePolicy as a watch or an answer shows it; None where it is gone.
    pub fn node_seen(&mut self, name: &Arc<str>, seen: Option<&SeenNode>, now: Instant) {
        let known = self.nodes.get(name);
        let item = Item::Node(name.clone());
        let Some(seen) = seen else {
            let stood = self.nodes.remove(name).is_some();
            self.teardown.asked.remove(name);
            if self.rounds.in_flight(&item) {
                self.gone_meanwhile.insert(item);
            } else if stood && self.leading {
                self.rounds.add(item, Phase::Nodes, now);
            }
            return;
        };
        self.gone_meanwhile.remove(&item);
        if known.is_some_and(|known| seen.place.is_older_than(&known.place)) {
            return;
        }
        // The spec, which costs to decode, changes with the generation alone: agents' reports don't touch it.
        let same = known.is_some_and(|known| {
            (&known.place.uid, known.place.generation) == (&seen.place.uid, seen.place.generation)
        });
        let digest = match known {
            Some(known) if same => known.digest.clone(),
            _ => seen.digest(name),
        };
        let had = known.is_some_and(|known| known.teardown);
        // One that can't be decoded says nothing about it.
        let teardown = if seen.spec.is_some() { seen.teardown } else { had };
        let place = seen.place.clone();
        let node = StandingNode { place, digest, teardown, basis: seen.basis.clone() };
        self.nodes.insert(name.clone(), node);
        if self.leading && !same && had != teardown {
            self.teardown.flag(name, teardown);
        }
        if !same && self.leading && !self.rounds.in_flight(&item) {
            self.rounds.add(item, Phase::Nodes, now);
        }
    }

    /// An AddressGroup as a watch or an answer shows it; None where it is gone.
    pub fn slice_seen(&mut self, id: SliceId, mut seen: Option<SeenSlice>, now: Instant) {
        if let Some(seen) = seen.as_mut().filter(|_| self.leading) {
            seen.pods = None;
        }
        let item = Item::Slice(id);
        let in_flight = self.rounds.in_flight(&item);
        if seen.is_some() {
            self.gone_meanwhile.remove(&item);
        } else if in_flight {
            self.gone_meanwhile.insert(item.clone());
        }
        let changed = match (self.slices.get(&id), seen) {
            (Some(known), Some(seen)) if seen.place.is_older_than(&known.place) => false,
            (Some(known), Some(seen)) => {
                let same = known.place == seen.place;
                self.slices.insert(id, seen);
                !same
            }
            (None, Some(seen)) => {
                self.slices.insert(id, seen);
                true
            }
            (_, None) => self.slices.remove(&id).is_some(),
        };
        if changed && self.leading && !in_flight {
            self.rounds.add(item, Phase::Gains, now);
            let wanted = self.groups.get(&id.group).is_some_and(|group| group.is_of_cut(id));
            if !wanted {
                self.retired.entry(id).or_insert(now + FORGET_AFTER);
            }
        }
    }

    /// The next request; None while there is none to make now.
    pub fn next(&mut self, engine: &Engine, basis: &Basis, now: Instant) -> Option<(Write, Instant)> {
        if !self.leading || self.teardown.mute {
            return None;
        }
        loop {
            let (item, phase, since) = self.rounds.next(now)?;
            let rendered = match &item {
                Item::Node(name) => self.render_node(name, engine, basis),
                Item::Slice(id) => self.render_slice(*id, engine, basis, now),
            };
            match rendered {
                Ok(Some((write, sent))) => {
                    self.sent.insert(item, (phase, sent));
                    return Some((write, since));
                }
                Ok(None) => {
                    self.troubles.remove(&item);
                    self.refused.remove(&item);
                    self.rounds.done(&item);
                }
                Err(refusal) => {
                    self.rounds.done(&item);
                    self.refuse(item, refusal);
                }
            }
        }
    }

    /// What became of a request that [`Planner::next`] gave.
    pub fn written(&mut self, item: &Item, outcome: Outcome, now: Instant) {
        self.rounds.done(item);
        let Some((phase, sent)) = self.sent.remove(item) else { return };
        if !matches!(outcome, Outcome::Done(_)) {
            // What stands is unknown or told by the outcome, and the next try finds out.
            self.gone_meanwhile.remove(item);
        }
        match outcome {
            Outcome::Done(place) => {
                self.troubles.remove(item);
                self.refused.remove(item);
                if self.gone_meanwhile.remove(item) {
                    self.rounds.add(item.clone(), phase, now);
                    self.stands(item, None);
                } else {
                    self.stands(item, place.zip(sent));
                }
            }
            Outcome::Conflict(standing) => {
                match (item, standing) {
                    (Item::Node(name), Standing::Node(seen)) => self.node_seen(name, seen.as_deref(), now),
                    (Item::Slice(id), Standing::Slice(seen)) => self.slice_seen(*id, seen, now),
                    _ => {}
                }
                // Not at once: where two writers disagree, neither may spin.
                self.pause(item, phase, None, now);
            }
            Outcome::Failed { after, message } => {
                let since = self.pause(item, phase, after, now);
                // What can't be deleted harms no policy.
                if sent.is_some() && now >= since + STUCK_AFTER {
                    self.refuse(item.clone(), Refusal { reason: reason::NOT_PUBLISHED, message });
                }
            }
            Outcome::Refused(refusal) => {
                self.refuse(item.clone(), refusal);
                // Other settings of the API server, or less in the object's way, may let it through one day.
                self.rounds.delay(item.clone(), phase, now + 10 * LONGEST_PAUSE);
            }
        }
    }

    fn stands(&mut self, item: &Item, done: Option<(Place, Sent)>) {
        match (item, done) {
            (Item::Node(name), Some((place, Sent::Node { digest, basis }))) => {
                let newer = self.nodes.get(name).is_some_and(|known| place.is_older_than(&known.place));
                if !newer {
                    let node = StandingNode { place, digest: Some(digest), teardown: false, basis };
                    self.nodes.insert(name.clone(), node);
                }
            }
            (Item::Slice(id), Some((place, Sent::Slice(sent)))) => {
                let newer = self.slices.get(id).is_some_and(|known| place.is_older_than(&known.place));
                if !newer {
                    self.slices.insert(*id, SeenSlice { place, ..*sent });
                }
            }
            (Item::Node(name), _) => {
                self.nodes.remove(name);
            }
            (Item::Slice(id), _) => {
                self.slices.remove(id);
                self.retired.remove(id);
            }
        }
    }

    /// Tries again later; returns since when this goes on.
    fn pause(&mut self, item: &Item, phase: Phase, at_least: Option<Duration>, now: Instant) -> Instant {
        let first = || Trouble { since: now, pause: FIRST_PAUSE };
        let trouble = self.troubles.entry(item.clone()).or_insert_with(first);
        let pause = trouble.pause.max(at_least.unwrap_or_default());
        trouble.pause = (trouble.pause * 2).min(LONGEST_PAUSE);
        self.rounds.delay(item.clone(), phase, now + pause);
        trouble.since
    }

    fn refuse(&mut self, item: Item, refusal: Refusal) {
        if self.refused.get(&item) != Some(&refusal) {
            tracing::error!(object = %item, refusal.reason, refusal.message, "not published; what stood there stays");
            self.refused.insert(item, refusal);
        }
    }

    /// Lets go of labels and slices whose time is over. To be called now and then.
    pub fn retire(&mut self, now: Instant) {
        if !self.leading {
            return;
        }
        self.hands.retire(now);
        for group in self.groups.values_mut() {
            if group.retire(now) {
                for slice in group.slices() {
                    self.rounds.add(Item::Slice(slice), Phase::Losses, now);
                }
            }
        }
        let groups = &self.groups;
        let complete = |id: &SliceId| {
            let Some(group) = groups.get(&id.group) else { return true };
            group.slices().all(|slice| self.slices.get(&slice).is_some_and(|seen| seen.digest.is_some()))
        };
        let due: Vec<SliceId> =
            self.retired.iter().filter(|(id, at)| **at <= now && complete(id)).map(|(id, _)| *id).collect();
        for id in due {
            if self.slices.contains_key(&id) {
                self.rounds.add(Item::Slice(id), Phase::Losses, now);
            } else {
                self.retired.remove(&id);
            }
        }
    }

    /// The highest resourceVersion of each kind behind anything that stands. A value that is no number counts as
    /// higher than all.
    pub fn standing_basis(&self) -> BTreeMap<String, u64> {
        let mut highest = BTreeMap::new();
        let nodes = self.nodes.values().map(|node| &node.basis);
        for (kind, version) in nodes.chain(self.slices.values().map(|slice| &slice.basis)).flatten() {
            let version = version.parse().unwrap_or(u64::MAX);
            let entry = highest.entry(kind.clone()).or_insert(version);
            *entry = version.max(*entry);
        }
        highest
    }

    /// Objects that are not written, or could not be for a while, and why.
    pub fn refused(&self) -> &BTreeMap<Item, Refusal> {
        &self.refused
    }

    /// How many objects are over the size budget.
    pub fn over_budget(&self) -> usize {
        self.over_budget.len()
    }

    /// Whether teardown was asked for, so that nothing is published.
    pub fn torn_down(&self) -> bool {
        self.teardown.mute
    }

    /// How many items wait.
    pub fn waiting(&self) -> usize {
        self.rounds.waiting()
    }

    /// When the next failed write is tried again.
    pub fn due(&self) -> Option<Instant> {
        self.rounds.due()
    }
}
