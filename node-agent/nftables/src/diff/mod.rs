//! From the ruleset that stands to the ruleset that is wanted, touching only what differs, element by element.
//!
//! A plan has two parts. The first makes what is new and nothing leads to yet: sets, chains, maps, in transactions of
//! bounded size. The last transaction switches: elements, the rules of chains that stand, base chains, and what is
//! no longer wanted goes. So at no moment does a packet meet anything but the old rules or the new ones, and no
//! element of a standing map points to a chain born in its own transaction.

mod settle;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Chain, Elements, Key, Name, Ruleset, Set};
use crate::transaction::{Op, SetSpec, Transaction};

/// Elements and rules in one preparing transaction: bounds the memory of building and committing it.
const PREPARE_WEIGHT: usize = 16_384;

/// Transactions to commit in order, and what stands after the last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What to commit, in order; empty where nothing differs. When one fails, what stands is unknown until read back.
    pub transactions: Vec<Transaction>,
    /// What the table holds once all are committed: the next shadow. It means what was wanted; set names and sizes
    /// may differ, because a set that still has room is kept.
    pub after: Ruleset,
}

/// The plan from a ruleset that stands, exactly as given, to the wanted one.
pub fn update(standing: &Ruleset, wanted: &Ruleset) -> Plan {
    let after = settle::settle(standing, wanted);
    let mut transactions = prepare(standing, &after);
    let switch = switch(standing, &after);
    if !switch.is_empty() {
        transactions.push(switch);
    }
    Plan { transactions, after }
}

/// The plan where no table stands: first `closed` (see [`crate::render::closed`]), then the wanted ruleset beside it.
pub fn cold_start(closed: &Ruleset, wanted: &Ruleset) -> Plan {
    let mut plan = update(closed, wanted);
    let first = std::iter::once(Op::AddTable).chain(create(closed)).collect();
    plan.transactions.insert(0, first);
    plan
}

/// The plan that replaces whatever table stands (an unowned one, or one whose content can't be understood) by the
/// wanted ruleset, in one transaction: the old rules judge until the new ones do.
pub fn replace(wanted: &Ruleset) -> Plan {
    let ops = [Op::DeleteTable, Op::AddTable].into_iter().chain(create(wanted));
    Plan { transactions: vec![ops.collect()], after: wanted.clone() }
}

/// The plan that removes the table.
pub fn remove() -> Plan {
    Plan { transactions: vec![Transaction { ops: vec![Op::DeleteTable] }], after: Ruleset::default() }
}

/// Everything of a ruleset, in an order in which each thing exists before it is referred to.
fn create(ruleset: &Ruleset) -> Vec<Op> {
    let mut ops = Vec::new();
    ops.extend(ruleset.chains.iter().map(|(name, chain)| add_chain(name, chain)));
    for (name, set) in &ruleset.sets {
        ops.push(add_set(name, set));
        if !set.elements.is_empty() {
            ops.push(Op::AddElements { set: name.clone(), elements: set.elements.clone() });
        }
    }
    ops.extend(ruleset.chains.iter().flat_map(|(name, chain)| add_rules(name, chain)));
    ops
}

/// What is new and led to by nothing that stands.
fn prepare(standing: &Ruleset, after: &Ruleset) -> Vec<Transaction> {
    let mut batches = Batches::default();
    let new_chains = || {
        let chains = after.chains.iter();
        chains.filter(|(name, chain)| chain.base.is_none() && !standing.chains.contains_key(*name))
    };
    let new_sets = |maps: bool| {
        let sets = after.sets.iter().filter(|(name, _)| !standing.sets.contains_key(*name));
        sets.filter(move |(_, set)| matches!(set.elements, Elements::Verdicts(_)) == maps)
    };
    for (name, set) in new_sets(false) {
        batches.add_set(name, set);
    }
    // All chains before any rule: rules lead from one to another.
    for (name, chain) in new_chains() {
        batches.push(add_chain(name, chain), 1);
    }
    for (name, chain) in new_chains() {
        for op in add_rules(name, chain) {
            batches.push(op, 1);
        }
    }
    batches.finish();
    for (name, set) in new_sets(true) {
        batches.add_set(name, set);
    }
    batches.finish();
    batches.done
}

