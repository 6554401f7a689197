//! Puts slices together to address groups.
//!
//! Slices come and go one by one, in no order that anything relies on. A group is what the newest epoch says whose
//! slices are all there; until a newer one is complete, it stays what it was. A slice that disappears takes nothing
//! with it: its members stay until a complete epoch is without them. That epoch may be a lower one, because whoever
//! cuts the slices counts from 1 again where it finds none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_crds::address_group::Slice;
use selvage_nftables::sorted::Sorted;
use selvage_policy::compiled::{GroupId, GroupKind, Member};

use super::owned::{self, Owned, Pods, Turnover};

/// Where a slice belongs: what its object's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The group.
    pub group: GroupId,
    /// The epoch; of two that are there, the higher is the newer.
    pub epoch: u32,
    /// Which slice of the epoch, from 0.
    pub index: u32,
}

/// A group that is known completely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What its members are.
    pub kind: GroupKind,
    /// All members.
    pub members: Sorted<Member>,
    /// What it says of pods; None where its members are not pods, or not all of its slices say.
    pub pods: Option<Arc<Pods>>,
}

/// Why a slice was left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SliceError {
    /// A slice that no complete epoch could hold.
    #[error("slice {index} of {count}")]
    Place {
        /// Its index.
        index: u32,
        /// Its epoch's count.
        count: u32,
    },
    /// A member that is not what the slice says its members are.
    #[error("member {0:?} in a slice of {1:?}")]
    Kind(Member, GroupKind),
}

/// All slices seen, and the groups that they make.
#[derive(Debug, Default)]
pub struct Assembler {
    groups: BTreeMap<GroupId, Slots>,
    /// Places seen since a list began, while it lasts.
    listing: Option<BTreeSet<Place>>,
    /// Addresses whose pods ended or that other pods have now, until they are taken.
    handed_over: BTreeSet<IpAddr>,
}

#[derive(Debug, Default)]
struct Slots {
    epochs: BTreeMap<u32, Epoch>,
    current: Option<(u32, Group)>,
    /// Slices of the current epoch changed while slices of another cut stood among them.
    stale: bool,
}

/// The slices of one epoch, counted so that a slice more is judged without a look at the others.
#[derive(Debug, Default)]
struct Epoch {
    parts: BTreeMap<u32, Part>,
    /// How many slices there are of each shape, and how many of them are there still.
    shapes: BTreeMap<Shape, Tally>,
}

/// What all slices of an epoch must agree on: the kind of members, and how many slices there are.
type Shape = (GroupKind, u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    known: u32,
    there: u32,
    /// Members of all that are known, those in several slices counted as often.
    members: usize,
}

#[derive(Debug)]
struct Part {
    shape: Shape,
    members: Sorted<Member>,
    /// What it says of pods.
    owned: Option<Owned>,
    gone: bool,
}

impl Place {
    /// Reads an object's name, `<group>-<epoch>-<index>`.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (group, epoch, index) = (parts.next()?, parts.next()?, parts.next()?);
        let place =
            Self { group: GroupId::parse(group)?, epoch: epoch.parse().ok()?, index: index.parse().ok()? };
        (place.to_string() == name).then_some(place)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, epoch, index } = self;
        write!(f, "{group}-{epoch}-{index}")
    }
}

impl From<&Slice> for Place {
    fn from(slice: &Slice) -> Self {
        Self { group: slice.group, epoch: slice.epoch, index: slice.index }
    }
}

impl Assembler {
    /// A list begins; an earlier one that did not end is forgotten.
    pub fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// An object of the list that could not be read: it is there, so it is not taken for deleted.
    pub fn listed(&mut self, place: Place) {
        if let Some(listing) = &mut self.listing {
            listing.insert(place);
        }
    }

