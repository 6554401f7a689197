//! Whether a table is sound: what the kernel checks when it loads one, and what it should check.

use std::collections::{BTreeMap, BTreeSet};

use super::Reason;
use crate::model::{
    CmpOp, CtKey, Elements, Expr, Key, KeyPart, MetaKey, Name, PayloadBase, Range, Reg, Rule, Ruleset, Set,
};

/// NFT_JUMP_STACK_SIZE counts the base chain too.
const MAX_DEPTH: usize = 15;
/// 16 registers of 32 bits.
const REGISTERS: usize = 16;

/// Everything about a table: names, sets, rules, where jumps lead, how deep and whether in circles.
pub fn check(table: &Ruleset) -> Result<(), Reason> {
    for name in table.chains.keys().chain(table.sets.keys()) {
        check_name(name)?;
    }
    for (name, set) in &table.sets {
        check_set(name, set)?;
    }
    for (name, chain) in &table.chains {
        chain.rules.iter().try_for_each(|r| rule(table, name, r))?;
    }
    for (from, to) in referenced_chains(table) {
        match table.chains.get(&to) {
            None => return Err(Reason::DanglingChain { from, to }),
            Some(chain) if chain.base.is_some() => return Err(Reason::JumpToBase { from, to }),
            Some(_) => {}
        }
    }
    check_depth(table)
}

/// (where from, which chain) for every jump and goto, by rules and by elements of maps.
pub(super) fn referenced_chains(table: &Ruleset) -> BTreeSet<(Name, Name)> {
    let rules = table.chains.iter().flat_map(|(name, chain)| {
        let expressions = chain.rules.iter().flat_map(|rule| &rule.expressions);
        expressions.filter_map(|e| match e {
            Expr::Verdict(verdict) => Some((name.clone(), verdict.target()?.clone())),
            _ => None,
        })
    });
    let elements = table.sets.iter().flat_map(|(name, set)| {
        let verdicts = match &set.elements {
            Elements::Verdicts(verdicts) => Some(verdicts.values()),
            _ => None,
        };
        verdicts.into_iter().flatten().filter_map(|v| Some((name.clone(), v.target()?.clone())))
    });
    rules.chain(elements).collect()
}

/// (chain, set) for every lookup of its rules.
pub(super) fn referenced_sets(table: &Ruleset) -> BTreeSet<(Name, Name)> {
    let all = table.chains.iter().flat_map(|(name, chain)| {
        chain.rules.iter().flat_map(|rule| &rule.expressions).filter_map(|e| match e {
            Expr::Lookup { set, .. } | Expr::VerdictMap { map: set, .. } => Some((name.clone(), set.clone())),
            _ => None,
        })
    });
    all.collect()
}

fn check_name(name: &Name) -> Result<(), Reason> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let starts = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if starts && name.len() <= 31 && name.bytes().all(good) {
        Ok(())
    } else {
        Err(Reason::Name(name.clone()))
    }
}

fn check_set(name: &Name, set: &Set) -> Result<(), Reason> {
    let interval = matches!(set.elements, Elements::Ranges(_));
    match set.size {
        Some(size) if usize::try_from(size).is_ok_and(|size| set.elements.len() > size) => {
            return Err(Reason::SetFull { set: name.clone(), elements: set.elements.len(), size });
        }
        None if !interval => return Err(Reason::SizeMissing(name.clone())),
        _ => {}
    }
    let shape = |key: &Key| {
        let good = key.as_bytes().len() == set.key_len() && padded(&set.key, key.as_bytes());
        if good { Ok(()) } else { Err(Reason::KeyShape { set: name.clone(), key: *key }) }
    };
    match &set.elements {
        Elements::Points(points) => points.iter().try_for_each(|key| shape(&key)),
        Elements::Verdicts(verdicts) => verdicts.keys().try_for_each(shape),
        Elements::Ranges(ranges) => {
            let mut end: Option<Key> = None;
            for Range { first, last } in ranges.iter() {
                shape(&first)?;
                shape(&last)?;
                let apart = end.is_none_or(|end| end < first && successor(&end) != Some(first));
                if first > last || !apart {
                    return Err(Reason::Overlap { set: name.clone(), key: first });
                }
                end = Some(last);
            }
            Ok(())
        }
    }
}

