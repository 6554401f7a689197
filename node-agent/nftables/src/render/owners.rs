//! The record of owners: which pod each of the node's addresses belongs to, kept in the table itself.
//!
//! Established connections pass without a verdict, so those of a pod must be forgotten before another pod has its
//! address, also where the hand-over happened while no agent ran. No rule reads these sets: only the next agent does,
//! and it compares them with what it finds. A table without them is an older agent's, and says nothing about owners.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use selvage_policy::compiled::{Family, GroupId};

use super::Direction;
use super::address::of_group as of_group_names;
use super::base::names;
use super::expr::{address_bytes, address_part, family_of, key, padded_name, points, short_hash};
use crate::model::{Elements, Key, KeyPart, Name, Ruleset, Set};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// Hexadecimal digits of an owner: as many as an interface's name has room for, so that `nft` prints them as text.
const DIGITS: usize = 15;

/// The pod that an address belongs to: 60 bits of a hash of its uid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner([u8; DIGITS]);

impl Owner {
    /// A pod of an agent that kept no record.
    pub const UNKNOWN: Self = Self([b'?'; DIGITS]);

    /// No pod of this node: an address that left its pod, wherever that was, and whose connections are to be forgotten.
    pub const ENDED: Self = Self([b'-'; DIGITS]);

    /// The pod with this uid.
    pub fn of(uid: &str) -> Self {
        let mut digits = [b'0'; DIGITS];
        for (digit, hash) in digits.iter_mut().zip(short_hash(uid.as_bytes()).bytes()) {
            *digit = hash;
        }
        Self(digits)
    }

    /// True unless the two are known to differ.
    pub fn may_be(self, other: Self) -> bool {
        self == other || self == Self::UNKNOWN || other == Self::UNKNOWN
    }
}

/// Makes the ruleset's record say just this.
pub fn record(ruleset: &mut Ruleset, owners: &BTreeMap<IpAddr, Owner>) {
    for family in FAMILIES {
        let of_family = owners.iter().filter(|(address, _)| family_of(**address) == family);
        let keys = of_family.filter_map(|(address, owner)| {
            let name = padded_name(std::str::from_utf8(&owner.0).ok()?);
            key(&[&address_bytes(*address), &name])
        });
        let set = points(vec![address_part(family), KeyPart::InterfaceName], keys);
        ruleset.sets.insert(names::owners(family), set);
    }
}

/// The record of a table that was read. An address of the node's own that it does not hold has an unknown owner.
pub fn recorded(ruleset: &Ruleset) -> BTreeMap<IpAddr, Owner> {
    let mut owners = BTreeMap::new();
    for family in FAMILIES {
        for (address, _) in members(ruleset, &names::own(family)) {
            owners.insert(address, Owner::UNKNOWN);
        }
    }
    for family in FAMILIES {
        for (address, rest) in members(ruleset, &names::owners(family)) {
            if let Some(digits) = rest.get(..DIGITS).and_then(|digits| digits.try_into().ok()) {
                owners.insert(address, Owner(digits));
            }
        }
    }
    owners
}

/// The addresses that a table which was read holds of a group; None where it does not know the group.
pub fn of_group(ruleset: &Ruleset, group: GroupId) -> Option<BTreeSet<IpAddr>> {
    let names = FAMILIES.into_iter().flat_map(|family| of_group_names(family, group));
    let sets = names.flat_map(|name| {
        let from = ruleset.sets.range(name.clone()..).take_while({
            let name = name.clone();
            move |(set, _)| set.starts_with(&*name)
        });
        from.filter(move |(set, _)| is_generation(set, &name)).map(|(_, set)| set)
    });
    let mut sets = sets.peekable();
    sets.peek()?;
    Some(sets.flat_map(addresses_of).map(|(address, _)| address).collect())
}

/// Takes the addresses out of everything that lets packets of theirs pass. The record still holds them.
pub fn close(ruleset: &mut Ruleset, addresses: &BTreeSet<IpAddr>) {
    for family in FAMILIES {
        let closed: BTreeSet<Vec<u8>> =
            addresses.iter().filter(|a| family_of(**a) == family).map(|a| address_bytes(*a)).collect();
        let keeps = |key: &Key| {
            let bytes = key.as_bytes();
            !bytes.chunks(address_part(family).size()).any(|part| closed.contains(part))
        };
        let sets = [names::own(family), names::pairs(family)]
            .into_iter()
            .chain([Direction::Ingress, Direction::Egress].map(|direction| names::map(direction, family)));
        for name in sets {
            for (_, set) in ruleset.sets.iter_mut().filter(|(set, _)| is_generation(set, &name)) {
                match &mut set.elements {
                    Elements::Points(points) => points.retain(keeps),
                    Elements::Verdicts(verdicts) => verdicts.retain(|key, _| keeps(key)),
                    Elements::Ranges(_) => {}
                }
            }
        }
    }
}

/// Addresses in a set of points, each with what follows it in its key.
fn members<'a>(ruleset: &'a Ruleset, base: &'a Name) -> impl Iterator<Item = (IpAddr, Vec<u8>)> + 'a {
    let sets = ruleset.sets.iter().filter(|(name, _)| is_generation(name, base)).map(|(_, set)| set);
    sets.flat_map(addresses_of)
}

fn addresses_of(set: &Set) -> impl Iterator<Item = (IpAddr, Vec<u8>)> {
    points_of(set).filter_map(|(part, key)| {
        let (address, rest) = key.as_bytes().split_at_checked(part.size())?;
        let v4 = <[u8; 4]>::try_from(address).map(IpAddr::from);
        let address = v4.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from)).ok()?;
        Some((address, rest.to_vec()))
    })
}

fn points_of(set: &Set) -> impl Iterator<Item = (KeyPart, Key)> {
    let points = match (&set.elements, set.key.first()) {
        (Elements::Points(points), Some(part)) => Some(points.iter().map(|key| (*part, key))),
        _ => None,
    };
    points.into_iter().flatten()
}

/// A set that grew has a generation behind a dot.
fn is_generation(name: &str, base: &str) -> bool {
    name.split_once('.').map_or(name, |(base, _)| base) == base
}