    /// A list ended: what it did not name is gone. Returns the groups that this changed.
    pub fn end_list(&mut self) -> BTreeSet<GroupId> {
        let Some(listing) = self.listing.take() else { return BTreeSet::new() };
        let (mut changed, mut turnovers) = (BTreeSet::new(), Vec::new());
        for (group, slots) in &mut self.groups {
            for (number, epoch) in &mut slots.epochs {
                epoch.lose(|index| !listing.contains(&Place { group: *group, epoch: *number, index }));
            }
            let (another, turnover) = slots.settle();
            turnovers.push((*group, turnover));
            if another {
                changed.insert(*group);
            }
        }
        turnovers.into_iter().for_each(|(group, turnover)| self.take_in(group, turnover));
        changed
    }

    /// Takes a new or changed slice; true where that changed a group.
    ///
    /// # Errors
    /// Where the slice makes no sense; then what it said before still holds.
    pub fn apply(&mut self, slice: Slice) -> Result<bool, SliceError> {
        self.listed(Place::from(&slice));
        let Slice { group, kind, epoch, index, count, members, owners } = slice;
        if index >= count {
            return Err(SliceError::Place { index, count });
        }
        let fits = |m: &&Member| matches!(m, Member::Net(_)) == (kind == GroupKind::Addresses);
        if let Some(stray) = members.iter().find(|m| !fits(m)) {
            return Err(SliceError::Kind(*stray, kind));
        }
        let slots = self.groups.entry(group).or_default();
        let (members, owned) = (members.into_iter().collect(), owners.map(Owned::of));
        let part = Part { shape: (kind, count), members, owned, gone: false };
        let (changed, turnover) = slots.put(epoch, index, part);
        self.take_in(group, turnover);
        Ok(changed)
    }

    /// A slice disappeared; true where that changed its group.
    pub fn remove(&mut self, place: Place) -> bool {
        let Some(slots) = self.groups.get_mut(&place.group) else { return false };
        let Some(epoch) = slots.epochs.get_mut(&place.epoch) else { return false };
        epoch.lose(|index| index == place.index);
        let (changed, turnover) = slots.settle();
        self.take_in(place.group, turnover);
        changed
    }

    /// Addresses whose pods ended or that other pods have now, since this was asked last.
    pub fn take_handed_over(&mut self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.handed_over)
    }

    /// What another group knew of an heir is no news.
    fn take_in(&mut self, group: GroupId, turnover: Turnover) {
        let others = || self.groups.iter().filter(|(other, _)| **other != group).map(|(_, slots)| slots);
        let is_new = |pair: &owned::Pair| !others().any(|slots| slots.owned().any(|owned| owned.holds(pair)));
        let heirs = turnover.heirs.iter().filter(|pair| is_new(pair)).map(|(address, _)| *address);
        let all: BTreeSet<IpAddr> = heirs.chain(turnover.ended).collect();
        self.handed_over.extend(all);
    }

    /// True where slices of a newer epoch are there than the one that holds, or where nothing is known completely.
    pub fn is_pending(&self, group: GroupId) -> bool {
        self.groups.get(&group).is_some_and(Slots::is_pending)
    }

    /// Forgets groups that are not named any more and whose slices are all gone.
    pub fn forget_unless(&mut self, named: impl Fn(GroupId) -> bool) {
        self.groups.retain(|group, slots| named(*group) || slots.epochs.values().any(Epoch::any_there));
    }

    /// The group, where it is known completely.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group)?.current.as_ref().map(|(_, group)| group)
    }
}

impl Slots {
    /// Takes a slice; says whether the group changed, and how its pods did.
    fn put(&mut self, number: u32, index: u32, part: Part) -> (bool, Turnover) {
        let holds = self.current.as_ref().is_some_and(|(current, _)| *current == number);
        let epoch = self.epochs.entry(number).or_default();
        let apart = epoch.is_apart(&self.current);
        let old = epoch.put(index, part).filter(|_| holds);
        if !holds {
            return self.settle();
        }
        // Of the epoch that holds, what the slice changes is all that changes.
        let turnover = epoch.turnover(index, old.as_ref());
        self.stale |= !epoch.was_complete();
        let changed = !self.stale && self.update(number, index, old.filter(|_| apart).as_ref());
        let (another, later) = self.settle();
        (changed || another, turnover.and(later))
    }

