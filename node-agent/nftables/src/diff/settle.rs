//! Which standing sets are kept, and what the others are called.
//!
//! A set's size is a hard limit of the kernel and can't be changed, nor can its key or kind. The renderer asks for a
//! size that fits what is in it now; a standing set with room for that stays. One that is full, or far too large, is
//! replaced by the next generation under another name (`g4-1234.1`), and the rules that use it with it.

use std::collections::BTreeMap;

use crate::model::{Chain, Expr, Name, Ruleset, Set};
use crate::transaction::SetKind;

/// A standing set this many times larger than asked for is renewed, to give its memory back.
const OVERSIZE: u32 = 8;

/// The wanted ruleset with its sets named and sized as they will stand.
pub(super) fn settle(standing: &Ruleset, wanted: &Ruleset) -> Ruleset {
    let mut names: BTreeMap<&Name, Name> = BTreeMap::new();
    let mut sets = BTreeMap::new();
    let mut by_base: BTreeMap<&str, Vec<(&Name, &Set)>> = BTreeMap::new();
    for (name, set) in &standing.sets {
        by_base.entry(base(name)).or_default().push((name, set));
    }
    for (name, set) in &wanted.sets {
        let generations = by_base.get(base(name)).map_or(&[][..], Vec::as_slice);
        let (settled, size) = match generations.iter().rfind(|(_, old)| keeps(old, set)) {
            Some((old, kept)) => ((*old).clone(), kept.size),
            None => (free_name(base(name), standing), set.size),
        };
        if settled != *name {
            names.insert(name, settled.clone());
        }
        sets.insert(settled, Set { size, ..set.clone() });
    }
    let chains = wanted.chains.iter().map(|(name, chain)| (name.clone(), rename(chain, &names))).collect();
    Ruleset { chains, sets }
}

/// The name without its generation.
fn base(name: &str) -> &str {
    name.split_once('.').map_or(name, |(base, _)| base)
}

fn free_name(base: &str, standing: &Ruleset) -> Name {
    let generations = (1u32..).map(|n| format!("{base}.{n}"));
    let mut candidates = std::iter::once(base.to_owned()).chain(generations);
    candidates.find(|name| !standing.sets.contains_key(name.as_str())).unwrap_or_default().into()
}

fn keeps(old: &Set, wanted: &Set) -> bool {
    let room = match (old.size, wanted.size) {
        (None, None) => true,
        (Some(old), Some(size)) => {
            usize::try_from(old).is_ok_and(|room| room >= wanted.elements.len())
                && old <= size.saturating_mul(OVERSIZE)
        }
        _ => false,
    };
    room && old.key == wanted.key && SetKind::of(&old.elements) == SetKind::of(&wanted.elements)
}

fn rename(chain: &Chain, names: &BTreeMap<&Name, Name>) -> Chain {
    let mut chain = chain.clone();
    if names.is_empty() {
        return chain;
    }
    for expression in chain.rules.iter_mut().flat_map(|rule| &mut rule.expressions) {
        let (Expr::Lookup { set: name, .. } | Expr::VerdictMap { map: name, .. }) = expression else {
            continue;
        };
        if let Some(settled) = names.get(name) {
            *name = settled.clone();
        }
    }
    chain
}
