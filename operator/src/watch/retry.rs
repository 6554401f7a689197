//! Delays between the tries of a watch that fails.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Doubled from try to try up to a few seconds, and short again as soon as anything is received.
///
/// kube's own default waits up to half a minute, and remembers its failures for two: after an API server's restart, when
/// a watch that works again is told first that its version is too old, policies would wait for as long. The operator has
/// about a dozen watches however large the cluster is, so that short delays burden nobody.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    next: Duration,
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(4);
}

impl Default for Retry {
    fn default() -> Self {
        Self { next: Self::FIRST }
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.next;
        self.next = (delay * 2).min(Self::LONGEST);
        Some(delay)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.next = Self::FIRST;
    }
}

/// Pauses between watches that broke and the lists that follow on them: as those of [`Retry`], and short again after a
/// watch that lasted.
#[derive(Debug)]
pub(super) struct Pauses {
    retry: Retry,
    opened: Instant,
}

impl Pauses {
    /// A watch that lasted for so long is no part of the trouble before it.
    const LASTED: Duration = Duration::from_secs(30);

    /// A list and its watch begin.
    pub(super) fn opened(&mut self) {
        self.opened = Instant::now();
    }

    /// The pause after the watch broke.
    pub(super) fn after_broken(&mut self) -> Duration {
        if self.opened.elapsed() >= Self::LASTED {
            self.retry.reset();
        }
        self.retry.next().unwrap_or(Retry::LONGEST)
    }
}

impl Default for Pauses {
    fn default() -> Self {
        Self { retry: Retry::default(), opened: Instant::now() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_end_within_seconds_however_long_an_outage_is() {
        let delays: Vec<u128> = Retry::default().take(100).map(|delay| delay.as_millis()).collect();
        assert_eq!(delays.first_chunk(), Some(&[250, 500, 1000, 2000, 4000, 4000]));
        assert_eq!(delays.last(), Some(&4000), "it never gives up");
    }

    #[test]
    fn what_is_received_makes_them_short_at_once() {
        let mut retry = Retry::default();
        assert_eq!(retry.nth(20), Some(Retry::LONGEST));
        retry.reset();
        assert_eq!(retry.next(), Some(Retry::FIRST));
    }
}