fn successor(key: &Key) -> Option<Key> {
    let mut bytes = key.as_bytes().to_vec();
    for byte in bytes.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Key::new(&bytes);
        }
    }
    None
}

fn padded(parts: &[KeyPart], bytes: &[u8]) -> bool {
    if parts.len() == 1 {
        return true;
    }
    let mut rest = bytes;
    parts.iter().all(|part| {
        let len = part.size();
        let Some((this, next)) = rest.split_at_checked(len.next_multiple_of(4)) else { return false };
        rest = next;
        this.iter().skip(len).all(|b| *b == 0)
    })
}

/// One rule of a chain: what it looks up exists and fits, no register is read before it is loaded, and the family is
/// known before the network header is looked at.
pub(super) fn rule(table: &Ruleset, chain: &Name, rule: &Rule) -> Result<(), Reason> {
    let wrong =
        |what: &str| Reason::Rule { chain: chain.clone(), rule: rule.id.to_string(), what: what.into() };
    if rule.id.len() > 64 {
        return Err(wrong("its id is longer than 64 bytes"));
    }
    let mut registers = [false; REGISTERS];
    let mut family = None;
    let mut transport = false;
    let mut ended = false;
    let mut previous: Option<&Expr> = None;
    for expression in &rule.expressions {
        if ended {
            return Err(wrong("expressions after a verdict"));
        }
        if let Some((reg, len)) = reads(table, expression) {
            let used = slice(&mut registers, reg, len).ok_or_else(|| wrong("a register out of range"))?;
            if used.iter().any(|loaded| !*loaded) {
                return Err(wrong("a register is read before it is loaded"));
            }
        }
        if let Some((reg, len)) = writes(expression) {
            slice(&mut registers, reg, len).ok_or_else(|| wrong("a register out of range"))?.fill(true);
        }
        match expression {
            Expr::Payload { base: PayloadBase::Network, offset, len, .. } => match family {
                None => return Err(wrong("the network header before the family is known")),
                Some(header) if offset + len > header => return Err(wrong("beyond the network header")),
                Some(_) => {}
            },
            Expr::Payload { base: PayloadBase::Transport, .. } if !transport => {
                return Err(wrong("the transport header before the protocol is looked at"));
            }
            Expr::Cmp { op: CmpOp::Eq, data, .. } => {
                family = family.or(previous.and_then(|loaded| header_length(loaded, data)));
            }
            Expr::Meta { key: MetaKey::L4Proto, .. } => transport = true,
            Expr::Lookup { set, .. } | Expr::VerdictMap { map: set, .. } => {
                let found = table.sets.get(set);
                let found =
                    found.ok_or_else(|| Reason::DanglingSet { chain: chain.clone(), set: set.clone() })?;
                let verdicts = matches!(found.elements, Elements::Verdicts(_));
                if verdicts != matches!(expression, Expr::VerdictMap { .. }) {
                    return Err(wrong("a set looked up as a map or a map as a set"));
                }
            }
            Expr::Verdict(verdict) => {
                ended = true;
                if let Some(to) = verdict.target()
                    && !table.chains.contains_key(to)
                {
                    return Err(Reason::DanglingChain { from: chain.clone(), to: to.clone() });
                }
            }
            Expr::Bitwise { mask, xor, .. } if mask.len() != xor.len() => {
                return Err(wrong("mask and xor differ in length"));
            }
            Expr::Range { from, to, .. } if from.len() != to.len() || from > to => {
                return Err(wrong("a range that is reversed or of two lengths"));
            }
            Expr::Log { prefix, .. } if prefix.len() > 127 => {
                return Err(wrong("a log prefix above 127 bytes"));
            }
            _ => {}
        }
        previous = Some(expression);
    }
    Ok(())
}

