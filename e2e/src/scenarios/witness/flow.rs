//! A flow, and what became of each packet and attempt of it.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a flow consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One TCP connection, with a word and its answer again and again.
    Talk,
    /// TCP connections, each with a word and its answer.
    NewTcp,
    /// UDP datagrams from one port; where they are allowed each is answered.
    Udp,
    /// UDP datagrams, each from a port of its own and answered.
    NewUdp,
    /// ICMP or ICMPv6 echoes.
    Ping,
}

/// Who sends what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The pod that sends.
    pub from: &'static str,
    /// The pod that is sent to.
    pub to: &'static str,
    /// What is sent.
    pub kind: Kind,
    /// The IP family.
    pub ipv6: bool,
    /// The policies allow it.
    pub allowed: bool,
    /// The two pods are on different nodes.
    pub across: bool,
}

/// A flow's packets, each with its fate.
#[derive(Debug)]
pub struct Log {
    /// Whose.
    pub flow: Flow,
    /// In the order of sending, which is that of the times.
    sent: Mutex<Vec<Sent>>,
}

/// A packet or attempt.
#[derive(Debug, Clone)]
pub struct Sent {
    /// When it was sent.
    pub at: Instant,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a packet or attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet; of a denied one, nothing for ever.
    Silent,
    /// An allowed one was answered, a denied one arrived.
    Passed(Instant),
    /// An allowed one was not answered.
    Lost(Box<str>),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Talk => "open TCP connection",
            Kind::NewTcp => "new TCP connection",
            Kind::Udp => "UDP",
            Kind::NewUdp => "UDP from a new port",
            Kind::Ping => "ping",
        };
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "{} -> {}, {family} {kind}", self.from, self.to)
    }
}

impl Log {
    /// An empty one.
    pub fn new(flow: Flow) -> Self {
        Self { flow, sent: Mutex::default() }
    }

    /// A packet goes out; its number.
    pub fn send(&self) -> u64 {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Sent { at: Instant::now(), fate: Fate::Silent });
        u64::try_from(sent.len() - 1).unwrap_or(u64::MAX)
    }

    /// It passed. One that was given up before came late: that is a gap, and no loss.
    pub fn passed(&self, number: u64) {
        self.set(number, Fate::Passed(Instant::now()));
    }

    /// It is given up.
    pub fn lost(&self, number: u64, why: impl fmt::Display) {
        self.set(number, Fate::Lost(why.to_string().into()));
    }

    fn set(&self, number: u64, fate: Fate) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = usize::try_from(number).ok().and_then(|number| sent.get_mut(number));
        if let Some(slot) = slot.filter(|slot| !matches!(slot.fate, Fate::Passed(_))) {
            slot.fate = fate;
        }
    }

    /// What was sent from one moment to another.
    pub fn between(&self, begin: Instant, end: Instant) -> Vec<Sent> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sent.partition_point(|one| one.at < begin);
        sent.iter().skip(first).take_while(|one| one.at < end).cloned().collect()
    }

    /// True where everything that was sent between the two is known to have passed or to be lost.
    pub fn settled(&self, begin: Instant, end: Instant) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let first = sent.partition_point(|one| one.at < begin);
        sent.iter().skip(first).take_while(|one| one.at < end).all(|one| one.fate != Fate::Silent)
    }

    /// True where the last three whose fate is known have passed.
    pub fn works(&self) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let known = sent.iter().rev().filter(|one| one.fate != Fate::Silent).take(3);
        known.filter(|one| matches!(one.fate, Fate::Passed(_))).count() == 3
    }
}

/// The longest time without an answer in a row of packets, and when it began, counted from `begin`.
pub fn longest_gap(sent: &[Sent], begin: Instant, end: Instant) -> (Duration, Duration) {
    let mut answers: Vec<Instant> =
        sent.iter().filter_map(|one| if let Fate::Passed(at) = one.fate { Some(at) } else { None }).collect();
    answers.sort_unstable();
    // What is not answered before the end is measured up to there, and what is answered later up to the answer.
    answers.push(end);
    let (mut last, mut longest) = (begin, (Duration::ZERO, Duration::ZERO));
    for answer in answers {
        let gap = answer.saturating_duration_since(last);
        longest = longest.max((gap, last.saturating_duration_since(begin)));
        last = last.max(answer);
    }
    longest
}
