//! Which statuses stand, which are wanted, and which write is next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use selvage_crds::conditions::{ACCEPTED, DELETION_HELD, PROGRAMMED, find, reason};

use super::about::{About, Said};
use super::node::AGENT_GRACE;
use super::pace::Pace;
use crate::watch::{Place, Stood};

/// How often an object is looked at, at most: nodes report one by one, and each look goes over all of them. What a
/// look at other objects than policies costs is more, and what changes there is less pressing.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
const LONG_LOOK_PAUSE: Duration = Duration::from_secs(1);
/// The pause after a write that failed.
const RETRY: Duration = Duration::from_secs(2);
/// The pause after one that the API server does not take because the object's namespace is being deleted.
const LONG_RETRY: Duration = Duration::from_secs(30);

/// One status to write.
#[derive(Debug, Clone)]
pub struct StatusWrite {
    /// The object.
    pub about: About,
    /// The object's uid.
    pub uid: Arc<str>,
    /// Where the status stands; None where there is no object for it yet.
    pub place: Option<Place>,
    /// The status of another object of the same name, which has to go first.
    pub stale: Option<Place>,
    /// What it should say.
    pub said: Said,
    /// What to tell by an Event.
    pub event: Option<News>,
}

/// What somebody must act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// One of [`selvage_crds::conditions::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a look at an object came to.
#[derive(Debug)]
pub struct Look {
    /// The object's uid.
    pub uid: Arc<str>,
    /// What should be said; None where that stands already.
    pub said: Option<Said>,
    /// Something fails: it is written first.
    pub failing: bool,
    /// Nothing is to be written yet.
    pub held: bool,
    /// When time alone may change what is to be said.
    pub again: Option<Instant>,
}

/// What stands of each object, and what is wanted.
#[derive(Default)]
pub struct Ledger {
    standing: BTreeMap<About, Stood>,
    /// Objects to look at.
    dirty: BTreeSet<About>,
    /// When each was looked at last.
    looked: BTreeMap<About, Instant>,
    /// Objects to look at again at some time, because time alone changes what is to be said.
    later: BTreeMap<About, Instant>,
    /// What differs from what stands; those that fail first.
    wanted: BTreeMap<About, (bool, StatusWrite)>,
    in_flight: BTreeSet<About>,
    /// Statuses with a write under way that were deleted meanwhile: maybe what that write made.
    gone_meanwhile: BTreeSet<About>,
    pace: Pace<About>,
    /// Until when what was said before this replica led is believed: it does not know yet how long agents are away.
    fresh_until: Option<Instant>,
}

impl Ledger {
    /// This replica leads from here on.
    pub fn lead(&mut self, now: Instant) {
        self.fresh_until = Some(now + AGENT_GRACE);
    }

    /// Something of an object may be another than before.
    pub fn touch(&mut self, about: About) {
        self.dirty.insert(about);
    }

    /// The object is gone; its status goes with it.
    pub fn forget(&mut self, about: &About) {
        self.wanted.remove(about);
        self.later.remove(about);
        self.looked.remove(about);
    }

    /// A status as it stands; None where there is none.
    pub fn stands(&mut self, about: &About, stood: Option<Stood>) {
        match stood {
            Some(stood) => {
                let known = self.standing.get(about);
                if known.is_some_and(|known| stood.place.is_older_than(&known.place)) {
                    return;
                }
                self.gone_meanwhile.remove(about);
                self.standing.insert(about.clone(), stood);
            }
            None => {
                if self.in_flight.contains(about) {
                    self.gone_meanwhile.insert(about.clone());
                }
                self.standing.remove(about);
            }
        }
        self.dirty.insert(about.clone());
    }

    /// What stands of that very object.
    pub fn standing(&self, about: &About, uid: &str) -> Option<&Stood> {
        self.standing.get(about).filter(|stood| stood.uid == *uid)
    }

    /// The objects to look at now.
    pub fn look(&mut self, now: Instant) -> Vec<About> {
        let due: Vec<_> =
            self.later.iter().filter(|(_, at)| **at <= now).map(|(about, _)| about.clone()).collect();
        for about in due {
            self.later.remove(&about);
            self.dirty.insert(about);
        }
        let mut found = Vec::new();
        for about in std::mem::take(&mut self.dirty) {
            if self.in_flight.contains(&about) {
                // Its answer comes first, and looks again.
                continue;
            }
            let pause = if matches!(about, About::Policy(_)) { LOOK_PAUSE } else { LONG_LOOK_PAUSE };
            if let Some(at) = self.looked.get(&about).map(|at| *at + pause).filter(|at| *at > now) {
                self.later.entry(about).and_modify(|later| *later = at.min(*later)).or_insert(at);
                continue;
            }
            self.looked.insert(about.clone(), now);
            found.push(about);
        }
        found
    }

