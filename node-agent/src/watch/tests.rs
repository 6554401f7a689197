use std::cell::Cell;

use kube::core::Status;

use super::*;

type Event = watcher::Result<watcher::Event<u32>>;

fn refused(code: u16) -> watcher::Error {
    watcher::Error::WatchStartFailed(kube::Error::Api(Box::new(Status { code, ..Status::default() })))
}

/// What comes of watches that give these events and then nothing more.
async fn told(watches: Vec<Vec<Event>>, count: usize) -> Vec<String> {
    let (next, watches) = (Cell::new(0), Cell::new(watches.into_iter()));
    let start = || {
        next.set(next.get() + 1);
        let mut left = watches.take();
        let events = left.next().unwrap_or_default();
        watches.set(left);
        stream::iter(events).chain(stream::pending())
    };
    let text = |event: Event| match event {
        Ok(event) => format!("{event:?}"),
        Err(_) => "error".to_owned(),
    };
    events("n1", start).take(count).map(text).collect().await
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_broke_begins_again_with_a_list() {
    let cut = || kube::Error::Service("cut".into());
    for why in [
        refused(410),
        refused(503),
        watcher::Error::WatchStartFailed(cut()),
        watcher::Error::WatchFailed(cut()),
    ] {
        let first =
            vec![Ok(watcher::Event::Apply(1)), Err(refused(429)), Ok(watcher::Event::Apply(2)), Err(why)];
        let told = told(vec![first, vec![Ok(watcher::Event::Init)]], 5).await;
        assert_eq!(told, ["Apply(1)", "error", "Apply(2)", "error", "Init"]);
    }
}

#[tokio::test(start_paused = true)]
async fn watches_that_break_at_once_are_ever_rarer() {
    let start = Instant::now();
    let broken = || vec![Ok(watcher::Event::Init), Err(refused(503))];
    told((0..8).map(|_| broken()).collect(), 15).await;
    assert!(start.elapsed() > Duration::from_secs(20), "{:?}", start.elapsed());
}
