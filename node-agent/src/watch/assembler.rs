//! Puts slices together to address groups.
//!
//! Slices come and go one by one, in no order that anything relies on. A group is what the newest epoch says whose
//! slices are all there; until a newer one is complete, it stays what it was. A slice that disappears takes nothing
//! with it: its members stay until a complete epoch is without them. That epoch may be a lower one, because whoever
//! cuts the slices counts from 1 again where it finds none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use selvage_crds::address_group::Slice;
use selvage_policy::compiled::{GroupId, GroupKind, Member};

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
    pub members: Arc<BTreeSet<Member>>,
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
}

#[derive(Debug, Default)]
struct Slots {
    epochs: BTreeMap<u32, BTreeMap<u32, Part>>,
    current: Option<(u32, Group)>,
}

#[derive(Debug)]
struct Part {
    kind: GroupKind,
    count: u32,
    members: BTreeSet<Member>,
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
        let mut changed = BTreeSet::new();
        for (group, slots) in &mut self.groups {
            for (epoch, parts) in &mut slots.epochs {
                for (index, part) in parts {
                    part.gone |= !listing.contains(&Place { group: *group, epoch: *epoch, index: *index });
                }
            }
            if slots.settle() {
                changed.insert(*group);
            }
        }
        changed
    }

    /// Takes a new or changed slice; true where that changed a group.
    ///
    /// # Errors
    /// Where the slice makes no sense; then what it said before still holds.
    pub fn apply(&mut self, slice: Slice) -> Result<bool, SliceError> {
        self.listed(Place::from(&slice));
        let Slice { group, kind, epoch, index, count, members, owners: _ } = slice;
        if index >= count {
            return Err(SliceError::Place { index, count });
        }
        let fits = |m: &&Member| matches!(m, Member::Net(_)) == (kind == GroupKind::Addresses);
        if let Some(stray) = members.iter().find(|m| !fits(m)) {
            return Err(SliceError::Kind(*stray, kind));
        }
        let slots = self.groups.entry(group).or_default();
        slots.epochs.entry(epoch).or_default().insert(index, Part { kind, count, members, gone: false });
        Ok(slots.settle())
    }

    /// A slice disappeared; true where that changed its group.
    pub fn remove(&mut self, place: Place) -> bool {
        let Some(slots) = self.groups.get_mut(&place.group) else { return false };
        let part = slots.epochs.get_mut(&place.epoch).and_then(|parts| parts.get_mut(&place.index));
        let Some(part) = part else { return false };
        part.gone = true;
        slots.settle()
    }

    /// Forgets groups that are not named any more and whose slices are all gone.
    pub fn forget_unless(&mut self, named: impl Fn(GroupId) -> bool) {
        self.groups.retain(|group, slots| named(*group) || slots.epochs.values().any(any_there));
    }

    /// The group, where it is known completely.
    pub fn group(&self, group: GroupId) -> Option<&Group> {
        self.groups.get(&group)?.current.as_ref().map(|(_, group)| group)
    }
}

impl Slots {
    /// Makes the newest complete epoch the current one; true where the group changed. While all slices of the current
    /// epoch are there, no lower one counts; once one of them is gone, any complete one does, and where there is none
    /// the current epoch stays what it was.
    fn settle(&mut self) -> bool {
        let current = self.current.as_ref().map(|(epoch, _)| *epoch);
        let broken = current.and_then(|epoch| self.epochs.get(&epoch)).is_none_or(has_gone);
        let lowest = current.filter(|_| !broken).unwrap_or(0);
        let mut newest_first = self.epochs.range(lowest..).rev();
        let newest = newest_first.find_map(|(epoch, parts)| Some((*epoch, whole(parts, false)?)));
        let frozen = || current.and_then(|epoch| Some((epoch, whole(self.epochs.get(&epoch)?, true)?)));
        let Some((epoch, group)) = newest.or_else(frozen) else { return false };
        // What is gone from the other epochs can't make them complete.
        self.epochs.retain(|other, parts| *other == epoch || any_there(parts));
        let changed = self.current.as_ref().is_none_or(|(_, before)| *before != group);
        self.current = Some((epoch, group));
        changed
    }
}

/// True where a slice of the epoch disappeared that belongs to it; one beyond its count is left from another cut.
fn has_gone(parts: &BTreeMap<u32, Part>) -> bool {
    let count = parts.get(&0).map_or(u32::MAX, |first| first.count);
    parts.range(..count).any(|(_, part)| part.gone)
}

fn any_there(parts: &BTreeMap<u32, Part>) -> bool {
    parts.values().any(|part| !part.gone)
}

/// The group that an epoch's slices make; None while they are not all there, or disagree.
fn whole(parts: &BTreeMap<u32, Part>, gone_count: bool) -> Option<Group> {
    let first = parts.get(&0)?;
    let (kind, count) = (first.kind, first.count);
    let mut members = BTreeSet::new();
    for index in 0..count {
        let part = parts.get(&index)?;
        if part.kind != kind || part.count != count || (part.gone && !gone_count) {
            return None;
        }
        members.extend(part.members.iter().copied());
    }
    // More slices than the epoch has: one of them is from another cut.
    (parts.range(count..).all(|(_, part)| part.gone)).then_some(Group { kind, members: Arc::new(members) })
}

#[cfg(test)]
mod tests;