    /// Makes the newest complete epoch the current one; says whether the group changed, and how its pods did. While all
    /// slices of the current epoch are there, no lower one counts; once one of them is gone, any complete one does, and
    /// where there is none the current epoch stays what it was.
    fn settle(&mut self) -> (bool, Turnover) {
        let current = self.current.as_ref().map(|(number, _)| *number);
        let broken = current.and_then(|number| self.epochs.get(&number)).is_none_or(Epoch::has_gone);
        let lowest = current.filter(|_| !broken).unwrap_or(0);
        let mut newest_first = self.epochs.range(lowest..).rev();
        let newest = newest_first.find(|(_, epoch)| epoch.is_complete()).map(|(number, _)| *number);
        let frozen = || current.filter(|number| self.epochs.get(number).is_some_and(Epoch::was_complete));
        let Some(number) = newest.or_else(frozen) else { return Default::default() };
        // A lower one was left behind, and one that does not say of all its slices which pods they are says nothing.
        let before = current.filter(|before| *before < number).and_then(|before| self.epochs.get(&before));
        let next = self.epochs.get(&number);
        let turnover = before
            .zip(next.filter(|next| next.pods().is_some()))
            .map(|(before, next)| owned::turnover(&before.owned(), &next.owned(), |_| false));
        let group = next.filter(|_| self.stale || current != Some(number)).and_then(Epoch::whole);
        // What is gone from the other epochs can't make them complete.
        self.epochs.retain(|other, epoch| *other == number || epoch.any_there());
        let Some(group) = group else { return Default::default() };
        let changed = self.current.as_ref().is_none_or(|(_, before)| *before != group);
        self.current = Some((number, group));
        self.stale = false;
        (changed, turnover.unwrap_or_default())
    }

    /// Brings the group up to date with a slice of its epoch, of which `old` was there before; true where it changed. The
    /// old one is None where all is to be put together anew.
    fn update(&mut self, number: u32, index: u32, old: Option<&Part>) -> bool {
        let (Some((_, group)), Some(epoch)) = (&mut self.current, self.epochs.get(&number)) else {
            return false;
        };
        let before = group.clone();
        if let Some((old, new)) = old.zip(epoch.parts.get(&index)) {
            old.members.minus(&new.members).iter().for_each(|member| {
                group.members.remove(&member);
            });
            new.members.minus(&old.members).iter().for_each(|member| {
                group.members.insert(member);
            });
            group.pods = epoch.pods();
        }
        // A member that is in two slices is not gone with one of them.
        if old.is_none() || !epoch.is_apart(&self.current) {
            let Some(whole) = epoch.whole() else { return false };
            self.current = Some((number, whole));
        }
        self.current.as_ref().is_some_and(|(_, group)| *group != before)
    }

    /// What the slices of the epoch that holds say of pods.
    fn owned(&self) -> impl Iterator<Item = &Owned> {
        let current = self.current.as_ref().and_then(|(number, _)| self.epochs.get(number));
        current.into_iter().flat_map(Epoch::owned)
    }

    fn is_pending(&self) -> bool {
        let above = self.current.as_ref().map_or(0, |(number, _)| number.saturating_add(1));
        self.epochs.range(above..).any(|(_, epoch)| epoch.any_there())
    }
}

impl Epoch {
    /// Puts a slice in its place and gives back what was there.
    fn put(&mut self, index: u32, part: Part) -> Option<Part> {
        self.count(&part, 1);
        let old = self.parts.insert(index, part);
        if let Some(old) = &old {
            self.count(old, -1);
        }
        old
    }

