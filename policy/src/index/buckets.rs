//! Which selectors could match given labels, and which objects could match a given selector, without asking all.
//!
//! A selector is filed under conditions of which at least one must hold when it matches; an object under its labels.
//! Keys are hashes: two that collide give candidates in vain, and every candidate is asked anyway.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

use super::few::Few;
use super::labels::LabelSet;
use crate::hash::HashMap;
use crate::selector::Selector;

/// One condition on one label that a matching object fulfils.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    /// None in particular.
    Any,
    /// The label is there.
    Present(&'a str),
    /// The label has this value.
    Value(&'a str, &'a str),
}

/// Things filed under a place (a scope, or nothing) and a key.
#[derive(Debug)]
pub(crate) struct Buckets<T> {
    hasher: RandomState,
    filed: HashMap<u64, Few<T, 4>>,
}

/// The keys of a selector: an object that matches fulfils at least one. Without keys nothing matches.
pub(crate) fn keys(selector: &Selector) -> Vec<Key<'_>> {
    match selector {
        Selector::Has(key) | Selector::Text(key, ..) => vec![Key::Present(key)],
        Selector::In(key, values) => values.iter().map(|value| Key::Value(key, value)).collect(),
        Selector::And(parts) => parts.iter().map(keys).min_by_key(|keys| cost(keys)).unwrap_or_default(),
        Selector::Or(parts) => {
            let keys: Vec<_> = parts.iter().flat_map(keys).collect();
            if keys.contains(&Key::Any) { vec![Key::Any] } else { keys }
        }
        Selector::Not(inner) if **inner == Selector::All => Vec::new(),
        Selector::All | Selector::NotIn(..) | Selector::Not(_) => vec![Key::Any],
    }
}

/// How many objects a list of keys lets through, roughly: any label value is rarer than a label, that than nothing.
fn cost(keys: &[Key<'_>]) -> usize {
    keys.iter()
        .map(|key| match key {
            Key::Any => 1 << 20,
            Key::Present(_) => 1 << 10,
            Key::Value(..) => 1,
        })
        .sum()
}

/// The keys that an object with these labels fulfils.
pub(crate) fn fulfilled(labels: &LabelSet) -> impl Iterator<Item = Key<'_>> {
    let by_label = labels.iter().flat_map(|(key, value)| [Key::Present(key), Key::Value(key, value)]);
    std::iter::once(Key::Any).chain(by_label)
}

impl<T: Copy + Ord> Buckets<T> {
    pub(crate) fn insert(&mut self, place: impl Hash, key: Key<'_>, value: T) {
        let hash = self.hasher.hash_one((place, key));
        self.filed.entry(hash).or_default().insert(value);
    }

    pub(crate) fn remove(&mut self, place: impl Hash, key: Key<'_>, value: T) {
        let hash = self.hasher.hash_one((place, key));
        if let Some(values) = self.filed.get_mut(&hash) {
            values.remove(&value);
            if values.is_empty() {
                self.filed.remove(&hash);
            }
        }
    }

    pub(crate) fn get(&self, place: impl Hash, key: Key<'_>) -> impl Iterator<Item = T> {
        let hash = self.hasher.hash_one((place, key));
        self.filed.get(&hash).into_iter().flatten().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.filed.len()
    }
}

impl<T: Copy + Ord> Buckets<T> {
    /// Files an object under every value of its labels instead of those that it had.
    pub(crate) fn refile(&mut self, value: T, old: &LabelSet, new: &LabelSet) {
        for (key, text) in old.iter() {
            self.remove((), Key::Value(key, text), value);
        }
        for (key, text) in new.iter() {
            self.insert((), Key::Value(key, text), value);
        }
    }
}

impl<T: Copy + Ord> Buckets<T> {
    /// As [`Buckets::refile`], under the labels themselves too.
    pub(crate) fn refile_all(&mut self, value: T, old: &LabelSet, new: &LabelSet) {
        for key in fulfilled(old).filter(|key| *key != Key::Any) {
            self.remove((), key, value);
        }
        for key in fulfilled(new).filter(|key| *key != Key::Any) {
            self.insert((), key, value);
        }
    }
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self { hasher: RandomState::default(), filed: HashMap::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::{Chosen, Expression};

    #[rstest::rstest]
    #[case::value("a == 'x'", &[Key::Value("a", "x")])]
    #[case::values("a in {'x', 'y'}", &[Key::Value("a", "x"), Key::Value("a", "y")])]
    #[case::label("has(a)", &[Key::Present("a")])]
    #[case::part("a contains 'x'", &[Key::Present("a")])]
    #[case::start("a starts with 'x'", &[Key::Present("a")])]
    #[case::end("a ends with 'x'", &[Key::Present("a")])]
    #[case::not_a_part("!(a contains 'x')", &[Key::Any])]
    #[case::absent("!has(a)", &[Key::Any])]
    #[case::other_values("a not in {'x'}", &[Key::Any])]
    #[case::all("all()", &[Key::Any])]
    #[case::nothing("!all()", &[])]
    #[case::the_rarest_of_several("has(a) && b == 'x' && c contains 'y' && d != 'z'", &[Key::Value("b", "x")])]
    #[case::either("a == 'x' || b ends with 'y'", &[Key::Present("b"), Key::Value("a", "x")])]
    #[case::either_or_anything("a == 'x' || !(b ends with 'y')", &[Key::Any])]
    #[case::either_and_one("(a == 'x' || has(b)) && c == 'y'", &[Key::Value("c", "y")])]
    fn a_selector_is_filed_where_its_objects_look(#[case] text: &str, #[case] filed: &[Key<'_>]) {
        let selector = Expression::parse(text).unwrap().unwrap().lower(Chosen::PodsAndSets);
        let found = keys(&selector);
        assert_eq!(found.len(), filed.len(), "{found:?}");
        assert!(filed.iter().all(|key| found.contains(key)), "{found:?}");
    }
}
