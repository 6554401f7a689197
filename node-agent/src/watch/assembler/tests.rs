use super::*;

const G: GroupId = GroupId(7);

fn place(epoch: u32, index: u32) -> Place {
    Place { group: G, epoch, index }
}

fn net(n: u8) -> Member {
    Member::Net(format!("10.0.0.{n}/32").parse().unwrap())
}

fn slice(epoch: u32, index: u32, count: u32, members: &[u8]) -> Slice {
    let members = members.iter().map(|n| net(*n)).collect();
    Slice { group: G, kind: GroupKind::Addresses, epoch, index, count, members, owners: None }
}

fn members(assembler: &Assembler) -> Option<Vec<Member>> {
    assembler.group(G).map(|group| group.members.iter().collect())
}

fn of(numbers: &[u8]) -> Option<Vec<Member>> {
    Some(numbers.iter().map(|n| net(*n)).collect())
}

#[test]
fn a_group_is_known_when_its_last_slice_comes() {
    let mut a = Assembler::default();
    assert_eq!(a.apply(slice(1, 1, 2, &[3])), Ok(false));
    assert_eq!(members(&a), None);
    assert_eq!(a.apply(slice(1, 0, 2, &[1, 2])), Ok(true));
    assert_eq!(members(&a), of(&[1, 2, 3]));
    assert_eq!(a.apply(slice(1, 0, 2, &[2, 1, 1])), Ok(false), "the same members in another order");
    assert_eq!(a.apply(slice(1, 0, 2, &[2])), Ok(true));
    assert_eq!(members(&a), of(&[2, 3]));
}

#[test]
fn an_empty_group_is_known() {
    let mut a = Assembler::default();
    assert_eq!(a.apply(slice(1, 0, 1, &[])), Ok(true));
    assert_eq!(members(&a), of(&[]));
}

#[test]
fn a_newer_epoch_counts_once_it_is_complete_and_late_slices_of_the_old_do_not() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    assert_eq!(a.apply(slice(2, 0, 2, &[5])), Ok(false));
    assert_eq!(a.apply(slice(1, 0, 1, &[1, 2])), Ok(true), "the old one still changes");
    assert_eq!(a.apply(slice(2, 1, 2, &[6])), Ok(true));
    assert_eq!(members(&a), of(&[5, 6]));
    assert_eq!(a.apply(slice(1, 0, 1, &[9])), Ok(false));
    a.remove(place(1, 0));
    assert_eq!(members(&a), of(&[5, 6]));
}

#[test]
fn the_newest_complete_epoch_wins_over_a_newer_incomplete_one() {
    let mut a = Assembler::default();
    a.apply(slice(3, 0, 4, &[30])).unwrap();
    a.apply(slice(2, 0, 1, &[20])).unwrap();
    a.apply(slice(1, 0, 1, &[10])).unwrap();
    assert_eq!(members(&a), of(&[20]));
}

#[test]
fn a_slice_that_disappears_freezes_what_it_said() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 2, &[1])).unwrap();
    a.apply(slice(1, 1, 2, &[2])).unwrap();
    a.remove(place(1, 1));
    assert_eq!(members(&a), of(&[1, 2]));
    assert_eq!(a.apply(slice(1, 0, 2, &[7])), Ok(true), "the others still change");
    assert_eq!(members(&a), of(&[2, 7]));
    assert_eq!(a.apply(slice(1, 1, 2, &[8])), Ok(true), "and it can come back");
    assert_eq!(members(&a), of(&[7, 8]));
}

#[test]
fn epochs_that_begin_again_count_once_the_current_one_is_broken() {
    let mut a = Assembler::default();
    a.apply(slice(5, 0, 2, &[1])).unwrap();
    a.apply(slice(5, 1, 2, &[2])).unwrap();
    assert!(!a.remove(place(5, 0)));
    assert_eq!(members(&a), of(&[1, 2]), "nothing complete is there");
    assert_eq!(a.apply(slice(1, 0, 2, &[7])), Ok(false));
    assert_eq!(members(&a), of(&[1, 2]), "nothing complete is there yet");
    assert_eq!(a.apply(slice(1, 1, 2, &[8])), Ok(true));
    assert_eq!(members(&a), of(&[7, 8]));
    assert_eq!(a.apply(slice(1, 1, 2, &[9])), Ok(true));
    assert!(!a.remove(place(5, 1)), "the last of the old ones says nothing any more");
    assert_eq!(members(&a), of(&[7, 9]));
}

