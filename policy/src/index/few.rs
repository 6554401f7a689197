//! Sorted sets that mostly have few members: pods of a selector in a small namespace, nodes that need a group.
//!
//! A B-tree of one 4-byte id is an allocation of 64 bytes; with hundreds of thousands of sets these are what a large
//! cluster is made of.

use std::collections::BTreeSet;
use std::iter::Flatten;
use std::{array, fmt, slice};

/// A sorted set that holds up to `N` members in itself.
#[derive(Clone)]
pub(crate) enum Few<T, const N: usize> {
    /// Sorted, and nothing behind the first None.
    Few([Option<T>; N]),
    /// More than `N`, once.
    #[expect(
        clippy::box_collection,
        reason = "a set of few is what there are many of: 16 bytes less for each"
    )]
    Many(Box<BTreeSet<T>>),
}

/// The members of a [`Few`], in order.
pub(crate) enum Iter<'a, T> {
    Few(Flatten<slice::Iter<'a, Option<T>>>),
    Many(std::collections::btree_set::Iter<'a, T>),
}

/// How many of each there are, sorted; none is there without.
#[derive(Debug)]
pub(crate) struct Tally<T>(Vec<(T, u32)>);

impl<T: Copy + Ord, const N: usize> Few<T, N> {
    /// False where it was there.
    pub(crate) fn insert(&mut self, value: T) -> bool {
        match self {
            Self::Many(values) => values.insert(value),
            Self::Few(values) => {
                let place = values.iter().flatten().take_while(|known| **known < value).count();
                if values.get(place).is_some_and(|known| *known == Some(value)) {
                    return false;
                }
                if values.last().is_some_and(Option::is_some) {
                    let all = values.iter().flatten().copied().chain([value]).collect();
                    *self = Self::Many(Box::new(all));
                } else if let Some(rest) = values.get_mut(place..) {
                    rest.rotate_right(1);
                    if let Some(free) = rest.first_mut() {
                        *free = Some(value);
                    }
                }
                true
            }
        }
    }

    /// False where it was not there.
    pub(crate) fn remove(&mut self, value: &T) -> bool {
        match self {
            Self::Many(values) => {
                let known = values.remove(value);
                if values.is_empty() {
                    *self = Self::default();
                }
                known
            }
            Self::Few(values) => {
                let Some(place) = values.iter().position(|known| known.as_ref() == Some(value)) else {
                    return false;
                };
                if let Some(rest) = values.get_mut(place..) {
                    rest.rotate_left(1);
                    if let Some(free) = rest.last_mut() {
                        *free = None;
                    }
                }
                true
            }
        }
    }

    pub(crate) fn contains(&self, value: &T) -> bool {
        match self {
            Self::Few(values) => values.iter().flatten().any(|known| known == value),
            Self::Many(values) => values.contains(value),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Few(values) => values.iter().flatten().count(),
            Self::Many(values) => values.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(values) => values.iter().all(Option::is_none),
            Self::Many(values) => values.is_empty(),
        }
    }

    pub(crate) fn iter(&self) -> Iter<'_, T> {
        match self {
            Self::Few(values) => Iter::Few(values.iter().flatten()),
            Self::Many(values) => Iter::Many(values.iter()),
        }
    }
}

impl<T, const N: usize> Default for Few<T, N> {
    fn default() -> Self {
        Self::Few(array::from_fn(|_| None))
    }
}

impl<T: Copy + Ord, const N: usize> FromIterator<T> for Few<T, N> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut few = Self::default();
        few.extend(values);
        few
    }
}

impl<T: Copy + Ord, const N: usize> Extend<T> for Few<T, N> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        for value in values {
            self.insert(value);
        }
    }
}

impl<'a, T: Copy + Ord, const N: usize> IntoIterator for &'a Few<T, N> {
    type Item = &'a T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        match self {
            Self::Few(values) => values.next(),
            Self::Many(values) => values.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Few(values) => values.size_hint(),
            Self::Many(values) => values.size_hint(),
        }
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for Few<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Few(values) => f.debug_set().entries(values.iter().flatten()).finish(),
            Self::Many(values) => values.fmt(f),
        }
    }
}

impl<T: Copy + Ord> Tally<T> {
    /// One more.
    pub(crate) fn add(&mut self, value: T) {
        match self.0.binary_search_by_key(&value, |(known, _)| *known) {
            Ok(place) => {
                if let Some((_, count)) = self.0.get_mut(place) {
                    *count += 1;
                }
            }
            Err(place) => self.0.insert(place, (value, 1)),
        }
    }

    /// One less.
    pub(crate) fn remove(&mut self, value: T) {
        let Ok(place) = self.0.binary_search_by_key(&value, |(known, _)| *known) else { return };
        match self.0.get_mut(place) {
            Some((_, count)) if *count > 1 => *count -= 1,
            _ => {
                self.0.remove(place);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Those of which there is one or more.
    pub(crate) fn keys(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(value, _)| *value)
    }
}

impl<T> Default for Tally<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// It does what a B-tree does, whether the members lie in it or not.
        #[test]
        fn it_is_a_sorted_set(steps in proptest::collection::vec((any::<bool>(), 0u8..12), 0..80)) {
            let (mut few, mut set) = (Few::<u8, 4>::default(), BTreeSet::new());
            for (add, value) in steps {
                match add {
                    true => assert_eq!(few.insert(value), set.insert(value)),
                    false => assert_eq!(few.remove(&value), set.remove(&value)),
                }
                assert!(few.iter().eq(&set), "{few:?} {set:?}");
                assert_eq!((few.len(), few.is_empty()), (set.len(), set.is_empty()));
                assert!((0..12).all(|value| few.contains(&value) == set.contains(&value)));
            }
        }
    }

    #[test]
    fn a_tally_forgets_what_there_is_none_of() {
        let mut tally = Tally::default();
        for value in [3, 1, 3] {
            tally.add(value);
        }
        assert!(tally.keys().eq([1, 3]));
        tally.remove(3);
        assert!(tally.keys().eq([1, 3]));
        tally.remove(3);
        tally.remove(2);
        assert!(tally.keys().eq([1]));
    }
}
