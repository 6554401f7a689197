use futures::stream;
use selvage_crds::address_group::Slice;
use selvage_crds::codec::encode_slice;
use selvage_policy::compiled::{GroupKind, Member};
use serde_json::json;

use super::*;

type Event = watcher::Event<DeserializeGuard<AddressGroup>>;
const G: GroupId = GroupId(7);

fn slice(epoch: u32, index: u32, count: u32, address: &str) -> AddressGroup {
    let members = [Member::Net(address.parse().unwrap())].into();
    let slice = Slice { group: G, kind: GroupKind::Addresses, epoch, index, count, members, owners: None };
    AddressGroup::new(&slice.object_name(), encode_slice(&slice, Default::default()).unwrap())
}

fn good(object: AddressGroup) -> DeserializeGuard<AddressGroup> {
    DeserializeGuard(Ok(object))
}

struct Bench {
    reader: Reader,
    view: watch::Sender<GroupView>,
}

impl Bench {
    fn new() -> Self {
        Self { reader: Reader::default(), view: watch::channel(GroupView::default()).0 }
    }

    fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.reader.take(event);
            self.reader.show(&self.view);
        }
    }

    fn members(&self) -> Option<Vec<String>> {
        let view = self.view.borrow();
        Some(view.groups.get(&G)?.iter().map(|m| format!("{m:?}")).collect())
    }
}

#[test]
fn the_first_view_is_whole() {
    let mut bench = Bench::new();
    bench.take([Event::Init, Event::InitApply(good(slice(1, 0, 2, "10.0.0.1/32")))]);
    bench.take([Event::InitApply(good(slice(1, 1, 2, "10.0.0.2/32")))]);
    assert!(!bench.view.borrow().listed && bench.members().is_none());
    bench.take([Event::InitDone]);
    assert!(bench.view.borrow().listed);
    assert_eq!(bench.members(), Some(vec!["Net(10.0.0.1/32)".to_owned(), "Net(10.0.0.2/32)".to_owned()]));
}

#[test]
fn a_slice_that_cannot_be_used_keeps_what_it_said_and_is_named() {
    let mut bench = Bench::new();
    bench.take([Event::Init, Event::InitDone, Event::Apply(good(slice(1, 0, 1, "10.0.0.1/32")))]);
    let before = bench.members();
    let name = format!("{G}-1-0");
    let mut lost = slice(1, 0, 1, "10.0.0.2/32");
    lost.spec.digest = "0".repeat(32);
    let mut newer = slice(1, 0, 1, "10.0.0.2/32");
    newer.spec.format = 99;
    let mut renamed = slice(1, 0, 1, "10.0.0.2/32");
    renamed.metadata.name = Some(format!("{G}-1-1"));
    let shapeless: DeserializeGuard<AddressGroup> =
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": { "members": 3 } })).unwrap();
    for (object, place, error) in [
        (good(lost), &*name, "spec.digest"),
        (good(newer), &*name, "unknown format 99"),
        (good(renamed), &*format!("{G}-1-1"), "metadata.name: expected"),
        (shapeless, &*name, "Expected a sequence"),
    ] {
        bench.take([Event::Apply(object)]);
        let view = bench.view.borrow().clone();
        assert!(
            view.unreadable.get(place).is_some_and(|e| e.contains(error)),
            "{error}: {:?}",
            view.unreadable
        );
        assert_eq!(bench.members(), before, "{error}");
    }
    bench.take([Event::Apply(good(slice(1, 0, 1, "10.0.0.3/32")))]);
    assert_eq!(bench.members(), Some(vec!["Net(10.0.0.3/32)".to_owned()]));
    assert!(!bench.view.borrow().unreadable.contains_key(&name), "it is readable again");
}

#[test]
fn a_group_that_is_gone_is_forgotten_only_when_nothing_names_it() {
    let mut bench = Bench::new();
    let object = slice(1, 0, 1, "10.0.0.1/32");
    bench.take([Event::Init, Event::InitApply(good(object.clone())), Event::InitDone]);
    bench.take([Event::Delete(good(object))]);
    bench.reader.forget(&[G].into(), &bench.view);
    assert!(bench.members().is_some());
    bench.reader.forget(&BTreeSet::new(), &bench.view);
    assert!(bench.members().is_none());
}

#[test]
fn a_group_that_is_cut_anew_from_the_first_epoch_is_followed() {
    let mut bench = Bench::new();
    let old = slice(4, 0, 1, "10.0.0.1/32");
    bench.take([Event::Init, Event::InitApply(good(old.clone())), Event::InitDone]);
    bench.take([Event::Delete(good(old)), Event::Apply(good(slice(1, 0, 1, "10.0.0.2/32")))]);
    assert_eq!(bench.members(), Some(vec!["Net(10.0.0.2/32)".to_owned()]));
    bench.take([Event::Init, Event::InitApply(good(slice(1, 0, 1, "10.0.0.3/32"))), Event::InitDone]);
    assert_eq!(bench.members(), Some(vec!["Net(10.0.0.3/32)".to_owned()]));
    let before_the_delete = slice(1, 0, 1, "10.0.0.3/32");
    bench.take([Event::Apply(good(slice(6, 0, 1, "10.0.0.4/32"))), Event::Init]);
    bench.take([Event::InitApply(good(before_the_delete)), Event::InitDone]);
    assert_eq!(bench.members(), Some(vec!["Net(10.0.0.3/32)".to_owned()]), "told by a list");
}

#[test]
fn it_says_up_to_which_version_all_is_seen_and_which_groups_are_not_whole() {
    let mut bench = Bench::new();
    let at = |version: &str, slice: AddressGroup| {
        let mut slice = slice;
        slice.metadata.resource_version = Some(version.to_owned());
        good(slice)
    };
    let told = |bench: &Bench| {
        let view = bench.view.borrow();
        (view.seen, view.pending.iter().copied().collect::<Vec<_>>())
    };
    bench.take([Event::Init, Event::InitApply(at("7", slice(1, 0, 1, "10.0.0.1/32"))), Event::InitDone]);
    assert_eq!(told(&bench), (Some(7), vec![]));
    bench.take([Event::Apply(at("9", slice(2, 1, 2, "10.0.0.1/32")))]);
    assert_eq!(told(&bench), (Some(9), vec![G]), "half of a newer epoch");
    bench.take([Event::Apply(at("10", slice(2, 0, 2, "10.0.0.2/32")))]);
    assert_eq!(told(&bench), (Some(10), vec![]));
    let mut lost = slice(2, 0, 2, "10.0.0.3/32");
    lost.spec.digest = "0".repeat(32);
    bench.take([Event::Apply(at("11", lost))]);
    assert_eq!(told(&bench), (Some(11), vec![G]), "what can't be read");
    bench.take([Event::Init, Event::InitApply(at("3", slice(2, 0, 1, "10.0.0.3/32"))), Event::InitDone]);
    assert_eq!(told(&bench).0, Some(3), "the store was put back");
}

#[tokio::test]
async fn a_failed_watch_takes_nothing_away() {
    let bench = Bench::new();
    let (_in_use, named) = watch::channel(BTreeSet::new());
    let metrics = Metrics::default();
    let events = stream::iter([
        Ok(Event::Init),
        Ok(Event::InitApply(good(slice(1, 0, 1, "10.0.0.1/32")))),
        Ok(Event::InitDone),
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Init),
    ]);
    run(events, &bench.view, &named, &metrics).await;
    assert!(bench.members().is_some() && bench.view.borrow().listed);
    assert!(metrics.encode().unwrap().contains(r#"watch_errors_total{kind="AddressGroups"} 1"#));
}
