//! What the kernel is told: operations that take effect together or not at all.
//!
//! A plan is a `Vec<Transaction>`, committed in order. Splitting matters where the kernel is not as atomic as its
//! interface: a map element must never point to a chain born in the same transaction, because a packet in flight
//! can reach the chain before its rules are active there. So chains come in one transaction, and the elements and
//! jumps that lead to them in a later one.

use std::fmt;

use crate::model::{BaseChain, Elements, KeyPart, Name, Rule, Set};

/// Operations that the kernel applies in order, atomically.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transaction {
    /// The operations, in order.
    pub ops: Vec<Op>,
}

/// One operation on the table that the connection is for.
///
/// Replacing the content of a chain is [`Op::FlushChain`] followed by [`Op::AddRule`]s; replacing the verdict of a
/// map's key is [`Op::DeleteElements`] followed by [`Op::AddElements`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates the table with the ownership that the connection is set to. Where it is there already with the same
    /// ownership nothing changes; an orphan (its owner gone) is adopted; an unowned table is refused, so it must be
    /// deleted earlier in the same transaction.
    AddTable,
    /// Deletes the table with all it holds; refused where it is absent.
    DeleteTable,
    /// Creates an empty chain; where the same chain is there already nothing changes.
    AddChain {
        /// Its name.
        name: Name,
        /// Where packets enter, for a base chain.
        base: Option<BaseChain>,
    },
    /// Deletes all rules of a chain; refused where the chain is absent.
    FlushChain {
        /// Which chain.
        name: Name,
    },
    /// Deletes a chain with its rules; refused where it is absent or something still leads to it.
    DeleteChain {
        /// Which chain.
        name: Name,
    },
    /// Appends a rule to a chain.
    AddRule {
        /// Which chain.
        chain: Name,
        /// The rule.
        rule: Rule,
    },
    /// Creates an empty set or map; where the same set is there already nothing changes.
    AddSet {
        /// Its name.
        name: Name,
        /// What it holds and how.
        spec: SetSpec,
    },
    /// Deletes a set with its elements; refused where it is absent or a rule still uses it.
    DeleteSet {
        /// Which set.
        name: Name,
    },
    /// Adds elements. A point that is there already is fine; an overlapping range, or a key with another verdict, is
    /// refused.
    AddElements {
        /// Which set.
        set: Name,
        /// Elements of the set's own kind.
        elements: Elements,
    },
    /// Deletes elements, exactly as they were added; refused where one is absent.
    DeleteElements {
        /// Which set.
        set: Name,
        /// Elements of the set's own kind; the verdicts of a map's keys do not matter.
        elements: Elements,
    },
}

/// A set without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// The key's parts, as in [`Set::key`].
    pub key: Vec<KeyPart>,
    /// What sort of set.
    pub kind: SetKind,
    /// Room for elements, as in [`Set::size`].
    pub size: Option<u32>,
}

/// The sorts of sets, as [`Elements`] without the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetKind {
    /// A hash set.
    Points,
    /// An interval set.
    Ranges,
    /// A verdict map over a hash.
    Verdicts,
}

impl Transaction {
    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }
}

impl FromIterator<Op> for Transaction {
    fn from_iter<T: IntoIterator<Item = Op>>(ops: T) -> Self {
        Self { ops: ops.into_iter().collect() }
    }
}

impl SetSpec {
    /// The definition of a set.
    pub fn of(set: &Set) -> Self {
        Self { key: set.key.clone(), kind: SetKind::of(&set.elements), size: set.size }
    }
}

impl SetKind {
    /// The sort of set that holds such elements.
    pub fn of(elements: &Elements) -> Self {
        match elements {
            Elements::Points(_) => Self::Points,
            Elements::Ranges(_) => Self::Ranges,
            Elements::Verdicts(_) => Self::Verdicts,
        }
    }
}

/// Names the operation and its object, for errors and logs: `add rule "x" to chain to_pod`.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddTable => write!(f, "add the table"),
            Self::DeleteTable => write!(f, "delete the table"),
            Self::AddChain { name, .. } => write!(f, "add chain {name}"),
            Self::FlushChain { name } => write!(f, "flush chain {name}"),
            Self::DeleteChain { name } => write!(f, "delete chain {name}"),
            Self::AddRule { chain, rule } => write!(f, "add rule {:?} to chain {chain}", rule.id),
            Self::AddSet { name, .. } => write!(f, "add set {name}"),
            Self::DeleteSet { name } => write!(f, "delete set {name}"),
            Self::AddElements { set, elements } => write!(f, "add {} elements to set {set}", elements.len()),
            Self::DeleteElements { set, elements } => {
                write!(f, "delete {} elements from set {set}", elements.len())
            }
        }
    }
}

impl Elements {
    /// How many elements (a range is one).
    pub fn len(&self) -> usize {
        match self {
            Self::Points(points) => points.len(),
            Self::Ranges(ranges) => ranges.len(),
            Self::Verdicts(verdicts) => verdicts.len(),
        }
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
