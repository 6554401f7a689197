//! Which addresses change hands when slices change.

use selvage_crds::address_group::{Owner, Owners};

use super::*;

fn net(n: u8) -> Member {
    Member::Net(format!("10.0.0.{n}/32").parse().unwrap())
}

/// A slice of pods: (address, pod) of members, of former members, and the addresses of heirs.
fn slice(
    group: u128,
    epoch: u32,
    place: (u32, u32),
    members: &[(u8, u32)],
    former: &[(u8, u32)],
    heirs: &[u8],
) -> Slice {
    let owners = |pods: &[(u8, u32)]| pods.iter().map(|(n, owner)| (net(*n), Owner(*owner))).collect();
    Slice {
        group: GroupId(group),
        kind: GroupKind::Addresses,
        epoch,
        index: place.0,
        count: place.1,
        members: members.iter().map(|(n, _)| net(*n)).collect(),
        owners: Some(Owners {
            members: owners(members),
            former: owners(former),
            heirs: heirs.iter().map(|n| net(*n)).collect(),
        }),
    }
}

/// Applies a slice and says which addresses changed hands.
fn after(a: &mut Assembler, slice: Slice) -> Vec<u8> {
    a.apply(slice).unwrap();
    let last = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => panic!("IPv6"),
    };
    a.take_handed_over().into_iter().map(last).collect()
}

#[test]
fn what_is_first_heard_of_a_group_is_no_hand_over() {
    let mut a = Assembler::default();
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(1, 1), (2, 2)], &[(3, 3)], &[2])), [0; 0]);
}

#[test]
fn a_pod_that_ended_and_another_pod_are_hand_overs_and_a_label_is_none() {
    let mut a = Assembler::default();
    after(&mut a, slice(1, 1, (0, 1), &[(1, 1), (2, 2), (3, 3), (4, 4)], &[], &[]));
    let labels = slice(1, 1, (0, 1), &[(1, 1), (2, 2)], &[(3, 3), (4, 4)], &[]);
    assert_eq!(after(&mut a, labels.clone()), [0; 0]);
    assert_eq!(after(&mut a, labels), [0; 0]);
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(2, 9)], &[(3, 3)], &[])), [1, 2, 4]);
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(2, 9), (3, 3)], &[], &[])), [0; 0]);
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(2, 9)], &[(3, 8)], &[])), [3], "another pod's label");
}

#[test]
fn an_heir_that_joins_changes_hands_once() {
    let mut a = Assembler::default();
    after(&mut a, slice(1, 1, (0, 1), &[], &[], &[]));
    after(&mut a, slice(2, 1, (0, 1), &[], &[], &[]));
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(1, 1), (2, 2)], &[], &[2])), [2]);
    assert_eq!(after(&mut a, slice(2, 1, (0, 1), &[(1, 1), (2, 2)], &[], &[2])), [0; 0], "known by now");
}

#[test]
fn a_group_that_is_cut_anew_is_compared_as_a_whole() {
    let mut a = Assembler::default();
    after(&mut a, slice(1, 1, (0, 1), &[(1, 1), (2, 2), (3, 3)], &[], &[]));
    assert_eq!(after(&mut a, slice(1, 2, (1, 2), &[(3, 3)], &[], &[])), [0; 0]);
    assert_eq!(after(&mut a, slice(1, 2, (0, 2), &[(1, 1)], &[], &[])), [2]);
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[], &[], &[])), [0; 0], "a cut that is over");
    a.remove(Place { group: GroupId(1), epoch: 2, index: 0 });
    assert_eq!(a.take_handed_over(), [].into(), "what is gone says nothing");
}

#[test]
fn a_slice_without_owners_says_nothing() {
    let mut a = Assembler::default();
    after(&mut a, slice(1, 1, (0, 1), &[(1, 1)], &[], &[]));
    assert!(a.group(GroupId(1)).unwrap().pods.is_some());
    assert_eq!(after(&mut a, Slice { owners: None, ..slice(1, 1, (0, 1), &[], &[], &[]) }), [0; 0]);
    assert!(a.group(GroupId(1)).unwrap().pods.is_none());
    assert_eq!(after(&mut a, slice(1, 1, (0, 1), &[(1, 2)], &[], &[])), [0; 0]);
}
