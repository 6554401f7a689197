//! What the API server says: this node's NodePolicy, and the address groups of the node's bucket.
//!
//! Each of two watches keeps a view current for whoever enforces. A view is always what was last understood: an
//! object that disappears, or can't be read any more, takes nothing out of it.

pub mod assembler;
pub mod groups;
pub mod policy;

use std::time::Duration;

use kube::runtime::utils::Backoff;
use kube::runtime::watcher;

/// How long one watch request lasts at most, in seconds. A connection that died silently is noticed five seconds
/// after that at the latest.
const WATCH_SECONDS: u32 = 120;

/// The settings that both watches share. Lists are always most recent (the default): an older answer could undo a
/// policy.
fn config() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
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