/// Bytes of the network header that a packet has where this value compares equal: the family of an `inet` table's
/// packet, or the type of a frame. An ARP packet between Ethernet and IPv4 has 28.
fn header_length(loaded: &Expr, value: &[u8]) -> Option<u32> {
    match (loaded, value) {
        (Expr::Meta { key: MetaKey::NfProto, .. }, [2]) => Some(20),
        (Expr::Meta { key: MetaKey::NfProto, .. }, [10]) => Some(40),
        (Expr::Payload { base: PayloadBase::LinkLayer, offset: 12, len: 2, .. }, kind) => match kind {
            [0x08, 0x00] => Some(20),
            [0x86, 0xdd] => Some(40),
            [0x08, 0x06] => Some(28),
            _ => None,
        },
        _ => None,
    }
}

fn slice(registers: &mut [bool; REGISTERS], reg: Reg, len: usize) -> Option<&mut [bool]> {
    let first = usize::from(reg.0);
    registers.get_mut(first..first + len.div_ceil(4))
}

fn reads(table: &Ruleset, expression: &Expr) -> Option<(Reg, usize)> {
    match expression {
        Expr::Bitwise { sreg, mask, .. } => Some((*sreg, mask.len())),
        Expr::Cmp { sreg, data, .. } => Some((*sreg, data.len())),
        Expr::Range { sreg, from, .. } => Some((*sreg, from.len())),
        Expr::Lookup { set, sreg, .. } | Expr::VerdictMap { map: set, sreg } => {
            Some((*sreg, table.sets.get(set).map_or(1, |set| set.key_len())))
        }
        _ => None,
    }
}

fn writes(expression: &Expr) -> Option<(Reg, usize)> {
    match expression {
        Expr::Meta { key, dreg } => Some((
            *dreg,
            match key {
                MetaKey::IifName | MetaKey::OifName | MetaKey::IifKind => 16,
                MetaKey::NfProto | MetaKey::L4Proto | MetaKey::PktType => 1,
            },
        )),
        Expr::Payload { len, dreg, .. } => Some((*dreg, usize::try_from(*len).unwrap_or(usize::MAX / 2))),
        Expr::Ct { key, dreg } => Some((
            *dreg,
            match key {
                CtKey::State | CtKey::Status => 4,
                CtKey::Direction => 1,
            },
        )),
        Expr::Fib { dreg, .. } => Some((*dreg, 4)),
        Expr::Bitwise { dreg, mask, .. } => Some((*dreg, mask.len())),
        _ => None,
    }
}

/// As `nft_chain_validate`: jumps and gotos both count.
fn check_depth(table: &Ruleset) -> Result<(), Reason> {
    let mut leads: BTreeMap<Name, BTreeSet<Name>> = BTreeMap::new();
    for (from, to) in referenced_chains(table).into_iter().filter(|(from, _)| table.chains.contains_key(from))
    {
        leads.entry(from).or_default().insert(to);
    }
    let through_maps: Vec<(Name, Name)> = referenced_sets(table)
        .into_iter()
        .flat_map(|(chain, set)| {
            let verdicts = match table.sets.get(&set).map(|set| &set.elements) {
                Some(Elements::Verdicts(verdicts)) => Some(verdicts.values()),
                _ => None,
            };
            verdicts.into_iter().flatten().filter_map(move |v| Some((chain.clone(), v.target()?.clone())))
        })
        .collect();
    for (from, to) in through_maps {
        leads.entry(from).or_default().insert(to);
    }
    let mut depths: BTreeMap<Name, usize> = BTreeMap::new();
    for name in table.chains.keys() {
        depth(name, &leads, &mut depths, &mut BTreeSet::new())?;
    }
    Ok(())
}

/// How many chains deep a chain leads, itself not counted.
fn depth(
    name: &Name,
    leads: &BTreeMap<Name, BTreeSet<Name>>,
    known: &mut BTreeMap<Name, usize>,
    path: &mut BTreeSet<Name>,
) -> Result<usize, Reason> {
    if let Some(depth) = known.get(name) {
        return Ok(*depth);
    }
    if !path.insert(name.clone()) {
        return Err(Reason::Loop(name.clone()));
    }
    let mut deepest = 0;
    for next in leads.get(name).into_iter().flatten() {
        deepest = deepest.max(1 + depth(next, leads, known, path)?);
    }
    path.remove(name);
    if deepest > MAX_DEPTH {
        return Err(Reason::TooDeep(name.clone()));
    }
    known.insert(name.clone(), deepest);
    Ok(deepest)
}
