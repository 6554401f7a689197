//! Selectors over labels, as a syntax tree in canonical form.

use std::collections::BTreeSet;
use std::sync::Arc;

/// A condition on labels. Equal meaning has one form as far as [`Selector::all_of`] can tell, so that two spellings
/// share one address group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// Every object.
    All,
    /// The label is there.
    Has(Arc<str>),
    /// The label is there with one of these values.
    In(Arc<str>, BTreeSet<Arc<str>>),
    /// The label is absent, or has none of these values.
    NotIn(Arc<str>, BTreeSet<Arc<str>>),
    /// The condition does not hold.
    Not(Box<Selector>),
    /// All hold; sorted, without duplicates, at least two.
    And(Vec<Selector>),
    /// One holds; sorted, without duplicates, at least two.
    Or(Vec<Selector>),
}
