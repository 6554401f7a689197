use futures::stream;
use kube::api::ObjectMeta;
use selvage_crds::codec::encode_node_policy;
use serde_json::json;

use super::*;

type Event = watcher::Result<watcher::Event<DeserializeGuard<NodePolicy>>>;

fn object(name: &str, generation: i64, change: impl FnOnce(&mut NodePolicy)) -> DeserializeGuard<NodePolicy> {
    let policy = compiled::NodePolicy { node: "n1".into(), ..Default::default() };
    let spec = encode_node_policy(&policy, Default::default(), false).unwrap();
    let mut object = NodePolicy::new(name, spec);
    object.metadata = ObjectMeta {
        name: Some(name.to_owned()),
        uid: Some("u".to_owned()),
        generation: Some(generation),
        ..ObjectMeta::default()
    };
    change(&mut object);
    DeserializeGuard(Ok(object))
}

/// The view after the events, and how many of them were told.
async fn view_after(events: Vec<Event>) -> (PolicyView, usize) {
    let (view, mut seen) = watch::channel(PolicyView::default());
    let (mut counted, mut told) = (seen.clone(), 0);
    let mut count = || {
        told += usize::from(counted.has_changed().unwrap());
        counted.mark_unchanged();
    };
    run(stream::iter(events).inspect(|_| count()), "n1", &view, &Metrics::default()).await;
    count();
    let last = seen.borrow_and_update().clone();
    (last, told)
}

#[tokio::test]
async fn a_policy_is_decoded_once_a_generation() {
    let (view, told) = view_after(vec![
        Ok(watcher::Event::Init),
        Ok(watcher::Event::InitApply(object("n1", 1, |_| {}))),
        Ok(watcher::Event::InitDone),
        Ok(watcher::Event::Apply(object("n1", 1, |o| o.status = Some(NodePolicyStatus::default())))),
        Ok(watcher::Event::Apply(object("other", 9, |_| {}))),
    ])
    .await;
    assert!(view.listed && view.present);
    let observed = view.observed.unwrap();
    assert_eq!((observed.generation, observed.teardown), (1, false));
    assert_eq!(&*observed.policy.as_ref().unwrap().node, "n1");
    assert_eq!(told, 2, "our own status is no news");
}

#[tokio::test]
async fn a_generation_that_comes_again_with_other_content_is_another() {
    let later = |o: &mut NodePolicy| o.spec.teardown = true;
    let (view, _) = view_after(vec![
        Ok(watcher::Event::Apply(object("n1", 7, |_| {}))),
        Ok(watcher::Event::Init),
        Ok(watcher::Event::InitApply(object("n1", 7, later))),
        Ok(watcher::Event::InitDone),
    ])
    .await;
    assert_eq!((view.observed.unwrap().teardown, view.lists), (true, 1));
}

#[tokio::test]
async fn a_policy_that_disappears_stays_known() {
    for gone in [
        vec![Ok(watcher::Event::Delete(object("n1", 1, |_| {})))],
        vec![Ok(watcher::Event::Init), Ok(watcher::Event::InitDone)],
    ] {
        let mut events = vec![Ok(watcher::Event::Apply(object("n1", 1, |_| {})))];
        events.extend(gone);
        let (view, _) = view_after(events).await;
        assert!(!view.present);
        assert!(view.observed.is_some_and(|o| o.policy.is_ok()));
    }
}

#[tokio::test]
async fn a_failed_watch_or_a_list_that_broke_off_changes_nothing() {
    let (view, _) = view_after(vec![
        Ok(watcher::Event::Apply(object("n1", 1, |_| {}))),
        Err(watcher::Error::NoResourceVersion),
        Ok(watcher::Event::Init),
        Err(watcher::Error::NoResourceVersion),
    ])
    .await;
    assert!(view.present && !view.listed && view.observed.is_some());
}

#[tokio::test]
async fn what_cannot_be_used_says_why() {
    let refused = |event: Event| async {
        let (view, _) = view_after(vec![event]).await;
        view.observed.unwrap().policy.clone().unwrap_err()
    };
    let lost = refused(Ok(watcher::Event::Apply(object("n1", 2, |o| o.spec.digest = "0".repeat(32))))).await;
    assert_eq!(lost.reason, reason::UNREADABLE);
    assert!(lost.message.starts_with("spec.digest: "), "{}", lost.message);
    let newer = refused(Ok(watcher::Event::Apply(object("n1", 2, |o| o.spec.format = 99)))).await;
    assert_eq!(newer.reason, reason::UNKNOWN_FORMAT);
    let shape =
        json!({ "metadata": { "name": "n1", "uid": "u", "generation": 3 }, "spec": { "format": "one" } });
    let shapeless = refused(Ok(watcher::Event::Apply(serde_json::from_value(shape).unwrap()))).await;
    assert_eq!(shapeless.reason, reason::UNREADABLE);
    assert!(
        shapeless.message.contains("format") || shapeless.message.contains("u32"),
        "{}",
        shapeless.message
    );
}

#[tokio::test]
async fn teardown_is_seen_even_where_the_rest_is_of_a_newer_format() {
    let (view, _) = view_after(vec![Ok(watcher::Event::Apply(object("n1", 2, |o| {
        o.spec.format = 99;
        o.spec.teardown = true;
    })))])
    .await;
    assert!(view.observed.unwrap().teardown);
}