/// All that changes or goes, in one transaction.
fn switch(standing: &Ruleset, after: &Ruleset) -> Transaction {
    let kept_sets: Vec<(&Name, &Set, &Set)> =
        after.sets.iter().filter_map(|(name, new)| Some((name, standing.sets.get(name)?, new))).collect();
    let mut ops = Vec::new();
    for (name, old, new) in &kept_sets {
        push_elements(&mut ops, Op::delete_elements, name, subtract(&old.elements, &new.elements));
    }
    let redone: Vec<(&Name, &Chain)> = after
        .chains
        .iter()
        .filter(|(name, chain)| match standing.chains.get(*name) {
            Some(old) => old != *chain,
            None => chain.base.is_some(),
        })
        .collect();
    let gone: BTreeSet<&Name> =
        standing.chains.keys().filter(|name| !after.chains.contains_key(*name)).collect();
    let other_base =
        |name: &Name, chain: &Chain| standing.chains.get(name).is_some_and(|old| old.base != chain.base);
    let redone_names =
        redone.iter().map(|(name, _)| *name).filter(|name| standing.chains.contains_key(*name));
    ops.extend(redone_names.chain(gone.iter().copied()).map(|name| Op::FlushChain { name: name.clone() }));
    ops.extend(
        standing
            .sets
            .keys()
            .filter(|name| !after.sets.contains_key(*name))
            .map(|name| Op::DeleteSet { name: name.clone() }),
    );
    // After the sets: the elements of a map hold the chains they lead to.
    let moved = redone.iter().filter(|(name, chain)| other_base(name, chain)).map(|(name, _)| *name);
    ops.extend(gone.iter().copied().chain(moved).map(|name| Op::DeleteChain { name: name.clone() }));
    for (name, chain) in &redone {
        if other_base(name, chain) || !standing.chains.contains_key(*name) {
            ops.push(add_chain(name, chain));
        }
    }
    for (name, old, new) in &kept_sets {
        push_elements(&mut ops, Op::add_elements, name, subtract(&new.elements, &old.elements));
    }
    ops.extend(redone.iter().flat_map(|(name, chain)| add_rules(name, chain)));
    Transaction { ops }
}

fn push_elements(ops: &mut Vec<Op>, op: fn(&Name, Elements) -> Op, set: &Name, elements: Elements) {
    if !elements.is_empty() {
        ops.push(op(set, elements));
    }
}

/// The elements of `a` that `b` has not just so.
fn subtract(a: &Elements, b: &Elements) -> Elements {
    fn map<V: Clone + PartialEq>(a: &BTreeMap<Key, V>, b: &BTreeMap<Key, V>) -> BTreeMap<Key, V> {
        a.iter().filter(|(k, v)| b.get(k) != Some(v)).map(|(k, v)| (*k, v.clone())).collect()
    }
    match (a, b) {
        (Elements::Points(a), Elements::Points(b)) => Elements::Points(a.minus(b)),
        (Elements::Ranges(a), Elements::Ranges(b)) => Elements::Ranges(a.minus(b)),
        (Elements::Verdicts(a), Elements::Verdicts(b)) => Elements::Verdicts(map(a, b)),
        (a, _) => a.clone(),
    }
}

fn add_chain(name: &Name, chain: &Chain) -> Op {
    Op::AddChain { name: name.clone(), base: chain.base }
}

fn add_rules<'a>(name: &'a Name, chain: &'a Chain) -> impl Iterator<Item = Op> + 'a {
    chain.rules.iter().map(move |rule| Op::AddRule { chain: name.clone(), rule: rule.clone() })
}

fn add_set(name: &Name, set: &Set) -> Op {
    Op::AddSet { name: name.clone(), spec: SetSpec::of(set) }
}

impl Op {
    fn add_elements(set: &Name, elements: Elements) -> Self {
        Self::AddElements { set: set.clone(), elements }
    }

    fn delete_elements(set: &Name, elements: Elements) -> Self {
        Self::DeleteElements { set: set.clone(), elements }
    }
}

/// Transactions filled up to a weight.
#[derive(Default)]
struct Batches {
    done: Vec<Transaction>,
    open: Transaction,
    weight: usize,
}

impl Batches {
    fn push(&mut self, op: Op, weight: usize) {
        if self.weight + weight > PREPARE_WEIGHT {
            self.finish();
        }
        self.weight += weight;
        self.open.ops.push(op);
    }

    fn add_set(&mut self, name: &Name, set: &Set) {
        self.push(add_set(name, set), 1);
        for part in pieces(&set.elements, PREPARE_WEIGHT / 2) {
            let weight = part.len();
            self.push(Op::add_elements(name, part), weight);
        }
    }

    fn finish(&mut self) {
        if !self.open.is_empty() {
            self.done.push(std::mem::take(&mut self.open));
        }
        self.weight = 0;
    }
}

/// The elements in parts of at most `size`.
fn pieces(elements: &Elements, size: usize) -> Vec<Elements> {
    fn split<T, C: FromIterator<T>>(items: impl Iterator<Item = T>, size: usize) -> Vec<C> {
        let mut items = items.peekable();
        let mut parts = Vec::new();
        while items.peek().is_some() {
            parts.push(items.by_ref().take(size).collect());
        }
        parts
    }
    match elements {
        Elements::Points(e) => e.pieces(size).into_iter().map(Elements::Points).collect(),
        Elements::Ranges(e) => e.pieces(size).into_iter().map(Elements::Ranges).collect(),
        Elements::Verdicts(e) => {
            split(e.iter().map(|(k, v)| (*k, v.clone())), size).into_iter().map(Elements::Verdicts).collect()
        }
    }
}
