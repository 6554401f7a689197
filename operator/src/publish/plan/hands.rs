//! Addresses that change hands: what the groups say of them beside their members.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use selvage_policy::compiled::{GroupId, Member};
use selvage_policy::engine::Engine;

use crate::publish::group::Group;

/// For how long the next pod at an address is told to have come after another. A flow without traffic is forgotten by
/// the kernel long before, or closed at its ends.
const REMEMBER: Duration = Duration::from_secs(600);

/// Which groups have former members, and which addresses another pod had.
#[derive(Debug, Default)]
pub(super) struct Hands {
    /// Groups by the addresses of their former members; some of them may have none there any more.
    former: BTreeMap<IpAddr, BTreeSet<GroupId>>,
    /// Addresses that a pod had and none has now, and since when.
    free: BTreeMap<IpAddr, Instant>,
    /// Addresses that another pod had not long before the one that has come to them now.
    heirs: BTreeSet<IpAddr>,
}

impl Hands {
    /// What changed hands, and whether a pod had it before.
    pub(super) fn take(&mut self, handed_over: &BTreeMap<IpAddr, bool>, engine: &Engine, now: Instant) {
        self.heirs.clear();
        for (address, had_one) in handed_over {
            if engine.owner(*address).is_none() {
                self.free.insert(*address, now);
                continue;
            }
            let since = self.free.remove(address);
            if *had_one || since.is_some_and(|since| now < since + REMEMBER) {
                self.heirs.insert(*address);
            }
        }
    }

    /// Whether the pod that has come to an address now follows another.
    pub(super) fn is_heir(&self, address: IpAddr) -> bool {
        self.heirs.contains(&address)
    }

    /// A group has these former members, among others.
    pub(super) fn left(&mut self, group: GroupId, former: impl IntoIterator<Item = IpAddr>) {
        for address in former {
            self.former.entry(address).or_default().insert(group);
        }
    }

    /// Groups that may have former members of these addresses, each once.
    pub(super) fn ended(&mut self, handed_over: &BTreeMap<IpAddr, bool>) -> Vec<(IpAddr, GroupId)> {
        let groups = handed_over.keys().filter_map(|address| Some((*address, self.former.remove(address)?)));
        groups.flat_map(|(address, groups)| groups.into_iter().map(move |group| (address, group))).collect()
    }

    /// A group is gone.
    pub(super) fn forget(&mut self, id: GroupId, group: &Group) {
        for address in group.former().map(Member::address) {
            if let Some(groups) = self.former.get_mut(&address) {
                groups.remove(&id);
                if groups.is_empty() {
                    self.former.remove(&address);
                }
            }
        }
    }

    /// Lets go of what was long ago.
    pub(super) fn retire(&mut self, now: Instant) {
        self.free.retain(|_, since| now < *since + REMEMBER);
    }
}
