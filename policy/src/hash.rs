//! Hash tables: seeded at random, so that whoever names objects can't choose names that collide, and several times as fast
//! on short keys as the standard library's.

use foldhash::fast::RandomState;

/// A map by hash.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set by hash.
pub(crate) type HashSet<T> = std::collections::HashSet<T, RandomState>;
