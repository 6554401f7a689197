//! How a group is cut into objects: slices of at most [`SLICE_LIMIT`] members.
//!
//! Members are dealt to slices by a hash, so that one member's coming or going touches one slice. Another count of
//! slices is a new epoch: readers use the newest epoch of which they have every slice, so the old slices stay until
//! the caller, who has a clock, retires them.

use std::collections::BTreeSet;

use crate::compiled::Member;

/// The most members that a slice holds.
pub const SLICE_LIMIT: usize = 250;

/// The most slices that a group is cut into: 4,096 x 250 is a million members. Beyond it slices grow instead, so that
/// members chosen to collide can't make objects without bound.
pub const MAX_SLICES: u32 = 4096;

/// A group as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicedGroup {
    epoch: u64,
    slices: Vec<BTreeSet<Member>>,
}

/// What a change of members means for the published slices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SliceChange {
    /// Indices of slices of the current epoch to write, sorted.
    pub changed: Vec<u32>,
    /// The epoch that was current before, when the count changed: to be removed once readers have had time.
    pub retired: Option<Epoch>,
}

/// One cut of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Its number; later ones are higher.
    pub epoch: u64,
    /// How many slices it has: a power of two.
    pub count: u32,
}

impl SlicedGroup {
    /// A group that was never published: every slice is to be written. `epoch` is 1 unless objects of the same group
    /// are still around, then above theirs.
    pub fn new(epoch: u64, members: impl IntoIterator<Item = Member>) -> Self {
        let members: Vec<Member> = members.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let count = grown(1, &members);
        Self { epoch, slices: deal(count, members) }
    }

    /// Takes over what an earlier leader published: a complete epoch with what each of its slices holds, missing or
    /// odd content included. [`SlicedGroup::replace`] then says what has to be written.
    pub fn adopt(epoch: u64, slices: Vec<BTreeSet<Member>>) -> Self {
        Self { epoch, slices }
    }

    /// The current epoch.
    pub fn epoch(&self) -> Epoch {
        Epoch { epoch: self.epoch, count: self.count() }
    }

    /// The slice of the current epoch that a member lies in, or would.
    pub fn index_of(&self, member: &Member) -> u32 {
        u32::try_from(slice_of(member, self.count())).unwrap_or_default()
    }

    /// What a slice of the current epoch holds; None when there is no such slice.
    pub fn slice(&self, index: u32) -> Option<&BTreeSet<Member>> {
        self.slices.get(usize::try_from(index).ok()?)
    }

    /// Members that came and went.
    pub fn change(&mut self, added: &[Member], removed: &[Member]) -> SliceChange {
        let count = self.count();
        let mut changed = BTreeSet::new();
        for (members, add) in [(removed, false), (added, true)] {
            for member in members {
                let index = slice_of(member, count);
                let Some(slice) = self.slices.get_mut(index) else { continue };
                if if add { slice.insert(*member) } else { slice.remove(member) } {
                    changed.insert(index);
                }
            }
        }
        self.settle(changed)
    }

    /// The members are now just these.
    pub fn replace(&mut self, members: impl IntoIterator<Item = Member>) -> SliceChange {
        let count = self.count();
        if !count.is_power_of_two() || count > MAX_SLICES {
            let retired = self.epoch();
            *self = Self::new(self.epoch.saturating_add(1), members);
            return SliceChange { changed: (0..self.count()).collect(), retired: Some(retired) };
        }
        let wanted = deal(count, members.into_iter().collect());
        let changed =
            (0..wanted.len()).filter(|&index| wanted.get(index) != self.slices.get(index)).collect();
        self.slices = wanted;
        self.settle(changed)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.slices.len()).unwrap_or(u32::MAX)
    }

    /// Cuts anew where the count does not fit any more.
    fn settle(&mut self, changed: BTreeSet<usize>) -> SliceChange {
        let before = self.epoch();
        let overfull = changed.iter().any(|&i| self.slices.get(i).is_some_and(|s| s.len() > SLICE_LIMIT));
        let members: usize = self.slices.iter().map(BTreeSet::len).sum();
        // Cheap tests first: nothing is dealt again unless the count may change.
        let sparse = before.count > 1 && members.saturating_mul(4) <= SLICE_LIMIT * self.slices.len();
        let count = if overfull || sparse {
            let all: Vec<Member> = self.slices.iter().flatten().copied().collect();
            if overfull { grown(before.count, &all) } else { shrunk(before.count, &all) }
        } else {
            before.count
        };
        if count == before.count {
            let changed = changed.into_iter().filter_map(|i| u32::try_from(i).ok()).collect();
            return SliceChange { changed, retired: None };
        }
        let all = std::mem::take(&mut self.slices).into_iter().flatten().collect();
        self.epoch = self.epoch.saturating_add(1);
        self.slices = deal(count, all);
        SliceChange { changed: (0..count).collect(), retired: Some(before) }
    }
}

/// Doubled until every slice fits.
fn grown(mut count: u32, members: &[Member]) -> u32 {
    while count < MAX_SLICES && largest(count, members) > SLICE_LIMIT {
        count *= 2;
    }
    count
}

/// Halved as long as half of the halved slices would do (for two slices: half of one slice).
fn shrunk(mut count: u32, members: &[Member]) -> u32 {
    while count > 1 {
        let fits = match count {
            2 => members.len() <= SLICE_LIMIT / 2,
            _ => largest(count / 4, members) <= SLICE_LIMIT,
        };
        if !fits {
            break;
        }
        count /= 2;
    }
    count
}

fn largest(count: u32, members: &[Member]) -> usize {
    let mut sizes = vec![0usize; usize::try_from(count).unwrap_or(1)];
    for member in members {
        if let Some(size) = sizes.get_mut(slice_of(member, count)) {
            *size += 1;
        }
    }
    sizes.into_iter().max().unwrap_or(0)
}

fn deal(count: u32, members: Vec<Member>) -> Vec<BTreeSet<Member>> {
    let mut slices = vec![BTreeSet::new(); usize::try_from(count).unwrap_or(1)];
    for member in members {
        if let Some(slice) = slices.get_mut(slice_of(&member, count)) {
            slice.insert(member);
        }
    }
    slices
}

/// Which of `count` slices a member lies in: the low bits of a hash that no release may change.
fn slice_of(member: &Member, count: u32) -> usize {
    let mut hasher = blake3::Hasher::new();
    match member {
        Member::Net(net) => {
            hasher.update(b"n");
            hash_address(&mut hasher, net.addr());
            hasher.update(&[net.prefix_len()]);
        }
        Member::Port(address, protocol, port) => {
            hasher.update(b"p");
            hash_address(&mut hasher, *address);
            hasher.update(&[*protocol]);
            hasher.update(&port.to_be_bytes());
        }
    }
    let [a, b, c, d, ..] = *hasher.finalize().as_bytes();
    let hash = u32::from_be_bytes([a, b, c, d]);
    usize::try_from(hash & count.saturating_sub(1)).unwrap_or(0)
}

fn hash_address(hasher: &mut blake3::Hasher, address: std::net::IpAddr) {
    match address {
        std::net::IpAddr::V4(v4) => hasher.update(b"4").update(&v4.octets()),
        std::net::IpAddr::V6(v6) => hasher.update(b"6").update(&v6.octets()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_chosen_to_collide_make_no_more_slices_than_the_limit() {
        let member = Member::Port([10, 0, 0, 1].into(), 6, 80);
        assert_eq!(grown(1, &[member; SLICE_LIMIT]), 1);
        assert_eq!(grown(1, &[member; SLICE_LIMIT + 1]), MAX_SLICES);
    }
}
