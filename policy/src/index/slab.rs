//! Storage with small typed ids.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::num::NonZeroU32;

/// Values under ids that stay valid until the value is removed.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    entries: Vec<Option<T>>,
    free: Vec<u32>,
}

/// The place of a `T` in its [`Slab`]. Ids of removed values are given again.
pub(crate) struct Id<T> {
    /// The index and one, so that no id at all needs no more room.
    place: NonZeroU32,
    kind: PhantomData<fn() -> T>,
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> Id<T> {
        if let Some(index) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(index as usize)
        {
            *entry = Some(value);
            return Id::new(index);
        }
        self.entries.push(Some(value));
        // Memory ends long before four billion entries.
        Id::new(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
    }

    pub(crate) fn get(&self, id: Id<T>) -> Option<&T> {
        self.entries.get(id.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        self.entries.get_mut(id.index())?.as_mut()
    }

    pub(crate) fn remove(&mut self, id: Id<T>) -> Option<T> {
        let value = self.entries.get_mut(id.index())?.take()?;
        self.free.push(id.place.get() - 1);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        let numbered = (0..).zip(&self.entries);
        numbered.filter_map(|(index, entry)| Some((Id::new(index), entry.as_ref()?)))
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }
}

impl<T> Id<T> {
    fn new(index: u32) -> Self {
        Self { place: NonZeroU32::MIN.saturating_add(index), kind: PhantomData }
    }

    fn index(self) -> usize {
        self.place.get() as usize - 1
    }
}

// Written out, because derives would ask the same of T.
impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl<T> Eq for Id<T> {}

impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place.cmp(&other.place)
    }
}

impl<T> Hash for Id<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.place.hash(state);
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.index())
    }
}
