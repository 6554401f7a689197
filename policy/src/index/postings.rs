//! Endpoints by their own labels: which of all a selector matches, by the lists of those that have what it asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Endpoint;
use super::few::Few;
use super::labels::LabelSet;
use super::slab::{Id, Slab};
use crate::hash::HashMap;
use crate::model::given;
use crate::selector::{LabelSource, Selector};

/// Every endpoint under every label that it has.
#[derive(Debug, Default)]
pub(super) struct Postings(HashMap<Arc<str>, Label>);

/// Endpoints that have a label.
#[derive(Debug, Default)]
struct Label {
    all: Few<Id<Endpoint>, 4>,
    values: HashMap<Arc<str>, Few<Id<Endpoint>, 4>>,
}

/// Endpoints that a selector may match.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Candidates {
    /// Sorted. No endpoint that matches is missing.
    pub(super) ids: Vec<Id<Endpoint>>,
    /// All of them match.
    pub(super) exact: bool,
}

impl Postings {
    /// An endpoint's labels are others now.
    pub(super) fn refile(&mut self, id: Id<Endpoint>, old: &LabelSet, new: &LabelSet) {
        for (key, value) in old.without(new) {
            let Some(label) = self.0.get_mut(key) else { continue };
            label.all.remove(&id);
            if let Some(ids) = label.values.get_mut(value) {
                ids.remove(&id);
                if ids.is_empty() {
                    label.values.remove(value);
                }
            }
            if label.all.is_empty() {
                self.0.remove(key);
            }
        }
        for (key, value) in new.without(old) {
            let label = self.0.entry(key.clone()).or_default();
            label.all.insert(id);
            label.values.entry(value.clone()).or_default().insert(id);
        }
    }

    /// Distinct labels and values.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(|label| 1 + label.values.len()).sum()
    }

    /// How many candidates there will be at most.
    pub(super) fn bound(&self, all: usize, selector: &Selector) -> usize {
        match selector {
            Selector::Has(key) | Selector::In(key, _) | Selector::Text(key, ..) if given::is_given(key) => {
                all
            }
            Selector::Has(key) | Selector::Text(key, ..) => {
                self.0.get(key).map_or(0, |label| label.all.len())
            }
            Selector::In(key, values) => self.with_values(key, values).map(Few::len).sum(),
            Selector::And(parts) => parts.iter().map(|part| self.bound(all, part)).min().unwrap_or(all),
            Selector::Or(parts) => parts.iter().map(|part| self.bound(all, part)).sum::<usize>().min(all),
            Selector::Not(inner) if **inner == Selector::All => 0,
            Selector::All | Selector::NotIn(..) | Selector::Not(_) => all,
        }
    }

    /// Endpoints that a selector may match.
    pub(super) fn candidates(&self, all: &Slab<Endpoint>, selector: &Selector) -> Candidates {
        let everybody = |exact| Candidates { ids: all.iter().map(|(id, _)| id).collect(), exact };
        match selector {
            Selector::All => everybody(true),
            // Labels that are given are not filed.
            Selector::Has(key) | Selector::In(key, _) | Selector::Text(key, ..) if given::is_given(key) => {
                everybody(false)
            }
            Selector::Has(key) => union(self.0.get(key).map(|label| &label.all)),
            Selector::In(key, values) => union(self.with_values(key, values)),
            Selector::Text(key, ..) => {
                let values = self.0.get(key).into_iter().flat_map(|label| &label.values);
                union(values.filter(|(value, _)| selector.matches(&One(key, value))).map(|(_, ids)| ids))
            }
            Selector::NotIn(..) | Selector::Not(_) => {
                let mut found = everybody(true);
                self.narrow(all, &mut found, selector);
                found
            }
            Selector::And(parts) => self.conjunction(all, parts),
            Selector::Or(parts) => {
                let parts: Vec<_> = parts.iter().map(|part| self.candidates(all, part)).collect();
                let exact = parts.iter().all(|part| part.exact);
                Candidates { exact, ..union(parts.iter().map(|part| &part.ids)) }
            }
        }
    }

    /// Begins with the part that has the fewest candidates, and narrows those down.
    fn conjunction(&self, all: &Slab<Endpoint>, parts: &[Selector]) -> Candidates {
        let first = (0..).zip(parts).min_by_key(|(_, part)| self.bound(all.len(), part));
        let Some((place, first)) = first else { return self.candidates(all, &Selector::All) };
        let mut found = self.candidates(all, first);
        for (_, part) in (0usize..).zip(parts).filter(|(other, _)| *other != place) {
            self.narrow(all, &mut found, part);
        }
        found
    }

    /// Those of the candidates that a selector may match, unless to ask each costs less.
    fn narrow(&self, all: &Slab<Endpoint>, found: &mut Candidates, selector: &Selector) {
        let (inner, wanted) = match selector {
            Selector::NotIn(key, values) => (&Selector::In(key.clone(), values.clone()), false),
            Selector::Not(inner) => (&**inner, false),
            selector => (selector, true),
        };
        if self.bound(all.len(), inner) > found.ids.len().saturating_mul(4) {
            found.exact = false;
            return;
        }
        let Candidates { ids, exact } = self.candidates(all, inner);
        found.exact &= exact;
        if exact || wanted {
            let mut ids = ids.into_iter().peekable();
            found.ids.retain(|id| {
                while ids.next_if(|other| other < id).is_some() {}
                (ids.peek() == Some(id)) == wanted
            });
        }
    }

    fn with_values<'a>(
        &'a self,
        key: &str,
        values: &'a BTreeSet<Arc<str>>,
    ) -> impl Iterator<Item = &'a Few<Id<Endpoint>, 4>> {
        let label = self.0.get(key).into_iter();
        label.flat_map(|label| values.iter().filter_map(|value| label.values.get(value)))
    }
}

/// A label by itself.
struct One<'a>(&'a str, &'a str);

impl LabelSource for One<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        (key == self.0).then_some(self.1)
    }
}

fn union<'a, L>(lists: impl IntoIterator<Item = &'a L>) -> Candidates
where
    L: 'a,
    &'a L: IntoIterator<Item = &'a Id<Endpoint>>,
{
    let mut ids: Vec<Id<Endpoint>> = lists.into_iter().flatten().copied().collect();
    // Runs that are sorted already.
    ids.sort();
    ids.dedup();
    Candidates { ids, exact: true }
}
