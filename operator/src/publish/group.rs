//! A group as this leader publishes it: how it is cut, and the buckets whose labels its slices carry.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use selvage_crds::address_group::{Owner, Owners, Slice};
use selvage_crds::bucket::Bucket;
use selvage_policy::compiled::{GroupId, GroupKind, Member};
use selvage_policy::engine::{Engine, GroupDelta, GroupState};
use selvage_policy::slices::{SliceChange, SlicedGroup};

use super::{RETIRE_AFTER, SliceId};
use crate::watch::SeenSlice;

/// A group that at least one node names.
#[derive(Debug)]
pub struct Group {
    id: GroupId,
    kind: GroupKind,
    /// Its members are pods, and its slices say which.
    of_pods: bool,
    /// Its members and former members, so that both count for how it is cut.
    sliced: SlicedGroup,
    /// What was a member, and is none any more though its pod has the address as ever.
    former: BTreeSet<Member>,
    /// Members that came with an address that another pod had not long before.
    heirs: BTreeSet<Member>,
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
        state: GroupState,
        standing: &BTreeMap<SliceId, SeenSlice>,
        engine: &Engine,
        now: Instant,
    ) -> Self {
        let GroupState { kind, of_pods, members, span } = state;
        let first = SliceId { group: id, epoch: 0, index: 0 };
        let last = SliceId { group: id, epoch: u32::MAX, index: u32::MAX };
        let standing: Vec<_> = standing.range(first..=last).collect();
        let retiring = standing.iter().flat_map(|(_, seen)| &seen.buckets);
        let retiring = retiring.map(|bucket| (*bucket, now + RETIRE_AFTER)).collect();
        let pods = standing.iter().filter(|_| of_pods).filter_map(|(_, seen)| seen.pods.as_ref());
        let (mut former, mut heirs) = (BTreeSet::new(), BTreeSet::new());
        for pods in pods {
            let same = |(member, owner): &&(Member, Owner)| owner_of(engine, member) == Some(*owner);
            for (member, _) in pods.owners.iter().filter(same) {
                if !members.contains(member) {
                    former.insert(*member);
                } else if pods.heirs.contains(member) {
                    heirs.insert(*member);
                }
            }
        }
        let members = members.into_iter().chain(former.iter().copied());
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
        let mut group = Self { id, kind, of_pods, sliced, former, heirs, nodes: BTreeMap::new(), retiring };
        group.span_added(&span);
        group
    }

    /// Members came, went, or are other pods now. `came` tells of an address that another pod had not long before;
    /// `handed_over` of one that another pod has than before, or none.
    pub fn change(
        &mut self,
        change: &GroupDelta,
        handed_over: impl Fn(&Member) -> bool,
        came: impl Fn(&Member) -> bool,
    ) -> SliceChange {
        let (mut ended, mut written): (Vec<Member>, Vec<Member>) = (Vec::new(), change.renewed.clone());
        for member in &change.removed {
            self.heirs.remove(member);
            if self.of_pods && !handed_over(member) {
                self.former.insert(*member);
                written.push(*member);
            } else {
                ended.push(*member);
            }
        }
        for member in &change.added {
            if self.former.remove(member) {
                written.push(*member);
            }
            if self.of_pods && came(member) {
                self.heirs.insert(*member);
            }
        }
        self.cut(&change.added, &ended, &written)
    }

    /// Another pod has the address, or none: what was a member by it is no former member any more.
    pub fn handed_over(&mut self, address: IpAddr) -> SliceChange {
        let net = Member::Net(address.into());
        let ports = Member::Port(address, 0, 0)..=Member::Port(address, u8::MAX, u16::MAX);
        let of_address = self.former.range(net..=net).chain(self.former.range(ports));
        let ended: Vec<Member> = of_address.copied().collect();
        self.former.retain(|member| !ended.contains(member));
        self.cut(&[], &ended, &[])
    }

    /// What is to be written where entries came and went, and these are to be said otherwise.
    fn cut(&mut self, added: &[Member], removed: &[Member], written: &[Member]) -> SliceChange {
        let mut change = self.sliced.change(added, removed);
        if change.retired.is_none() {
            let more: BTreeSet<u32> = written.iter().map(|member| self.sliced.index_of(member)).collect();
            change.changed =
                more.into_iter().chain(change.changed).collect::<BTreeSet<_>>().into_iter().collect();
        }
        change
    }

    /// Its former members.
    pub fn former(&self) -> impl Iterator<Item = &Member> {
        self.former.iter()
    }

    /// Whether it is a former member.
    pub fn is_former(&self, member: &Member) -> bool {
        self.former.contains(member)
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
    pub fn slice(&self, id: SliceId, engine: &Engine) -> Option<Slice> {
        let SliceId { group, epoch, index } = id;
        if group != self.id || epoch != self.epoch() {
            return None;
        }
        let entries = self.sliced.slice(index)?;
        let (former, members): (BTreeSet<Member>, BTreeSet<Member>) =
            entries.iter().partition(|entry| self.former.contains(entry));
        let of = |member: &Member| Some((*member, owner_of(engine, member)?));
        let owners = self.of_pods.then(|| Owners {
            members: members.iter().filter_map(of).collect(),
            former: former.iter().filter_map(of).collect(),
            heirs: members.intersection(&self.heirs).copied().collect(),
        });
        let (kind, count) = (self.kind, self.sliced.epoch().count);
        Some(Slice { group, kind, epoch, index, count, members, owners })
    }

    /// Whether a slice is of its cut.
    pub fn is_of_cut(&self, id: SliceId) -> bool {
        id.group == self.id && id.epoch == self.epoch() && self.sliced.slice(id.index).is_some()
    }

    /// Whether a slice of its cut holds one of these members.
    pub fn holds_any(&self, index: u32, members: &[Member]) -> bool {
        self.sliced.slice(index).is_some_and(|slice| members.iter().any(|member| slice.contains(member)))
    }

    fn epoch(&self) -> u32 {
        u32::try_from(self.sliced.epoch().epoch).unwrap_or(u32::MAX)
    }
}

/// The pod that has a member's address now.
fn owner_of(engine: &Engine, member: &Member) -> Option<Owner> {
    engine.owner(member.address()).map(|uid| Owner::of(uid))
}
