//! Who owns an address.
//!
//! An address has one owner among the pods that claim it: the one whose node owns the block that the address lies
//! in, then the newest. The others contribute it to no group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Endpoint;
use super::slab::Id;
use crate::hash::HashMap;

/// Every address that a pod claims.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    owners: HashMap<IpAddr, Id<Endpoint>>,
    /// Every claimant, of addresses with more than one.
    contested: HashMap<IpAddr, BTreeSet<Id<Endpoint>>>,
}

/// An address that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) address: IpAddr,
    pub(crate) from: Option<Id<Endpoint>>,
    pub(crate) to: Option<Id<Endpoint>>,
}

impl Addresses {
    /// A pod claims an address. `rank` orders claimants, no two alike: the highest owns it.
    pub(crate) fn claim<R: Ord>(
        &mut self,
        address: IpAddr,
        claimant: Id<Endpoint>,
        rank: impl Fn(Id<Endpoint>) -> R,
    ) -> Option<Handover> {
        let Some(owner) = self.owners.get(&address).copied() else {
            self.owners.insert(address, claimant);
            return Some(Handover { address, from: None, to: Some(claimant) });
        };
        let claimants = self.contested.entry(address).or_insert_with(|| BTreeSet::from([owner]));
        claimants.insert(claimant);
        self.decide(address, rank)
    }

    /// A pod does not claim an address any more.
    pub(crate) fn release<R: Ord>(
        &mut self,
        address: IpAddr,
        claimant: Id<Endpoint>,
        rank: impl Fn(Id<Endpoint>) -> R,
    ) -> Option<Handover> {
        let Some(claimants) = self.contested.get_mut(&address) else {
            let owner = self.owners.remove(&address)?;
            return Some(Handover { address, from: Some(owner), to: None });
        };
        claimants.remove(&claimant);
        let handover = self.decide(address, rank);
        if self.contested.get(&address).is_some_and(|claimants| claimants.len() < 2) {
            self.contested.remove(&address);
        }
        handover
    }

    /// The pod that has an address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<Id<Endpoint>> {
        self.owners.get(&address).copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.owners.len()
    }

    /// What ranks depend on changed.
    pub(crate) fn decide<R: Ord>(
        &mut self,
        address: IpAddr,
        rank: impl Fn(Id<Endpoint>) -> R,
    ) -> Option<Handover> {
        let claimants = self.contested.get(&address)?;
        let best = claimants.iter().copied().max_by_key(|id| rank(*id))?;
        let before = self.owners.insert(address, best)?;
        (before != best).then_some(Handover { address, from: Some(before), to: Some(best) })
    }
}
