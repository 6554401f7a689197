//! Any order of slices against a plain account of what a group is.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const G: GroupId = GroupId(7);

#[derive(Debug, Clone)]
enum Step {
    Slice { epoch: u32, index: u32, count: u32, members: BTreeSet<u8> },
    Gone { epoch: u32, index: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    let place = (1u32..4, 0u32..3);
    let members = proptest::collection::btree_set(0u8..8, 0..4);
    // Mostly two slices an epoch, so that epochs become complete.
    let count = prop_oneof![4 => Just(2u32), 1 => 1u32..4];
    prop_oneof![
        4 => (place.clone(), count, members).prop_filter_map("a place below the count", |((epoch, index), count, members)| {
            (index < count).then_some(Step::Slice { epoch, index, count, members })
        }),
        1 => place.prop_map(|(epoch, index)| Step::Gone { epoch, index }),
    ]
}

fn net(n: u8) -> Member {
    Member::Net(std::net::IpAddr::from([10, 0, 0, n]).into())
}

/// Slices as (count, members, gone).
type Part = (u32, BTreeSet<u8>, bool);

/// Slices by epoch and index, and what the group is; written as the rule is said.
#[derive(Default)]
struct Plain {
    epochs: BTreeMap<u32, BTreeMap<u32, Part>>,
    current: Option<(u32, BTreeSet<u8>)>,
}

impl Plain {
    fn whole(&self, epoch: u32, gone_counts: bool) -> Option<BTreeSet<u8>> {
        let parts = self.epochs.get(&epoch)?;
        let count = parts.get(&0)?.0;
        let all = (0..count).all(|i| parts.get(&i).is_some_and(|p| p.0 == count && (gone_counts || !p.2)));
        let alone = parts.range(count..).all(|(_, p)| p.2);
        (all && alone).then(|| parts.range(..count).flat_map(|(_, p)| p.1.clone()).collect())
    }

    fn settle(&mut self) {
        let current = self.current.as_ref().map(|(epoch, _)| *epoch);
        let broken = current.and_then(|epoch| self.epochs.get(&epoch)).is_none_or(|parts| {
            let count = parts.get(&0).map_or(u32::MAX, |p| p.0);
            parts.range(..count).any(|(_, p)| p.2)
        });
        let lowest = current.filter(|_| !broken).unwrap_or(0);
        let newest = self
            .epochs
            .keys()
            .rev()
            .filter(|e| **e >= lowest)
            .find_map(|e| Some((*e, self.whole(*e, false)?)));
        let frozen = || current.and_then(|epoch| Some((epoch, self.whole(epoch, true)?)));
        if let Some((epoch, members)) = newest.or_else(frozen) {
            self.epochs.retain(|other, parts| *other == epoch || parts.values().any(|p| !p.2));
            self.current = Some((epoch, members));
        }
    }
}

proptest! {
    #[test]
    fn it_is_what_a_plain_account_says(steps in proptest::collection::vec(step(), 0..60)) {
        let (mut assembler, mut plain) = (Assembler::default(), Plain::default());
        for step in steps {
            let before = assembler.group(G).cloned();
            let changed = match step {
                Step::Slice { epoch, index, count, members } => {
                    plain.epochs.entry(epoch).or_default().insert(index, (count, members.clone(), false));
                    let members = members.into_iter().map(net).collect();
                    let kind = GroupKind::Addresses;
                    assembler.apply(Slice { group: G, kind, epoch, index, count, members, owners: None }).unwrap()
                }
                Step::Gone { epoch, index } => {
                    if let Some(part) = plain.epochs.get_mut(&epoch).and_then(|parts| parts.get_mut(&index)) {
                        part.2 = true;
                    }
                    assembler.remove(Place { group: G, epoch, index })
                }
            };
            plain.settle();
            let wanted = plain.current.as_ref().map(|(_, members)| members.iter().map(|n| net(*n)).collect::<Vec<_>>());
            let seen = assembler.group(G).map(|group| group.members.iter().collect::<Vec<_>>());
            prop_assert_eq!(seen, wanted);
            prop_assert_eq!(changed, assembler.group(G) != before.as_ref());
        }
    }
}
