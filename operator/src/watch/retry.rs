//! Delays between the tries of a watch that fails.

use std::time::Duration;

use kube::runtime::utils::Backoff;

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
