//! A strict stand-in for the kernel: applies transactions to a table in memory and refuses what the kernel refuses,
//! and what the design forbids though the kernel takes it.

mod check;

use std::collections::BTreeSet;

use thiserror::Error;

pub use check::check;
use check::{referenced_chains, referenced_sets};

use crate::model::{Chain, Elements, Key, Name, Ruleset, Set, Shared};
use crate::transaction::{Op, SetKind, SetSpec, Transaction};

/// A table in memory; None while there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fake {
    /// What the table holds.
    pub table: Option<Ruleset>,
}

/// Why a transaction was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FakeError {
    /// There is no table.
    #[error("{op}: no table")]
    NoTable {
        /// The operation.
        op: String,
    },
    /// An operation was refused.
    #[error("{op}: {reason}")]
    Refused {
        /// The operation.
        op: String,
        /// Why.
        reason: Reason,
    },
    /// The table would not stand after the transaction.
    #[error("after the transaction: {0}")]
    Inconsistent(Reason),
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "each says by its message what it means")]
pub enum Reason {
    #[error("it exists already")]
    Exists,
    #[error("it does not exist")]
    Missing,
    #[error("it is in use")]
    Busy,
    #[error("element {0:?} exists already")]
    ElementExists(Key),
    #[error("element {0:?} does not exist")]
    ElementMissing(Key),
    #[error("elements of another kind than the set's")]
    ElementKind,
    #[error("element {0:?} points to chain {1}, which is born in the same transaction")]
    ChainBornHere(Key, Name),
    #[error("set {set} holds {elements} elements and has room for {size}")]
    SetFull { set: Name, elements: usize, size: u32 },
    #[error("set {0}: only interval sets have no size")]
    SizeMissing(Name),
    #[error("set {set}: key {key:?} has the wrong length or padding")]
    KeyShape { set: Name, key: Key },
    #[error("set {set}: ranges overlap, touch or are reversed at {key:?}")]
    Overlap { set: Name, key: Key },
    #[error("name {0:?} is empty, longer than 31 bytes or has other characters than letters, digits, - _ .")]
    Name(Name),
    #[error("{from}: chain {to} does not exist")]
    DanglingChain { from: Name, to: Name },
    #[error("{from}: chain {to} is a base chain")]
    JumpToBase { from: Name, to: Name },
    #[error("chain {chain}: set {set} does not exist")]
    DanglingSet { chain: Name, set: Name },
    #[error("chain {chain}, rule {rule}: {what}")]
    Rule { chain: Name, rule: String, what: String },
    #[error("chain {0} leads to itself")]
    Loop(Name),
    #[error("chains nest deeper than 15 below {0}")]
    TooDeep(Name),
}

impl Fake {
    /// Applies a transaction, wholly or not at all.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), FakeError> {
        let mut work =
            Work { table: self.table.clone(), born_chains: BTreeSet::new(), born_sets: BTreeSet::new() };
        for op in &transaction.ops {
            work.apply(op)?;
        }
        if let Some(table) = &work.table {
            check(table).map_err(FakeError::Inconsistent)?;
        }
        self.table = work.table;
        Ok(())
    }

    /// Applies all transactions of a plan, calling `after` with the table after each.
    pub fn run(
        &mut self,
        transactions: &[Transaction],
        mut after: impl FnMut(&Ruleset),
    ) -> Result<(), FakeError> {
        for transaction in transactions {
            self.apply(transaction)?;
            after(self.table.as_ref().unwrap_or(&Ruleset::default()));
        }
        Ok(())
    }
}

struct Work {
    table: Option<Ruleset>,
    born_chains: BTreeSet<Name>,
    born_sets: BTreeSet<Name>,
}

impl Work {
    fn apply(&mut self, op: &Op) -> Result<(), FakeError> {
        match (op, &self.table) {
            (Op::AddTable, None) => {
                self.table = Some(Ruleset::default());
                return Ok(());
            }
            (Op::AddTable, Some(_)) => return Ok(()),
            (Op::DeleteTable, Some(_)) => {
                self.table = None;
                return Ok(());
            }
            _ => {}
        }
        let (born_chains, born_sets) = (&mut self.born_chains, &mut self.born_sets);
        let Some(table) = &mut self.table else { return Err(FakeError::NoTable { op: op.to_string() }) };
        apply(table, op, born_chains, born_sets)
            .map_err(|reason| FakeError::Refused { op: op.to_string(), reason })
    }
}

