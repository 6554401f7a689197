//! Objects that the operator itself keeps: the tiers that always exist, holds on tiers in use, and default pools.
//!
//! [`Upkeep`] is pure: it is told what stands, and says what to do next. [`Writer`] does it.

mod pools;
mod tiers;
mod writer;

pub use pools::Pools;
pub use tiers::Tiers;
pub use writer::Writer;

use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_crds::{IPPoolSpec, TierSpec};

use crate::watch::Place;

/// The pause after something was done, so that a watch can tell of it.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause after something could not be done.
const RETRY: Duration = Duration::from_secs(10);

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub enum Chore {
    /// Makes a tier that always exists.
    CreateTier {
        /// Its name.
        name: Arc<str>,
        /// Its content.
        spec: TierSpec,
    },
    /// Gives a tier that always exists the content that it always has.
    CorrectTier {
        /// Its name.
        name: Arc<str>,
        /// Where it stands.
        place: Place,
        /// Its content.
        spec: TierSpec,
    },
    /// Gives a tier these finalizers.
    Hold {
        /// Its name.
        name: Arc<str>,
        /// Where it stands.
        place: Place,
        /// All of them.
        finalizers: Vec<String>,
    },
    /// Makes a default pool.
    CreatePool {
        /// Its name.
        name: Arc<str>,
        /// Its content.
        spec: IPPoolSpec,
    },
    /// Deletes a default pool that another takes the place of.
    DeletePool {
        /// Its name.
        name: Arc<str>,
        /// Where it stands.
        place: Place,
    },
}

/// What stands, and what has to be done.
pub struct Upkeep {
    /// The tiers.
    pub tiers: Tiers,
    /// The pools.
    pub pools: Pools,
    dirty: bool,
    not_before: Option<Instant>,
    queue: Vec<Chore>,
    in_flight: usize,
}

impl Chore {
    /// The kind of the object that it is about.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateTier { .. } | Self::CorrectTier { .. } | Self::Hold { .. } => "Tier",
            Self::CreatePool { .. } | Self::DeletePool { .. } => "IPPool",
        }
    }
}

impl Upkeep {
    /// Nothing stands yet.
    pub fn new(pools: Pools) -> Self {
        let tiers = Tiers::default();
        Self { tiers, pools, dirty: true, not_before: None, queue: Vec::new(), in_flight: 0 }
    }

    /// Something is another than before.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// The next request; None while there is none, or it is too early.
    pub fn next(&mut self, now: Instant) -> Option<Chore> {
        if self.dirty && self.idle() && self.not_before.is_none_or(|at| at <= now) {
            self.dirty = false;
            self.queue = self.tiers.chores();
            self.queue.extend(self.pools.chores());
        }
        let chore = self.queue.pop()?;
        self.in_flight += 1;
        Some(chore)
    }

    /// A request was done, or could not be.
    pub fn done(&mut self, done: bool, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.dirty = true;
        let at = now + if done { PAUSE } else { RETRY };
        self.not_before = self.not_before.max(Some(at));
    }

    /// When [`Upkeep::next`] may give something that it does not give now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.queue.is_empty() {
            return Some(now);
        }
        (self.dirty && self.idle()).then(|| self.not_before.unwrap_or(now))
    }

    fn idle(&self) -> bool {
        self.queue.is_empty() && self.in_flight == 0
    }
}
