//! What the API server says: this node's NodePolicy, and the address groups of the node's bucket.
//!
//! Each of two watches keeps a view current for whoever enforces. A view is always what was last understood: an
//! object that disappears, or can't be read any more, takes nothing out of it.

pub mod assembler;
pub mod groups;
pub mod owned;
pub mod policy;

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher;
use tokio::time::Instant;

/// How long one watch request lasts at most, in seconds. A connection that died silently is noticed five seconds
/// after that at the latest.
const WATCH_SECONDS: u32 = 120;
/// A watch that lasted for so long is no part of the trouble before it.
const LASTED: Duration = Duration::from_secs(30);

/// The settings that both watches share. Lists are always most recent (the default): an older answer could undo a
/// policy.
fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// The events of watches made by `start`, one after the other. One that must not go on from where it was is followed by
/// another, which begins with a list.
fn events<K, S>(node: &str, start: impl Fn() -> S) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
where
    S: Stream<Item = watcher::Result<watcher::Event<K>>>,
{
    struct Watch<S> {
        events: Pin<Box<S>>,
        opened: Instant,
    }
    let retry = Retry::new(node);
    stream::unfold((None::<Watch<S>>, retry, start), |(watch, mut retry, start)| async move {
        let mut watch = watch.unwrap_or_else(|| Watch { events: Box::pin(start()), opened: Instant::now() });
        let event = watch.events.next().await?;
        if !broken(&event) {
            return Some((event, (Some(watch), retry, start)));
        }
        if watch.opened.elapsed() >= LASTED {
            retry.reset();
        }
        tokio::time::sleep(retry.next().unwrap_or(Retry::LONGEST)).await;
        Some((event, (None, retry, start)))
    })
}

/// Whether a watch must not go on from where it was: one that is refused as too old can't, and one that broke, or found
/// no API server that works, may have been on a history that is gone. An API server that was restored from a backup, for
/// which all of them must be away, lets a watch go on from a version that it has not reached yet, and tells nothing of
/// what happens before it does.
fn broken<K>(event: &watcher::Result<K>) -> bool {
    match event {
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) => {
            status.code == 410 || status.code >= 500
        }
        Err(watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_)) => true,
        _ => false,
    }
}

/// Tells of a watch that fails, once until it works again: an API server that is away for an hour makes two lines.
#[derive(Debug, Default)]
struct Health {
    failing: bool,
}

impl Health {
    fn failed(&mut self, what: &str, error: &watcher::Error) {
        let error = with_root(error);
        if std::mem::replace(&mut self.failing, true) {
            tracing::debug!(error, "watching {what} still fails");
        } else {
            tracing::warn!(error, "watching {what} failed; what is enforced stays");
        }
    }

    fn works(&mut self, what: &str) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("watching {what} works again");
        }
    }
}

/// The error and, where it does not say it itself, what is at the bottom of it.
fn with_root(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let root = std::iter::successors(error.source(), |e| e.source()).last().map(ToString::to_string);
    match root {
        Some(root) if !text.contains(&root) => format!("{text}: {root}"),
        _ => text,
    }
}

/// Delays between tries: doubled up to a few seconds, spread by the node's name so that nodes do not come back in
/// step after an outage.
#[derive(Debug, Clone)]
struct Retry {
    next: Duration,
    spread: f64,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(8);

    fn new(node: &str) -> Self {
        let hash = node
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self { next: Self::FIRST, spread: 0.75 + f64::from(hash % 1000) / 2000.0 }
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (self.next * 2).min(Self::LONGEST);
        Some(delay.mul_f64(self.spread))
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

#[cfg(test)]
mod tests;
