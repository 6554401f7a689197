//! Rules of our own policies.

use selvage_crds::rule::{Icmp, Rule};
use selvage_policy::compiled::{Action, End, Family};
use selvage_policy::model::{self, PortTerm, Ports};

use super::end::{Place, end};
use super::port::protocol;
use super::{ICMP, ICMPV6};
use crate::convert::closed::closed;
use crate::convert::{Issue, Reason};

/// Reads a rule; one that can't be read fails closed as a whole.
pub(super) fn rule(path: &str, given: &Rule, place: Place<'_>, issues: &mut Vec<Issue>) -> model::Rule {
    let mut found = Vec::new();
    let action = action(&format!("{path}.action"), &given.action, &mut found);
    let (family, ports, source, destination) = matches(path, given, place, &mut found);
    let rule = match action {
        Some(action) if found.iter().all(Issue::is_note) => {
            model::Rule { action, family, ports, source, destination }
        }
        _ => closed(action, &mut found),
    };
    issues.append(&mut found);
    rule
}

type Parts = (Option<Family>, Vec<PortTerm>, model::Entity, model::Entity);

fn matches(path: &str, given: &Rule, place: Place<'_>, issues: &mut Vec<Issue>) -> Parts {
    let at = |field: &str| format!("{path}.{field}");
    if given.http.is_some() {
        issues.push(Issue::new(at("http"), Reason::Unsupported, "requests are not looked into"));
    }
    let wanted = given.protocol.as_ref().map(|given| protocol(&at("protocol"), given, issues));
    if wanted == Some(None) {
        // What the rest may say depends on it.
        return Parts::default();
    }
    let wanted = wanted.flatten();
    let unwanted = given.not_protocol.as_ref().and_then(|given| protocol(&at("notProtocol"), given, issues));
    let mut ports = Vec::new();
    ports.extend(wanted.map(|protocol| PortTerm::any_of(vec![Ports::Protocol(protocol)])));
    ports.extend(unwanted.map(|protocol| not(Ports::Protocol(protocol))));
    if let Some(given) = &given.icmp {
        ports.extend(icmp(&at("icmp"), given, wanted, issues).map(|entry| PortTerm::any_of(vec![entry])));
    }
    if let Some(given) = &given.not_icmp {
        ports.extend(icmp(&at("notICMP"), given, wanted, issues).map(not));
    }
    let family = match given.ip_version {
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(other) => {
            let message = format!("{other} is neither 4 nor 6");
            issues.push(Issue::new(at("ipVersion"), Reason::InvalidIPVersion, message));
            None
        }
    };
    let (source, more) = end(&at("source"), End::Source, &given.source, place, wanted, issues);
    ports.extend(more);
    let (destination, more) =
        end(&at("destination"), End::Destination, &given.destination, place, wanted, issues);
    ports.extend(more);
    (family, ports, source, destination)
}

fn not(entry: Ports) -> PortTerm {
    PortTerm { end: End::Destination, negated: true, ports: vec![entry] }
}

fn action(path: &str, given: &str, issues: &mut Vec<Issue>) -> Option<Action> {
    match given {
        "Allow" => Some(Action::Allow),
        "Deny" => Some(Action::Deny),
        "Pass" => Some(Action::Pass),
        "Log" => Some(Action::Log),
        other => {
            let message = format!("{other:?} is none of Allow, Deny, Pass and Log");
            issues.push(Issue::new(path, Reason::InvalidAction, message));
            None
        }
    }
}

/// A type, or a type and a code, of the rule's own protocol; None without either, which says nothing.
fn icmp(path: &str, given: &Icmp, protocol: Option<u8>, issues: &mut Vec<Issue>) -> Option<Ports> {
    let mut refuse = |path: String, why: String| issues.push(Issue::new(path, Reason::InvalidICMP, why));
    let Some(protocol) = protocol.filter(|protocol| [ICMP, ICMPV6].contains(protocol)) else {
        refuse(path.into(), "needs protocol ICMP or ICMPv6".into());
        return None;
    };
    let mut number = |field: &str, given: Option<i64>| {
        let read = given.map(u8::try_from)?;
        if read.is_err() {
            refuse(format!("{path}.{field}"), format!("{} is not from 0 to 255", given.unwrap_or_default()));
        }
        read.ok()
    };
    let (kind, code) = (number("type", given.type_), number("code", given.code));
    if given.type_.is_none() && given.code.is_some() {
        refuse(format!("{path}.code"), "needs type".into());
    }
    Some(Ports::Icmp(protocol, kind?, code))
}
