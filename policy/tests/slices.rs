//! Groups cut into slices.

use std::collections::BTreeSet;

use proptest::prelude::*;
use selvage_policy::compiled::Member;
use selvage_policy::slices::{Epoch, SLICE_LIMIT, SliceChange, SlicedGroup};

fn member(number: u32) -> Member {
    Member::Net(std::net::IpAddr::from(number.to_be_bytes()).into())
}

fn members(numbers: std::ops::Range<u32>) -> Vec<Member> {
    numbers.map(member).collect()
}

fn slices(group: &SlicedGroup) -> Vec<BTreeSet<Member>> {
    (0..group.epoch().count).filter_map(|index| group.slice(index).cloned()).collect()
}

/// Every member is in one slice, no slice is too large.
fn check(group: &SlicedGroup, expected: &BTreeSet<Member>) {
    let slices = slices(group);
    assert_eq!(slices.len(), group.epoch().count as usize);
    assert!(slices.len().is_power_of_two());
    assert!(slices.iter().all(|slice| slice.len() <= SLICE_LIMIT));
    assert_eq!(slices.iter().map(BTreeSet::len).sum::<usize>(), expected.len());
    assert_eq!(slices.into_iter().flatten().collect::<BTreeSet<_>>(), *expected);
    assert!(group.slice(group.epoch().count).is_none());
}

#[test]
fn an_empty_group_is_one_empty_slice() {
    let group = SlicedGroup::new(1, []);
    assert_eq!(group.epoch(), Epoch { epoch: 1, count: 1 });
    check(&group, &BTreeSet::new());
}

#[test]
fn a_member_more_or_less_is_one_slice_written() {
    let mut group = SlicedGroup::new(1, members(0..1000));
    assert!(group.epoch().count >= 4);
    let change = group.change(&[member(5000)], &[]);
    assert_eq!((change.changed.len(), change.retired), (1, None));
    let change = group.change(&[], &[member(5000)]);
    assert_eq!((change.changed.len(), change.retired), (1, None));
    assert_eq!(group, SlicedGroup::new(1, members(0..1000)));
}

#[test]
fn what_is_known_already_is_not_written() {
    let mut group = SlicedGroup::new(1, members(0..1000));
    assert_eq!(group.change(&members(0..10), &members(2000..2010)), SliceChange::default());
    assert_eq!(group.replace(members(0..1000)), SliceChange::default());
}

#[test]
fn the_251st_member_doubles_the_count_in_a_new_epoch() {
    let mut group = SlicedGroup::new(7, members(0..250));
    assert_eq!(group.epoch(), Epoch { epoch: 7, count: 1 });
    let change = group.change(&[member(250)], &[]);
    assert_eq!(group.epoch(), Epoch { epoch: 8, count: 2 });
    assert_eq!(change.changed, [0, 1]);
    assert_eq!(change.retired, Some(Epoch { epoch: 7, count: 1 }));
    check(&group, &members(0..251).into_iter().collect());
}

#[test]
fn the_count_halves_only_when_a_quarter_would_do() {
    let mut group = SlicedGroup::new(1, members(0..251));
    let mut left = 251;
    while group.epoch().count == 2 {
        left -= 1;
        group.change(&[], &[member(left)]);
    }
    assert_eq!(left, 125);
    assert_eq!(group.epoch(), Epoch { epoch: 2, count: 1 });
    // Twice as many as made it halve still fit, so it does not flap.
    assert_eq!(group.change(&members(left..250), &[]).retired, None);
}

#[test]
fn four_slices_halve_when_one_would_do() {
    let mut group = SlicedGroup::new(1, members(0..800));
    assert_eq!(group.epoch().count, 4);
    assert_eq!(group.change(&[], &members(251..800)).retired, None);
    let change = group.change(&[], &[member(250)]);
    assert_eq!(change.retired, Some(Epoch { epoch: 1, count: 4 }));
    assert_eq!(group.epoch().count, 2);
}

