//! Which objects of a kind are known, so that a new list yields the deletions that were missed.

use std::collections::BTreeSet;

/// The keys of the objects of one kind.
///
/// A watch that breaks may list anew, and that list may break too and start again (`Init` twice before `InitDone`).
/// Objects known before the first of these lists are kept until one list is complete.
#[derive(Debug)]
pub struct Relist<K> {
    known: BTreeSet<K>,
    listing: BTreeSet<K>,
}

impl<K> Default for Relist<K> {
    fn default() -> Self {
        Self { known: BTreeSet::new(), listing: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Relist<K> {
    /// A list begins.
    pub fn init(&mut self) {
        self.listing.clear();
    }

    /// An object is part of the list.
    pub fn listed(&mut self, key: K) {
        self.listing.insert(key.clone());
        self.known.insert(key);
    }

    /// An object came or changed.
    pub fn applied(&mut self, key: K) {
        self.known.insert(key);
    }

    /// An object went.
    pub fn deleted(&mut self, key: &K) {
        self.known.remove(key);
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The list is complete: returns the objects that went without a word.
    pub fn done(&mut self) -> Vec<K> {
        let listing = std::mem::take(&mut self.listing);
        let gone = self.known.difference(&listing).cloned().collect();
        self.known = listing;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(relist: &mut Relist<&'static str>, keys: &[&'static str]) {
        relist.init();
        keys.iter().for_each(|key| relist.listed(key));
    }

    #[test]
    fn a_list_yields_what_went() {
        let mut relist = Relist::default();
        listed(&mut relist, &["a", "b"]);
        assert!(relist.done().is_empty());
        relist.applied("c");
        relist.deleted(&"a");
        listed(&mut relist, &["b", "d"]);
        assert_eq!(relist.done(), ["c"]);
        listed(&mut relist, &[]);
        assert_eq!(relist.done(), ["b", "d"]);
    }

    #[test]
    fn an_interrupted_list_loses_no_deletion() {
        let mut relist = Relist::default();
        listed(&mut relist, &["a", "b", "c"]);
        assert!(relist.done().is_empty());
        // The first list breaks after "n", which is gone before the second begins, as "a" is.
        listed(&mut relist, &["n"]);
        listed(&mut relist, &["b"]);
        assert_eq!(relist.done(), ["a", "c", "n"]);
    }
}
