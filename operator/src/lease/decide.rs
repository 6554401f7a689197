//! What to do about the lease, given what was seen of it.

use std::time::{Duration, Instant};

/// The three times of an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long others wait after the record's last change before they take over.
    pub duration: Duration,
    /// How long the holder may write after its last renewal. The rest of [`Self::duration`] is more than one
    /// request may take, so that what was sent under the lease has landed before anyone takes over.
    pub renew_within: Duration,
    /// The pause between two tries.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A lease as the API server holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty where it was released.
    pub holder: String,
    /// The time that its holder asked others to wait.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: i32,
    /// The object's resourceVersion, which changes with every renewal.
    pub version: String,
}

/// A record and when this process first saw it in that version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub record: Record,
    /// By this process's own clock.
    pub since: Instant,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is no lease: make it, held by this process.
    Create,
    /// Nobody holds it any more: take it over.
    Take,
    /// This process holds it: renew it.
    Renew,
    /// Somebody else holds it: look again after this time.
    Wait(Duration),
}

/// Decides what `me` does about the lease.
pub fn decide(me: &str, seen: Option<&Seen>, now: Instant, terms: &Terms) -> Step {
    let Some(Seen { record, since }) = seen else { return Step::Create };
    if record.holder == me {
        return Step::Renew;
    }
    if record.holder.is_empty() {
        return Step::Take;
    }
    let left = (*since + record.duration).saturating_duration_since(now);
    if left.is_zero() { Step::Take } else { Step::Wait(left.min(terms.retry)) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::none(None, 0, Step::Create)]
    #[case::mine(Some("me"), 0, Step::Renew)]
    #[case::mine_even_if_late(Some("me"), 60, Step::Renew)]
    #[case::released(Some(""), 0, Step::Take)]
    #[case::fresh(Some("other"), 1, Step::Wait(Duration::from_secs(2)))]
    #[case::nearly_over(Some("other"), 14, Step::Wait(Duration::from_secs(1)))]
    #[case::over(Some("other"), 15, Step::Take)]
    fn steps(#[case] holder: Option<&str>, #[case] age: u64, #[case] step: Step) {
        let since = Instant::now();
        let seen = holder.map(|holder| Seen {
            record: Record {
                holder: holder.into(),
                duration: Duration::from_secs(15),
                transitions: 0,
                version: "1".into(),
            },
            since,
        });
        let now = since + Duration::from_secs(age);
        assert_eq!(decide("me", seen.as_ref(), now, &Terms::default()), step);
    }

    #[test]
    fn a_write_under_the_lease_lands_before_a_take_over() {
        let terms = Terms::default();
        assert!(terms.renew_within + crate::api::REQUEST_TIMEOUT <= terms.duration);
    }
}