fn apply(
    table: &mut Ruleset,
    op: &Op,
    born_chains: &mut BTreeSet<Name>,
    born_sets: &mut BTreeSet<Name>,
) -> Result<(), Reason> {
    match op {
        Op::AddTable | Op::DeleteTable => {}
        Op::AddChain { name, base } => {
            if table.chains.contains_key(name) {
                return Err(Reason::Exists);
            }
            table.chains.insert(name.clone(), Chain { base: *base, rules: Shared::default() });
            born_chains.insert(name.clone());
        }
        Op::FlushChain { name } => table.chains.get_mut(name).ok_or(Reason::Missing)?.rules.clear(),
        Op::DeleteChain { name } => {
            if referenced_chains(table).iter().any(|(_, to)| to == name) {
                return Err(Reason::Busy);
            }
            table.chains.remove(name).ok_or(Reason::Missing)?;
            born_chains.remove(name);
        }
        Op::AddRule { chain, rule } => {
            check::rule(table, chain, rule)?;
            table.chains.get_mut(chain).ok_or(Reason::Missing)?.rules.push(rule.clone());
        }
        Op::AddSet { name, spec } => {
            if table.sets.contains_key(name) {
                return Err(Reason::Exists);
            }
            table.sets.insert(name.clone(), empty(spec));
            born_sets.insert(name.clone());
        }
        Op::DeleteSet { name } => {
            if referenced_sets(table).iter().any(|(_, set)| set == name) {
                return Err(Reason::Busy);
            }
            table.sets.remove(name).ok_or(Reason::Missing)?;
            born_sets.remove(name);
        }
        Op::AddElements { set, elements } => {
            if let Elements::Verdicts(new) = elements {
                for (key, to) in
                    new.iter().filter_map(|(key, verdict)| Some((key, verdict.target()?.clone())))
                {
                    if !table.chains.contains_key(&to) {
                        return Err(Reason::DanglingChain { from: set.clone(), to });
                    }
                    if born_chains.contains(&to) && !born_sets.contains(set) {
                        return Err(Reason::ChainBornHere(*key, to));
                    }
                }
            }
            add(table.sets.get_mut(set).ok_or(Reason::Missing)?, elements)?;
        }
        Op::DeleteElements { set, elements } => {
            remove(table.sets.get_mut(set).ok_or(Reason::Missing)?, elements)?;
        }
    }
    Ok(())
}

fn empty(spec: &SetSpec) -> Set {
    let elements = match spec.kind {
        SetKind::Points => Elements::Points(Default::default()),
        SetKind::Ranges => Elements::Ranges(Default::default()),
        SetKind::Verdicts => Elements::Verdicts(Default::default()),
    };
    Set { key: spec.key.clone(), elements, size: spec.size }
}

/// Stricter than the kernel, which takes a point twice: a shadow that is exact never adds what is there.
fn add(set: &mut Set, elements: &Elements) -> Result<(), Reason> {
    match (&mut set.elements, elements) {
        (Elements::Points(old), Elements::Points(new)) => {
            new.iter().try_for_each(|key| old.insert(key).then_some(()).ok_or(Reason::ElementExists(key)))
        }
        (Elements::Ranges(old), Elements::Ranges(new)) => {
            new.iter().try_for_each(|range| match old.insert(range) {
                true => Ok(()),
                false => Err(Reason::ElementExists(range.first)),
            })
        }
        (Elements::Verdicts(old), Elements::Verdicts(new)) => {
            new.iter().try_for_each(|(key, verdict)| match old.insert(*key, verdict.clone()) {
                None => Ok(()),
                Some(_) => Err(Reason::ElementExists(*key)),
            })
        }
        _ => Err(Reason::ElementKind),
    }
}

fn remove(set: &mut Set, elements: &Elements) -> Result<(), Reason> {
    match (&mut set.elements, elements) {
        (Elements::Points(old), Elements::Points(gone)) => {
            gone.iter().try_for_each(|key| old.remove(&key).then_some(()).ok_or(Reason::ElementMissing(key)))
        }
        (Elements::Ranges(old), Elements::Ranges(gone)) => {
            gone.iter().try_for_each(|range| match old.remove(&range) {
                true => Ok(()),
                false => Err(Reason::ElementMissing(range.first)),
            })
        }
        (Elements::Verdicts(old), Elements::Verdicts(gone)) => {
            gone.keys().try_for_each(|key| old.remove(key).map(|_| ()).ok_or(Reason::ElementMissing(*key)))
        }
        _ => Err(Reason::ElementKind),
    }
}
