//! Protocols and ports of our own policies' rules.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use selvage_policy::compiled::{End, NamedPort, PortRange};
use selvage_policy::model::{PortTerm, Ports};

use crate::convert::port::{SCTP, TCP, UDP, WITH_PORTS, is_name, number};
use crate::convert::{Issue, Reason};

/// IANA's number of a protocol, by one of Calico's names or as a number; None where it can't be read.
pub(super) fn protocol(path: &str, given: &IntOrString, issues: &mut Vec<Issue>) -> Option<u8> {
    let found = match given {
        IntOrString::Int(number) => u8::try_from(*number).ok().filter(|number| *number != 0),
        IntOrString::String(name) => match name.as_str() {
            "TCP" => Some(TCP),
            "UDP" => Some(UDP),
            "SCTP" => Some(SCTP),
            "ICMP" => Some(super::ICMP),
            "ICMPv6" => Some(super::ICMPV6),
            "UDPLite" => Some(136),
            _ => None,
        },
    };
    if found.is_none() {
        let given = match given {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => format!("{name:?}"),
        };
        let message = format!(
            "{given} is none of TCP, UDP, SCTP, ICMP, ICMPv6 and UDPLite, and no number from 1 to 255"
        );
        issues.push(Issue::new(path, Reason::InvalidProtocol, message));
    }
    found
}

/// What a list of ports says of the port at one end, None where there are none.
pub(super) fn ports(
    path: &str,
    given: &[IntOrString],
    end: End,
    negated: bool,
    protocol: Option<u8>,
    issues: &mut Vec<Issue>,
) -> Option<PortTerm> {
    let mut ports = Vec::with_capacity(given.len());
    for (index, entry) in given.iter().enumerate() {
        match one(entry, protocol) {
            Ok(entries) => ports.extend(entries),
            Err(why) => issues.push(Issue::new(format!("{path}[{index}]"), Reason::InvalidPort, why)),
        }
    }
    (!given.is_empty()).then_some(PortTerm { end, negated, ports })
}

/// One entry: a name without a protocol is a port of each that can carry one.
fn one(given: &IntOrString, protocol: Option<u8>) -> Result<Vec<Ports>, String> {
    if protocol.is_some_and(|protocol| !WITH_PORTS.contains(&protocol)) {
        return Err("ports need protocol TCP, UDP or SCTP".into());
    }
    let text = match given {
        IntOrString::Int(port) => return range(number(*port)?, number(*port)?, protocol),
        IntOrString::String(text) => text,
    };
    if let Some((first, last)) = text.split_once(':') {
        return range(digits(first)?, digits(last)?, protocol);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return range(digits(text)?, digits(text)?, protocol);
    }
    if !is_name(text) {
        return Err(format!("{text:?} is no port, no range such as 80:90, and can't be a port's name"));
    }
    let named = |protocol: u8| Ports::Named(NamedPort { protocol, name: text.as_str().into() });
    Ok(protocol.map_or_else(|| WITH_PORTS.map(named).to_vec(), |protocol| vec![named(protocol)]))
}

fn range(first: u16, last: u16, protocol: Option<u8>) -> Result<Vec<Ports>, String> {
    if last < first {
        return Err(format!("{first}:{last} ends before it starts"));
    }
    let protocol = protocol.ok_or("a port's number needs protocol TCP, UDP or SCTP")?;
    Ok(vec![Ports::Range(protocol, PortRange { first, last })])
}

/// A port in decimal, without sign or leading zeros.
fn digits(text: &str) -> Result<u16, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let port = text.parse::<u32>().ok().filter(|_| plain).ok_or_else(|| format!("{text:?} is no port"))?;
    number(port)
}