    /// An object was looked at; None where there is none.
    pub fn looked(&mut self, about: About, look: Option<Look>, now: Instant) {
        let Some(Look { uid, said, failing, held, again }) = look else {
            self.forget(&about);
            return;
        };
        if let Some(at) = again {
            self.later.insert(about.clone(), at);
        }
        if held {
            return;
        }
        let Some(said) = said else {
            self.wanted.remove(&about);
            return;
        };
        let stood = self.standing.get(&about);
        let same = stood.filter(|stood| stood.uid == *uid);
        if let Some(end) = self.fresh_until.filter(|end| *end > now)
            && same.is_some_and(|stood| forgets(&stood.said, &said))
        {
            self.later.insert(about, end);
            return;
        }
        let event = news(same.map(|stood| &stood.said), &said);
        let write = StatusWrite {
            place: same.map(|stood| stood.place.clone()),
            stale: stood.filter(|_| same.is_none()).map(|stood| stood.place.clone()),
            about: about.clone(),
            uid,
            said,
            event,
        };
        self.wanted.insert(about, (failing, write));
    }

    /// The next status to write; None while there is none, or it is too early.
    pub fn next(&mut self, now: Instant) -> Option<StatusWrite> {
        let free = |about: &About| !self.in_flight.contains(about) && self.pace.free(about, now) <= now;
        let failing = self.wanted.iter().find(|(about, (failing, _))| *failing && free(about));
        let (about, _) = failing.or_else(|| self.wanted.iter().find(|(about, _)| free(about)))?;
        let about = about.clone();
        let (_, write) = self.wanted.remove(&about)?;
        self.in_flight.insert(about.clone());
        self.pace.written(about, now);
        Some(write)
    }

    /// What became of a write: what stands now, or None where it has to be tried again.
    pub fn written(&mut self, about: &About, stands: Option<Stood>, now: Instant) {
        self.in_flight.remove(about);
        match stands.filter(|_| !self.gone_meanwhile.remove(about)) {
            Some(stood) => self.stands(about, Some(stood)),
            None => {
                self.pace.hold(about.clone(), now + RETRY);
                self.dirty.insert(about.clone());
            }
        }
    }

    /// A write was of no use, because the object goes.
    pub fn going(&mut self, about: &About, now: Instant) {
        self.in_flight.remove(about);
        self.gone_meanwhile.remove(about);
        self.pace.hold(about.clone(), now + LONG_RETRY);
        self.later.insert(about.clone(), now + LONG_RETRY);
    }

    /// When [`Ledger::next`] may give something that it does not give now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.wanted.keys().filter(|about| !self.in_flight.contains(*about));
        let free = waiting.map(|about| self.pace.free(about, now)).min();
        free.into_iter().chain(self.later.values().copied()).min()
    }

    /// How many statuses wait to be written.
    pub fn waiting(&self) -> usize {
        self.wanted.len()
    }
}

/// Whether this calls pending what was known to fail in the same generation.
fn forgets(before: &Said, after: &Said) -> bool {
    let programmed = |said: &Said| find(said.conditions(), PROGRAMMED).cloned();
    let (Some(before), Some(after)) = (programmed(before), programmed(after)) else { return false };
    let failed = [reason::FAILED, reason::AGENT_NOT_READY].contains(&before.reason.as_str());
    failed && after.reason == reason::PENDING && before.observed_generation == after.observed_generation
}

/// What somebody must act on, where that is new: Accepted is False, or a deletion is held.
fn news(before: Option<&Said>, after: &Said) -> Option<News> {
    let bad = |said: &Said, kind: &str, status: &str| {
        let condition = find(said.conditions(), kind).filter(|condition| condition.status == status)?;
        Some(News { reason: condition.reason.clone(), message: condition.message.clone() })
    };
    [(ACCEPTED, "False"), (DELETION_HELD, "True")].into_iter().find_map(|(kind, status)| {
        let news = bad(after, kind, status)?;
        (before.and_then(|before| bad(before, kind, status)).as_ref() != Some(&news)).then_some(news)
    })
}
