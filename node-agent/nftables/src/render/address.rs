//! Conditions on addresses: networks inline or in a set, groups in sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use selvage_policy::compiled::{AddressTerm, End, Family, GroupId, Member};

use super::expr::{
    R0, address_bytes, address_part, family_digit, family_of, in_net, key, load_address, lookup, points,
    short_hash,
};
use super::{Groups, Rendered};
use crate::model::{CmpOp, Elements, Expr, KeyPart, Name, Range, Set};

/// Alternatives, one of which must hold; each a run of expressions all of which must hold. No alternative at all never
/// holds, an empty one always does.
pub(super) type Alternatives = Vec<Vec<Expr>>;

/// The sets of address groups, made once for each group, kind and family that a rule names.
pub(super) struct GroupSets<'a> {
    groups: &'a Groups,
    addresses: BTreeMap<(GroupId, Family), Name>,
    ports: BTreeMap<(GroupId, Family), Name>,
    shapes: BTreeMap<GroupId, Shape>,
}

#[derive(Clone, Copy)]
struct Shape {
    nets: bool,
    ports: bool,
}

/// Why a group can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not complete.
    Incomplete,
    /// It has members of another kind.
    Kind,
}

impl<'a> GroupSets<'a> {
    pub(super) fn new(groups: &'a Groups) -> Self {
        Self { groups, addresses: BTreeMap::new(), ports: BTreeMap::new(), shapes: BTreeMap::new() }
    }

    /// Whether the group is there and its members are addresses (or, for `ports`, addresses with ports).
    pub(super) fn check(&mut self, group: GroupId, ports: bool) -> Result<(), Unusable> {
        let members = self.groups.get(&group).ok_or(Unusable::Incomplete)?;
        let shape = *self.shapes.entry(group).or_insert_with(|| Shape {
            nets: members.iter().any(|m| matches!(m, Member::Net(_))),
            ports: members.iter().any(|m| matches!(m, Member::Port(..))),
        });
        let wrong = if ports { shape.nets } else { shape.ports };
        if wrong { Err(Unusable::Kind) } else { Ok(()) }
    }

    fn addresses(&mut self, group: GroupId, family: Family, output: &mut Rendered) -> Name {
        if let Some(name) = self.addresses.get(&(group, family)) {
            return name.clone();
        }
        let nets =
            self.groups.get(&group).into_iter().flat_map(|members| members.iter()).filter_map(|m| match m {
                Member::Net(net) if family_of(net.addr()) == family => Some(net),
                _ => None,
            });
        let set = address_set(nets, family);
        let prefix = match set.elements {
            Elements::Ranges(_) => 'r',
            _ => 'g',
        };
        let name = group_name(prefix, family, group);
        output.add_set(&name, set);
        self.addresses.insert((group, family), name.clone());
        name
    }

    /// The set of (address, protocol, port) of a group.
    pub(super) fn ports(&mut self, group: GroupId, family: Family, output: &mut Rendered) -> Name {
        if let Some(name) = self.ports.get(&(group, family)) {
            return name.clone();
        }
        let members = self.groups.get(&group).into_iter().flat_map(|members| members.iter());
        let keys = members.filter_map(|m| match m {
            Member::Port(address, protocol, port) if family_of(address) == family => {
                key(&[&address_bytes(address), &[protocol], &port.to_be_bytes()])
            }
            _ => None,
        });
        let set = points(vec![address_part(family), KeyPart::Protocol, KeyPart::Port], keys);
        let name = group_name('p', family, group);
        output.add_set(&name, set);
        self.ports.insert((group, family), name.clone());
        name
    }

    /// The ways in which an address of one family satisfies a term.
    pub(super) fn term(
        &mut self,
        term: &AddressTerm,
        side: End,
        family: Family,
        output: &mut Rendered,
    ) -> Alternatives {
        let nets = term.nets.iter().copied().filter(|net| family_of(net.addr()) == family);
        let nets = nets_test(nets, side, family, term.negated, output);
        let mut tests = Vec::new();
        match (nets, term.negated) {
            (Nets::Everything, false) => return vec![vec![]],
            (Nets::Everything, true) => return vec![],
            (Nets::Nothing, _) => {}
            (Nets::Test(test), _) => tests.push(test),
        }
        for group in &term.groups {
            let set = self.addresses(*group, family, output);
            tests.push(vec![load_address(side, family, R0), lookup(&set, term.negated)]);
        }
        match term.negated {
            true => vec![tests.concat()],
            false => tests,
        }
    }
}

/// The sets that a group of pods may have in one family.
pub(super) fn of_group(family: Family, group: GroupId) -> [Name; 2] {
    ['g', 'p'].map(|prefix| group_name(prefix, family, group))
}

/// The low 96 bits of the group's id, which is a hash: with a million groups the chance of any two being equal is below
/// 10^-17, and the name leaves room for a generation within 31 bytes.
fn group_name(prefix: char, family: Family, group: GroupId) -> Name {
    format!("{prefix}{}-{:024x}", family_digit(family), group.0 & (u128::MAX >> 32)).into()
}

enum Nets {
    Nothing,
    Everything,
    Test(Vec<Expr>),
}

/// The address lies in one of the networks, or in none of them where negated.
fn nets_test(
    nets: impl Iterator<Item = IpNet>,
    side: End,
    family: Family,
    negated: bool,
    output: &mut Rendered,
) -> Nets {
    let nets: Vec<IpNet> = nets.collect();
    match nets.as_slice() {
        [] => Nets::Nothing,
        nets if nets.iter().any(|net| net.prefix_len() == 0) => Nets::Everything,
        [net] => {
            let op = if negated { CmpOp::Neq } else { CmpOp::Eq };
            Nets::Test(in_net(side, net.network(), net.prefix_len(), op))
        }
        nets => {
            let set = address_set(nets.iter().copied(), family);
            if covers_all(&set) {
                return Nets::Everything;
            }
            let content: String = nets.iter().map(|net| format!("{net}\n")).collect();
            let name: Name = format!("n{}-{}", family_digit(family), short_hash(content.as_bytes())).into();
            output.add_set(&name, set);
            Nets::Test(vec![load_address(side, family, R0), lookup(&name, negated)])
        }
    }
}

fn covers_all(set: &Set) -> bool {
    let Elements::Ranges(ranges) = &set.elements else { return false };
    ranges.iter().any(|Range { first, last }| {
        first.as_bytes().iter().all(|b| *b == 0) && last.as_bytes().iter().all(|b| *b == 0xff)
    })
}

/// A hash set where all are single addresses, else an interval set of merged ranges.
pub(super) fn address_set(nets: impl Iterator<Item = IpNet>, family: Family) -> Set {
    let nets: Vec<IpNet> = nets.collect();
    let part = vec![address_part(family)];
    if nets.iter().all(|net| net.prefix_len() == net.max_prefix_len()) {
        return points(part, nets.iter().filter_map(|net| key(&[&address_bytes(net.addr())])));
    }
    let ranges = nets.iter().map(|net| (number(net.network()), number(net.broadcast())));
    let ranges = merge(ranges.collect()).into_iter().filter_map(|(first, last)| {
        Some((
            key(&[&address_bytes(address(first, family))])?,
            key(&[&address_bytes(address(last, family))])?,
        ))
    });
    Set { key: part, elements: Elements::Ranges(ranges.collect()), size: None }
}

/// Sorted, disjoint, none adjacent to the next: the kernel refuses ranges that overlap.
pub(super) fn merge(ranges: BTreeSet<(u128, u128)>) -> Vec<(u128, u128)> {
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}