#[test]
fn a_new_leader_takes_over_what_is_published() {
    let before = SlicedGroup::new(3, members(0..1000));
    let mut group = SlicedGroup::adopt(3, slices(&before));
    assert_eq!(group.replace(members(0..1000)), SliceChange::default());
    assert_eq!(group, before);
    // It writes just what is different.
    let mut group = SlicedGroup::adopt(3, slices(&before));
    let change = group.replace(members(1..1000));
    assert_eq!((change.changed.len(), change.retired), (1, None));
}

#[test]
fn a_new_leader_keeps_a_count_that_still_fits() {
    let mut before = SlicedGroup::new(1, members(0..800));
    before.change(&[], &members(300..800));
    assert_eq!(before.epoch(), Epoch { epoch: 1, count: 4 });
    let mut group = SlicedGroup::adopt(1, slices(&before));
    assert_eq!(group.replace(members(0..300)), SliceChange::default());
}

#[test]
fn odd_content_is_written_over() {
    let before = SlicedGroup::new(1, members(0..1000));
    let mut found = slices(&before);
    found[0].insert(member(5000));
    found[1].clear();
    let moved = found[2].pop_first().unwrap();
    found[3].insert(moved);
    let mut group = SlicedGroup::adopt(1, found);
    assert_eq!(group.replace(members(0..1000)).changed, [0, 1, 2, 3]);
    check(&group, &members(0..1000).into_iter().collect());
}

#[test]
fn a_count_that_is_no_power_of_two_is_cut_anew() {
    let mut group = SlicedGroup::adopt(4, vec![BTreeSet::new(); 3]);
    let change = group.replace(members(0..10));
    assert_eq!(change, SliceChange { changed: vec![0], retired: Some(Epoch { epoch: 4, count: 3 }) });
    assert_eq!(group.epoch(), Epoch { epoch: 5, count: 1 });
}

#[test]
fn where_a_member_lies_is_the_same_for_ever() {
    let group =
        SlicedGroup::new(1, members(0..600).into_iter().chain([Member::Port([10, 0, 0, 1].into(), 6, 80)]));
    assert_eq!(group.epoch().count, 4);
    let place = |member| (0..4).find(|index| group.slice(*index).unwrap().contains(&member)).unwrap();
    let places: Vec<_> = (0..8).map(|number| place(member(number))).collect();
    assert_eq!(places, [1, 0, 2, 2, 1, 0, 0, 0]);
    assert_eq!(place(Member::Port([10, 0, 0, 1].into(), 6, 80)), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_member_is_in_one_slice_after_any_changes(
        steps in prop::collection::vec((0u32..3000, 0u32..1500, any::<bool>()), 1..12)
    ) {
        let mut group = SlicedGroup::new(1, []);
        let mut expected = BTreeSet::new();
        for (start, length, add) in steps {
            let some = members(start..start + length);
            let before = (group.epoch(), slices(&group));
            let change = if add {
                expected.extend(some.iter().copied());
                group.change(&some, &[])
            } else {
                some.iter().for_each(|member| { expected.remove(member); });
                group.change(&[], &some)
            };
            check(&group, &expected);
            match change.retired {
                Some(epoch) => {
                    prop_assert_eq!(epoch, before.0);
                    prop_assert_eq!(group.epoch().epoch, epoch.epoch + 1);
                    prop_assert_ne!(group.epoch().count, epoch.count);
                    prop_assert_eq!(change.changed, (0..group.epoch().count).collect::<Vec<_>>());
                }
                None => {
                    prop_assert_eq!(group.epoch(), before.0);
                    let now = slices(&group);
                    let different = (0..now.len()).filter(|i| now[*i] != before.1[*i]);
                    prop_assert_eq!(change.changed, different.map(|i| i as u32).collect::<Vec<_>>());
                }
            }
        }
    }
}
