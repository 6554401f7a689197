use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::Key;

fn key(number: u16, long: bool) -> Key {
    let mut bytes = number.to_be_bytes().to_vec();
    if long {
        bytes.extend([0, 1]);
    }
    Key::new(&bytes).unwrap()
}

/// In the order of the set: by length first.
fn sorted(keys: &BTreeSet<(usize, Key)>) -> Vec<Key> {
    keys.iter().map(|(_, key)| *key).collect()
}

proptest! {
    /// Against a plain set, over changes enough to split and join chunks.
    #[test]
    fn it_is_a_set(
        start in proptest::collection::vec((0u16..3000, any::<bool>()), 0..2500),
        changes in proptest::collection::vec((0u16..3000, any::<bool>(), any::<bool>()), 0..300),
        gone in proptest::option::of(0u16..3000),
    ) {
        let start: Vec<Key> = start.into_iter().map(|(n, long)| key(n, long)).collect();
        let mut set: Sorted<Key> = start.iter().copied().collect();
        let mut plain: BTreeSet<(usize, Key)> = start.iter().map(|k| (k.as_bytes().len(), *k)).collect();
        let (first, first_plain) = (set.clone(), plain.clone());
        for (number, long, add) in changes {
            let key = key(number, long);
            let entry = (key.as_bytes().len(), key);
            prop_assert_eq!(set.contains(&key), plain.contains(&entry));
            match add {
                true => prop_assert_eq!(set.insert(key), plain.insert(entry)),
                false => prop_assert_eq!(set.remove(&key), plain.remove(&entry)),
            }
        }
        // A whole stretch goes, so that chunks join.
        if let Some(from) = gone {
            for number in from..from.saturating_add(1500) {
                prop_assert_eq!(set.remove(&key(number, false)), plain.remove(&(2, key(number, false))));
            }
        }
        prop_assert_eq!(set.len(), plain.len());
        prop_assert_eq!(set.iter().collect::<Vec<_>>(), sorted(&plain));
        prop_assert_eq!(first.iter().collect::<Vec<_>>(), sorted(&first_plain), "a copy is left alone");
        prop_assert_eq!(&set.iter().collect::<Sorted<Key>>(), &set, "however it came about");
        let minus = |a: &BTreeSet<_>, b: &BTreeSet<_>| sorted(&a.difference(b).copied().collect());
        prop_assert_eq!(set.minus(&first).iter().collect::<Vec<_>>(), minus(&plain, &first_plain));
        prop_assert_eq!(first.minus(&set).iter().collect::<Vec<_>>(), minus(&first_plain, &plain));
        let pieces = set.pieces(700);
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty() && piece.len() <= 700));
        let whole: Vec<Key> = pieces.iter().flat_map(|piece| piece.iter().collect::<Vec<_>>()).collect();
        prop_assert_eq!(whole, sorted(&plain));
        for probe in [0, 1, 1499, 2999] {
            let probe = (2, key(probe, false));
            let floor = plain.range(..=probe).next_back().map(|(_, key)| *key);
            prop_assert_eq!(set.floor(&probe.1), floor);
        }
    }
}

#[test]
fn a_record_without_bytes_counts() {
    let empty = Key::new(&[]).unwrap();
    let mut set: Sorted<Key> = [empty, key(1, false)].into();
    assert_eq!(set.iter().collect::<Vec<_>>(), [empty, key(1, false)]);
    assert!(set.remove(&empty) && !set.contains(&empty) && set.insert(empty) && !set.insert(empty));
    assert_eq!(set.len(), 2);
}
