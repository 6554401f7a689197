//! Labels as the index keeps them: sorted pairs of shared strings.

use std::collections::HashSet;
use std::sync::Arc;

use crate::compile::group::NAMESPACE_NAME;
use crate::model::{Labels, given};
use crate::selector::LabelSource;

/// Strings that many objects hold, once each.
#[derive(Debug, Default)]
pub(crate) struct Strings {
    known: HashSet<Arc<str>>,
    sweep_at: usize,
}

/// The labels of one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LabelSet(Box<[(Arc<str>, Arc<str>)]>);

/// Below this many strings nothing is swept.
const SMALL: usize = 1024;

impl Strings {
    /// The shared copy of a string.
    pub(crate) fn intern(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.sweep_at.max(SMALL) {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = self.known.len() * 2;
        }
        self.known.insert(text.clone());
        text.clone()
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