#[test]
fn new_slices_may_come_before_the_old_ones_go() {
    let mut a = Assembler::default();
    a.apply(slice(5, 0, 1, &[1])).unwrap();
    assert_eq!(a.apply(slice(1, 0, 1, &[7])), Ok(false));
    assert_eq!(members(&a), of(&[1]));
    assert!(a.remove(place(5, 0)));
    assert_eq!(members(&a), of(&[7]));
}

#[test]
fn an_older_state_that_a_list_tells_is_taken() {
    let mut a = Assembler::default();
    a.apply(slice(5, 0, 1, &[1])).unwrap();
    a.begin_list();
    assert_eq!(a.apply(slice(3, 0, 1, &[7])), Ok(false), "the list may still name the newer one");
    assert_eq!(a.end_list(), [G].into());
    assert_eq!(members(&a), of(&[7]));
}

#[test]
fn slices_that_disagree_are_no_reason_to_go_back() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    a.apply(slice(2, 0, 1, &[2])).unwrap();
    assert_eq!(a.apply(slice(2, 0, 2, &[3])), Ok(false));
    assert_eq!(members(&a), of(&[2]));
}

#[test]
fn an_epoch_whose_slice_went_before_it_was_complete_is_not_complete() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 2, &[1])).unwrap();
    a.remove(place(1, 0));
    assert_eq!(a.apply(slice(1, 1, 2, &[2])), Ok(false));
    assert_eq!(members(&a), None);
}

#[test]
fn what_a_list_does_not_name_is_gone_also_after_a_list_that_broke_off() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    a.apply(slice(2, 0, 2, &[2])).unwrap();
    a.begin_list();
    a.apply(slice(2, 0, 2, &[2])).unwrap();
    a.begin_list();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    a.end_list();
    assert_eq!(a.apply(slice(2, 1, 2, &[3])), Ok(false), "slice 0 of epoch 2 is gone");
    assert_eq!(members(&a), of(&[1]));
}

#[test]
fn an_unreadable_slice_in_a_list_is_not_gone() {
    let mut a = Assembler::default();
    a.apply(slice(2, 0, 2, &[2])).unwrap();
    a.begin_list();
    a.listed(place(2, 0));
    a.end_list();
    assert_eq!(a.apply(slice(2, 1, 2, &[3])), Ok(true));
}

#[test]
fn slices_that_disagree_change_nothing_until_they_agree() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    assert_eq!(a.apply(slice(1, 0, 2, &[4])), Ok(false), "two slices now, and the other is not there");
    assert_eq!(members(&a), of(&[1]));
    assert_eq!(a.apply(slice(1, 1, 3, &[5])), Ok(false), "another count");
    assert_eq!(a.apply(slice(1, 1, 2, &[5])), Ok(true));
    assert_eq!(members(&a), of(&[4, 5]));
    assert_eq!(a.apply(slice(1, 2, 2, &[6])), Err(SliceError::Place { index: 2, count: 2 }));
    let port = Slice {
        kind: GroupKind::Addresses,
        members: [Member::Port("10.0.0.1".parse().unwrap(), 6, 80)].into(),
        ..slice(1, 0, 2, &[])
    };
    assert!(matches!(a.apply(port), Err(SliceError::Kind(..))));
    assert_eq!(members(&a), of(&[4, 5]));
}

#[test]
fn the_same_slice_twice_is_one() {
    let mut a = Assembler::default();
    assert_eq!(a.apply(slice(1, 0, 1, &[1])), Ok(true));
    assert_eq!(a.apply(slice(1, 0, 1, &[1])), Ok(false));
}

#[test]
fn a_group_is_forgotten_once_it_is_neither_named_nor_there() {
    let mut a = Assembler::default();
    a.apply(slice(1, 0, 1, &[1])).unwrap();
    a.forget_unless(|_| false);
    assert_eq!(members(&a), of(&[1]), "its slice is there");
    a.remove(place(1, 0));
    a.forget_unless(|_| true);
    assert_eq!(members(&a), of(&[1]), "it is named");
    a.forget_unless(|_| false);
    assert_eq!(members(&a), None);
}

#[test]
fn names_are_read_exactly() {
    let name = "0000000000000000000000000000000a-3-12";
    assert_eq!(Place::parse(name), Some(Place { group: GroupId(10), epoch: 3, index: 12 }));
    for bad in [
        "",
        "a-1-1",
        "0000000000000000000000000000000a-3",
        "0000000000000000000000000000000a-03-1",
        "0000000000000000000000000000000a-3-12-1",
        "0000000000000000000000000000000A-3-12",
        "0000000000000000000000000000000a-+3-12",
        "0000000000000000000000000000000a-3-4294967296",
    ] {
        assert_eq!(Place::parse(bad), None, "{bad}");
    }
}
