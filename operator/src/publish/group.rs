//! A group as this leader publishes it: how it is cut, and the buckets whose labels its slices carry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use selvage_crds::address_group::Slice;
use selvage_crds::bucket::Bucket;
use selvage_policy::compiled::{GroupId, GroupKind, Member};
use selvage_policy::slices::{SliceChange, SlicedGroup};

use super::{RETIRE_AFTER, SliceId};
use crate::watch::SeenSlice;

/// A group that at least one node names.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    kind: GroupKind,
    sliced: SlicedGroup,
    /// How many nodes of each bucket name it.
    nodes: BTreeMap<Bucket, usize>,
    /// Buckets that hold no node of the span any more, and when their labels go.
    retiring: BTreeMap<Bucket, Instant>,
}

impl Group {
    /// A group that this leader has not published yet, cut as what stands of it, so that readers have to read no
    /// more than what changed: the newest epoch where it is complete, else a new epoch above all.
    pub fn establish(
        id: GroupId,
        kind: GroupKind,
        members: impl IntoIterator<Item = Member>,
        standing: &BTreeMap<SliceId, SeenSlice>,
        now: Instant,
    ) -> Self {
        let first = SliceId { group: id, epoch: 0, index: 0 };
        let last = SliceId { group: id, epoch: u32::MAX, index: u32::MAX };
        let standing: Vec<_> = standing.range(first..=last).collect();
        let retiring = standing.iter().flat_map(|(_, seen)| &seen.buckets);
        let retiring = retiring.map(|bucket| (*bucket, now + RETIRE_AFTER)).collect();
        let sliced = match standing.last() {
            None => SlicedGroup::new(1, members),
            Some((newest, seen)) => {
                let epoch = u64::from(newest.epoch);
                let parts = standing.iter().filter(|(id, _)| id.epoch == newest.epoch);
                let complete = usize::try_from(seen.count) == Ok(parts.clone().count())
                    && parts.clone().zip(0..).all(|((id, part), index)| {
                        id.index == index && part.count == seen.count && part.digest.is_some()
                    });
                if complete {
                    let mut sliced = SlicedGroup::adopt(epoch, vec![BTreeSet::new(); parts.count()]);
                    sliced.replace(members);
                    sliced
                } else {
                    SlicedGroup::new(epoch.saturating_add(1), members)
                }
            }
        };
        Self { id, kind, sliced, nodes: BTreeMap::new(), retiring }
    }

    /// Members came and went.
    pub fn change(&mut self, added: &[Member], removed: &[Member]) -> SliceChange {
        self.sliced.change(added, removed)
    }

    /// Nodes name it now; whether its slices need another label.
    pub fn span_added(&mut self, nodes: &[Arc<str>]) -> bool {
        let mut more = false;
        for node in nodes {
            let bucket = Bucket::of_node(node);
            *self.nodes.entry(bucket).or_default() += 1;
            // A label that was about to go is still there.
            let known = self.retiring.remove(&bucket).is_some();
            more |= !known && self.nodes.get(&bucket) == Some(&1);
        }
        more
    }

    /// Nodes do not name it any more; the labels stay for a while.
    pub fn span_removed(&mut self, nodes: &[Arc<str>], now: Instant) {
        for node in nodes {
            let bucket = Bucket::of_node(node);
            let Some(count) = self.nodes.get_mut(&bucket) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.nodes.remove(&bucket);
                self.retiring.insert(bucket, now + RETIRE_AFTER);
            }
        }
    }

    /// Drops the labels whose time is over; whether there were any.
    pub fn retire(&mut self, now: Instant) -> bool {
        let before = self.retiring.len();
        self.retiring.retain(|_, at| *at > now);
        self.retiring.len() != before
    }

    /// The buckets whose labels its slices carry.
    pub fn buckets(&self) -> BTreeSet<Bucket> {
        self.nodes.keys().chain(self.retiring.keys()).copied().collect()
    }

    /// Every slice of its cut.
    pub fn slices(&self) -> impl Iterator<Item = SliceId> + use<> {
        let (group, epoch) = (self.id, self.epoch());
        (0..self.sliced.epoch().count).map(move |index| SliceId { group, epoch, index })
    }

    /// The slice of that number.
    pub fn slice_id(&self, index: u32) -> SliceId {
        SliceId { group: self.id, epoch: self.epoch(), index }
    }

    /// A slice's content; None for one that is not of its cut.
    pub fn slice(&self, id: SliceId) -> Option<Slice> {
        let SliceId { group, epoch, index } = id;
        if group != self.id || epoch != self.epoch() {
            return None;
        }
        let members = self.sliced.slice(index)?.clone();
        Some(Slice { group, kind: self.kind, epoch, index, count: self.sliced.epoch().count, members })
    }

    /// Whether a slice of its cut holds one of these members.
    pub fn holds_any(&self, index: u32, members: &[Member]) -> bool {
        self.sliced.slice(index).is_some_and(|slice| members.iter().any(|member| slice.contains(member)))
    }

    fn epoch(&self) -> u32 {
        u32::try_from(self.sliced.epoch().epoch).unwrap_or(u32::MAX)
    }
}
