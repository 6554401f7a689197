//! How fast statuses are written: one object at most once a second, all together at most 50 a second.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The shortest time between two writes to one object.
const OBJECT_PAUSE: Duration = Duration::from_secs(1);
/// The time that one write costs of what all share, and how much may be saved up.
const COST: Duration = Duration::from_millis(20);
const BURST: Duration = Duration::from_millis(500);

/// When each object, and all together, may be written again.
#[derive(Debug)]
pub struct Pace<K> {
    objects: BTreeMap<K, Instant>,
    /// The time up to which writes are paid for.
    paid: Option<Instant>,
}

impl<K> Default for Pace<K> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), paid: None }
    }
}

impl<K: Ord + Clone> Pace<K> {
    /// When this object may be written: `now`, or later.
    pub fn free(&self, key: &K, now: Instant) -> Instant {
        let object = self.objects.get(key).copied().unwrap_or(now);
        let all = self.paid.and_then(|paid| paid.checked_sub(BURST)).unwrap_or(now);
        object.max(all).max(now)
    }

    /// The object is written now.
    pub fn written(&mut self, key: K, now: Instant) {
        self.hold(key, now + OBJECT_PAUSE);
        self.paid = Some(self.paid.map_or(now, |paid| paid.max(now)) + COST);
    }

    /// The object may not be written before then.
    pub fn hold(&mut self, key: K, until: Instant) {
        // What is over says nothing; without this the map would keep every object there ever was.
        if self.objects.len() > 4096 {
            self.objects.retain(|_, at| *at > until);
        }
        self.objects.insert(key, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_once_a_second() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.free(&1, now), now);
        pace.written(1, now);
        assert_eq!(pace.free(&1, now), now + OBJECT_PAUSE);
        assert_eq!(pace.free(&2, now), now);
    }

    #[test]
    fn fifty_a_second_after_a_burst() {
        let now = Instant::now();
        let mut pace = Pace::default();
        let written = |pace: &mut Pace<u32>, at: Instant, keys: std::ops::Range<u32>| {
            keys.filter(|key| {
                let free = pace.free(key, at) <= at;
                if free {
                    pace.written(*key, at);
                }
                free
            })
            .count()
        };
        let burst = written(&mut pace, now, 0..1000);
        assert_eq!(burst, 26, "half a second's worth, and the one that uses it up");
        let later = (1..=100u32)
            .map(|n| written(&mut pace, now + Duration::from_millis(20) * n, 1000 * n..1000 * (n + 1)));
        assert_eq!(later.sum::<usize>(), 100, "in two seconds");
    }
}