    /// The slices for which this holds are gone.
    fn lose(&mut self, which: impl Fn(u32) -> bool) {
        for (_, part) in self.parts.iter_mut().filter(|(index, part)| !part.gone && which(**index)) {
            part.gone = true;
            if let Some(tally) = self.shapes.get_mut(&part.shape) {
                tally.there = tally.there.saturating_sub(1);
            }
        }
    }

    fn count(&mut self, part: &Part, by: i32) {
        let tally = self.shapes.entry(part.shape).or_default();
        tally.known = tally.known.saturating_add_signed(by);
        tally.there = tally.there.saturating_add_signed(if part.gone { 0 } else { by });
        let members = part.members.len();
        tally.members = if by > 0 { tally.members + members } else { tally.members.saturating_sub(members) };
        if tally.known == 0 {
            self.shapes.remove(&part.shape);
        }
    }

    /// The shape that the slices should have, with what there is of it.
    fn shape(&self) -> Option<(Shape, Tally)> {
        let shape = self.parts.get(&0)?.shape;
        Some((shape, *self.shapes.get(&shape)?))
    }

    /// Slices of another shape are there: of another cut.
    fn others_there(&self, shape: Shape) -> bool {
        self.shapes.iter().any(|(other, tally)| *other != shape && tally.there > 0)
    }

    /// All slices are there, and agree. Each has an index below its own count, so as many as that are all.
    fn is_complete(&self) -> bool {
        self.shape().is_some_and(|(shape, tally)| tally.there == shape.1 && !self.others_there(shape))
    }

    /// All slices are there or were.
    fn was_complete(&self) -> bool {
        self.shape().is_some_and(|(shape, tally)| tally.known == shape.1 && !self.others_there(shape))
    }

    /// A slice disappeared that belongs to the epoch; one beyond its count is left from another cut.
    fn has_gone(&self) -> bool {
        let count = self.parts.get(&0).map_or(u32::MAX, |first| first.shape.1);
        self.shapes.values().any(|tally| tally.there < tally.known)
            && self.parts.range(..count).any(|(_, part)| part.gone)
    }

    fn any_there(&self) -> bool {
        self.shapes.values().any(|tally| tally.there > 0)
    }

    /// No member is in two slices of the group that was made of this epoch.
    fn is_apart(&self, current: &Option<(u32, Group)>) -> bool {
        let group = current.as_ref().map(|(_, group)| group.members.len());
        self.shape().is_some_and(|(_, tally)| Some(tally.members) == group) && self.was_complete()
    }

    /// The slices that make the group.
    fn used(&self) -> impl Iterator<Item = &Part> {
        let count = self.parts.get(&0).map_or(0, |first| first.shape.1);
        self.parts.range(..count).map(|(_, part)| part)
    }

    fn owned(&self) -> Vec<&Owned> {
        self.used().filter_map(|part| part.owned.as_ref()).collect()
    }

    fn pods(&self) -> Option<Arc<Pods>> {
        owned::together(self.used().map(|part| part.owned.as_ref())).map(Arc::new)
    }

    /// How the pods changed when a slice took the place of another.
    fn turnover(&self, index: u32, old: Option<&Part>) -> Turnover {
        let (Some(old), Some(new)) = (old, self.parts.get(&index)) else { return Turnover::default() };
        let (Some(old), Some(new)) = (&old.owned, &new.owned) else { return Turnover::default() };
        let others = || self.parts.iter().filter(|(other, _)| **other != index).map(|(_, part)| part);
        let elsewhere =
            |pair: &owned::Pair| others().any(|part| part.owned.as_ref().is_some_and(|o| o.holds(pair)));
        owned::turnover(&[old], &[new], elsewhere)
    }

    /// The group that the slices make.
    fn whole(&self) -> Option<Group> {
        let kind = self.shape()?.0.0;
        let members = self.used().flat_map(|part| part.members.iter()).collect();
        Some(Group { kind, members, pods: self.pods() })
    }
}

#[cfg(test)]
mod random;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod turnover;
