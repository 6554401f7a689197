//! Streams of events become messages.

use std::sync::Mutex;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::Status;
use selvage_policy::model::Change;
use serde_json::json;

use super::*;

type Wire = <Namespace as Watched>::Wire;

fn namespace(name: &str) -> Wire {
    serde_json::from_value(json!({ "metadata": { "name": name, "resourceVersion": "7" } })).unwrap()
}

fn refused(code: u16) -> watcher::Error {
    watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
}

/// What the messages of these streams, one after the other, say: `+name` and `-name`, and `|` where a list is done.
async fn said(streams: Vec<Vec<watcher::Result<Event<Wire>>>>) -> String {
    let (sender, mut messages) = mpsc::channel(1);
    let (_relist, relisted) = watch::channel(0);
    let context = Context { namespace: "selvage-system".into() };
    let count = streams.iter().map(Vec::len).sum::<usize>();
    let streams = Mutex::new(streams.into_iter());
    let start = move || {
        let events = streams.lock().unwrap().next().unwrap_or_default();
        // One at a time, so that each is a message of its own; a watch that has no more to say waits.
        let waits = futures::stream::pending();
        futures::stream::iter(events)
            .then(|event| async {
                tokio::task::yield_now().await;
                event
            })
            .chain(waits)
    };
    let task = tokio::spawn(run::<Namespace, _>(start, context, relisted, sender));
    let mut said = String::new();
    let mut events = 0;
    while events < count {
        let message = messages.recv().await.unwrap();
        for update in message.updates {
            match update {
                Update::Change(Change::Namespace(name, Some(_))) => said += &format!("+{name}"),
                Update::Change(Change::Namespace(name, None)) => said += &format!("-{name}"),
                other => panic!("{other:?}"),
            }
        }
        said += if message.listed.is_some() { "|" } else { "" };
        events += 1;
    }
    task.abort();
    said
}

#[tokio::test]
async fn a_list_that_is_interrupted_loses_no_deletion() {
    let first = vec![
        Ok(Event::Init),
        Ok(Event::InitApply(namespace("a"))),
        Ok(Event::InitApply(namespace("b"))),
        Ok(Event::InitDone),
        Ok(Event::Apply(namespace("c"))),
        Ok(Event::Init),
        Ok(Event::InitApply(namespace("a"))),
        Err(watcher::Error::NoResourceVersion),
        Ok(Event::Init),
        Ok(Event::InitApply(namespace("b"))),
        Ok(Event::InitDone),
        Ok(Event::Delete(namespace("b"))),
    ];
    assert_eq!(said(vec![first]).await, "+a+b|+c+a+b-a-c|-b");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_broke_or_is_too_old_lists_anew() {
    let cut = || kube::Error::Service("cut".into());
    for why in [
        refused(410),
        refused(500),
        refused(503),
        watcher::Error::WatchStartFailed(cut()),
        watcher::Error::WatchFailed(cut()),
    ] {
        let first = vec![
            Ok(Event::Init),
            Ok(Event::InitApply(namespace("a"))),
            Ok(Event::InitDone),
            Err(refused(429)),
            Err(why),
        ];
        let second = vec![Ok(Event::Init), Ok(Event::InitApply(namespace("b"))), Ok(Event::InitDone)];
        assert_eq!(said(vec![first, second]).await, "+a|+b-a|");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_after_watches_that_break_at_once_are_ever_rarer_and_quick_after_one_that_lasted() {
    let mut pauses = Pauses::default();
    let mut next = || {
        pauses.opened();
        pauses.after_broken()
    };
    assert_eq!([next(), next(), next()].map(|pause| pause.as_millis()), [250, 500, 1000]);
    pauses.opened();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(pauses.after_broken().as_millis(), 250);
}
