//! Tables of "from here to there, may it pass": asked all at once, and reported whole where something differs.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use selvage_policy::compiled::Family;
use socket2::Domain;

use crate::bed::{Bed, FAMILIES, Host};
use crate::probe::{Attempt, GRACE, PATIENCE, Tcp, Token, echo, send_raw, send_udp};
use crate::wire::{RawInbox, Wire, sctp_init};

/// IANA protocol numbers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// A connection to the port; a refusal passes too, for it is an answer.
    Tcp(u16),
    /// A datagram to the port.
    Udp(u16),
    /// An association's first packet to the port.
    Sctp(u16),
    /// An echo request, and its reply.
    Ping,
}

/// One question and its right answer.
#[derive(Clone, Copy)]
pub struct Check<'a> {
    from: Host<'a>,
    to: Host<'a>,
    ask: Ask,
    passes: bool,
}

/// It must pass, in both families.
pub fn yes<'a>(from: Host<'a>, to: Host<'a>, ask: Ask) -> Check<'a> {
    Check { from, to, ask, passes: true }
}

/// It must not pass, in neither family.
pub fn no<'a>(from: Host<'a>, to: Host<'a>, ask: Ask) -> Check<'a> {
    Check { from, to, ask, passes: false }
}

impl fmt::Display for Check<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}, {:?}", self.from.name, self.to.name, self.ask)
    }
}

/// Asks all in both families and fails with every wrong answer.
pub fn check(bed: &Bed, checks: &[Check<'_>]) {
    for family in FAMILIES {
        check_family(bed, family, checks);
    }
}

/// Asks all in one family and fails with every wrong answer.
pub fn check_family(bed: &Bed, family: Family, checks: &[Check<'_>]) {
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            checks.iter().map(|check| (check, scope.spawn(move || passes(bed, family, check)))).collect();
        asked
            .into_iter()
            .filter_map(|(check, answer)| match answer.join() {
                Ok(answer) if answer == check.passes => None,
                Ok(answer) => Some(format!("{check}, {family:?}: passes is {answer}")),
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    assert!(wrong.is_empty(), "wrong answers:\n{}", wrong.join("\n"));
}

/// Whether it passes. A "yes" that is expected may take long; a "no" that is expected is believed once a packet sent
/// later, by the way from the node that no policy closes, has arrived.
fn passes(bed: &Bed, family: Family, check: &Check<'_>) -> bool {
    let (source, to) = (check.from.addresses.of(family), check.to.addresses.of(family));
    let from = check.from.namespace;
    let wait = |seen: &mut dyn FnMut(Duration) -> bool| {
        if check.passes {
            return seen(PATIENCE);
        }
        control(bed, family, check.to);
        seen(GRACE)
    };
    match check.ask {
        Ask::Tcp(port) => {
            let attempt = Attempt::start(from, Some(source), (to, port).into());
            wait(&mut |patience| attempt.outcome(patience) != Tcp::Silent)
        }
        Ask::Udp(port) => {
            let (ear, token) = (Ear::at(bed, check.to, UDP, family), Token::new());
            send_udp(from, SocketAddr::new(source, 0), (to, port).into(), &token);
            wait(&mut |patience| ear.hears(&token, patience))
        }
        Ask::Sctp(port) => {
            let (ear, token) = (Ear::at(bed, check.to, SCTP, family), Token::new());
            send_raw(from, source, to, SCTP, &sctp_init(3000, port, &token));
            wait(&mut |patience| ear.hears(&token, patience))
        }
        Ask::Ping => {
            let patience = if check.passes { PATIENCE } else { 2 * GRACE };
            let answered = echo(from, Some(source), to, patience);
            if !check.passes {
                control(bed, family, check.to);
            }
            answered
        }
    }
}

/// Sends a packet from the node to the host and waits for it.
fn control(bed: &Bed, family: Family, to: Host<'_>) {
    let (ear, token) = (Ear::at(bed, to, UDP, family), Token::new());
    let any: IpAddr = match family {
        Family::V4 => [0; 4].into(),
        Family::V6 => [0_u16; 8].into(),
    };
    send_udp(&bed.node, (any, 0).into(), (to.addresses.of(family), 7).into(), &token);
    assert!(ear.hears(&token, PATIENCE), "the node's own packet to {} is lost", to.name);
}

/// Where a packet is noticed: at the interface, or for the node, whose interface is in front of its rules, behind
/// them.
enum Ear {
    Wire(Wire),
    Stack(RawInbox),
}

impl Ear {
    fn at(bed: &Bed, host: Host<'_>, protocol: u8, family: Family) -> Self {
        if std::ptr::eq(host.namespace, &bed.node) {
            let domain = match family {
                Family::V4 => Domain::IPV4,
                Family::V6 => Domain::IPV6,
            };
            return Self::Stack(RawInbox::open(host.namespace, domain, protocol));
        }
        let interface = if std::ptr::eq(host.namespace, &bed.far) { "uplink" } else { "eth0" };
        Self::Wire(Wire::attach(host.namespace, interface))
    }

    fn hears(&self, token: &Token, patience: Duration) -> bool {
        match self {
            Self::Wire(wire) => wire.sees(token, patience),
            Self::Stack(inbox) => inbox.sees(token, patience),
        }
    }
}
