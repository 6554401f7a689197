//! Labels as the index keeps them: sorted pairs of shared strings.

use std::hash::Hash;
use std::sync::Arc;

use crate::compile::group::NAMESPACE_NAME;
use crate::hash::HashSet;
use crate::model::{Labels, given};
use crate::selector::LabelSource;

/// Strings that many objects hold, once each.
pub(crate) type Strings = Interned<str>;

/// Values that many objects hold, once each.
#[derive(Debug)]
pub(crate) struct Interned<T: ?Sized> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

/// The labels of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LabelSet(Box<[(Arc<str>, Arc<str>)]>);

/// Below this many values nothing is swept.
const SMALL: usize = 1024;

impl<T: ?Sized + Eq + Hash> Interned<T> {
    /// The shared copy of a value, which is made where there is none.
    pub(crate) fn get_or(&mut self, value: &T, make: impl FnOnce() -> Arc<T>) -> Arc<T> {
        if let Some(known) = self.known.get(value) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(SMALL) {
            self.known.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        let value = make();
        self.known.insert(value.clone());
        value
    }
}

impl<T: ?Sized> Default for Interned<T> {
    fn default() -> Self {
        Self { known: HashSet::default(), sweep_at: 0 }
    }
}

impl Strings {
    /// The shared copy of a string.
    pub(crate) fn intern(&mut self, text: &Arc<str>) -> Arc<str> {
        self.get_or(text, || text.clone())
    }

    pub(crate) fn labels(&mut self, labels: &Labels) -> LabelSet {
        LabelSet(labels.iter().map(|(key, value)| (self.intern(key), self.intern(value))).collect())
    }

    /// The labels of a namespace: those of its object, and always its name.
    pub(crate) fn namespace_labels(&mut self, name: &Arc<str>, labels: &Labels) -> LabelSet {
        let mut labels = labels.clone();
        labels.insert(NAMESPACE_NAME.into(), name.clone());
        labels.insert(given::NAME.into(), name.clone());
        self.labels(&labels)
    }
}

impl LabelSet {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Labels that the other does not have, or has with another value.
    pub(crate) fn without(&self, other: &Self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let same = |key: &str, value: &str| other.label(key) == Some(value);
        self.0.iter().filter(move |(key, value)| !same(key, value)).map(|(key, value)| (key, value))
    }

    /// Whether these are the same labels in the other shape.
    pub(crate) fn same(&self, labels: &Labels) -> bool {
        self.0.len() == labels.len() && self.iter().eq(labels.iter().map(|(key, value)| (&**key, &**value)))
    }
}

impl LabelSource for LabelSet {
    fn label(&self, key: &str) -> Option<&str> {
        let index = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(index).map(|(_, value)| &**value)
    }
}
