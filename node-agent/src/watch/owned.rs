//! Which pods the members of groups are, and which addresses went from one pod to another.
//!
//! A slice of pods says of each member, and of each former member, which pod it is. So what a reader sees no more under
//! the same pod is an address whose pod ended, or that another pod has: a label that changed leaves a former member.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use selvage_crds::address_group::{Owner, Owners};

/// An address and the pod that has it.
pub(super) type Pair = (IpAddr, Owner);

/// The pods of one slice.
#[derive(Debug)]
pub(super) struct Owned {
    /// Sorted, each once.
    pairs: Box<[Pair]>,
    former: BTreeSet<IpAddr>,
    heirs: BTreeSet<IpAddr>,
}

/// What a group says of pods beside its members.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pods {
    /// Addresses that were members, and whose pods have them as ever.
    pub former: BTreeSet<IpAddr>,
    /// Members that came with an address that another pod had not long before.
    pub heirs: BTreeSet<IpAddr>,
}

/// Addresses whose pods ended, or that other pods have now, until whoever enforces takes them. They come together with
/// the view that says so, so that nobody takes them before.
#[derive(Debug, Clone, Default)]
pub struct HandedOver(Arc<Mutex<BTreeSet<IpAddr>>>);

impl HandedOver {
    /// These changed hands.
    pub fn add(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(addresses);
    }

    /// All that changed hands since this was asked last.
    pub fn take(&self) -> BTreeSet<IpAddr> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Owned {
    pub(super) fn of(owners: Owners) -> Self {
        let Owners { members, former, heirs } = owners;
        let pairs: BTreeSet<Pair> =
            members.iter().chain(&former).map(|(member, owner)| (member.address(), *owner)).collect();
        Self {
            pairs: pairs.into_iter().collect(),
            former: former.keys().map(selvage_policy::compiled::Member::address).collect(),
            heirs: heirs.iter().map(selvage_policy::compiled::Member::address).collect(),
        }
    }

    pub(super) fn holds(&self, pair: &Pair) -> bool {
        self.pairs.binary_search(pair).is_ok()
    }
}

/// What the slices of a group say together; None where one of them says nothing of pods.
pub(super) fn together<'a>(parts: impl Iterator<Item = Option<&'a Owned>>) -> Option<Pods> {
    let mut pods = Pods::default();
    for part in parts {
        let part = part?;
        pods.former.extend(&part.former);
        pods.heirs.extend(&part.heirs);
    }
    Some(pods)
}

/// How a group's pods changed.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    /// Addresses that are no longer those of the same pods.
    pub(super) ended: BTreeSet<IpAddr>,
    /// Heirs that came: their addresses were others' before, of which this group never told.
    pub(super) heirs: Vec<Pair>,
}

impl Turnover {
    /// Both together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.ended.extend(other.ended);
        self.heirs.extend(other.heirs);
        self
    }
}

/// Compares slices before and after; `elsewhere` tells of the group's slices that did not change.
pub(super) fn turnover(before: &[&Owned], after: &[&Owned], elsewhere: impl Fn(&Pair) -> bool) -> Turnover {
    let in_any =
        |owned: &[&Owned], pair: &Pair| owned.iter().any(|owned| owned.holds(pair)) || elsewhere(pair);
    let all_before = before.iter().flat_map(|owned| &owned.pairs);
    let ended = all_before.filter(|pair| !in_any(after, pair)).map(|(address, _)| *address).collect();
    let all_after = after.iter().flat_map(|owned| owned.pairs.iter().map(move |pair| (owned, pair)));
    let heirs = all_after
        .filter(|(owned, (address, _))| owned.heirs.contains(address))
        .filter(|(_, pair)| !in_any(before, pair))
        .map(|(_, pair)| *pair)
        .collect();
    Turnover { ended, heirs }
}
