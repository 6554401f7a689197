//! Protocols and their ports.

use selvage_crds::cluster_network_policy::{Port, Protocol};
use selvage_policy::compiled::{NamedPort, PortRange};
use selvage_policy::model::Ports;

use super::unknown::known;
use crate::convert::port::{SCTP, TCP, UDP, WITH_PORTS, is_name, number};
use crate::convert::{Issue, Reason};

/// Reads one entry of `protocols`: a name is a port of whatever protocol carries it.
pub(super) fn protocol(path: &str, given: &Protocol) -> Result<Vec<Ports>, Issue> {
    known(path, &given.other)?;
    let numbered = [("tcp", TCP, &given.tcp), ("udp", UDP, &given.udp), ("sctp", SCTP, &given.sctp)];
    let mut numbered = numbered.iter().filter_map(|(field, number, ports)| {
        ports.as_ref().map(|ports| (format!("{path}.{field}"), *number, ports))
    });
    let named = given.destination_named_port.as_deref().filter(|name| !name.is_empty());
    match (numbered.next(), numbered.next(), named) {
        (None, None, Some(name)) if is_name(name) => {
            Ok(WITH_PORTS.map(|protocol| Ports::Named(NamedPort { protocol, name: name.into() })).to_vec())
        }
        (None, None, Some(name)) => {
            let path = format!("{path}.destinationNamedPort");
            Err(Issue::new(path, Reason::InvalidPort, format!("{name:?} can't be a port's name")))
        }
        (Some((path, number, ports)), None, None) => {
            known(&path, &ports.other)?;
            let port = ports.destination_port.as_ref().ok_or_else(|| empty(&path))?;
            Ok(vec![Ports::Range(number, range(&format!("{path}.destinationPort"), port)?)])
        }
        (None, _, None) => Err(empty(path)),
        _ => Err(Issue::new(path, Reason::InvalidProtocol, "the entry's fields exclude each other")),
    }
}

fn empty(path: &str) -> Issue {
    Issue::new(path, Reason::InvalidProtocol, "the entry is empty")
}

fn range(path: &str, given: &Port) -> Result<PortRange, Issue> {
    known(path, &given.other)?;
    let invalid = |path: String, why: String| Issue::new(path, Reason::InvalidPort, why);
    match (given.number, &given.range) {
        (Some(port), None) => {
            let port = number(port).map_err(|why| invalid(format!("{path}.number"), why))?;
            Ok(PortRange { first: port, last: port })
        }
        (None, Some(given)) => {
            let first = number(given.start).map_err(|why| invalid(format!("{path}.range.start"), why))?;
            let last = number(given.end).map_err(|why| invalid(format!("{path}.range.end"), why))?;
            if last < first {
                return Err(invalid(format!("{path}.range.end"), format!("{last} is below start {first}")));
            }
            Ok(PortRange { first, last })
        }
        (None, None) => Err(invalid(path.into(), "it has neither number nor range".into())),
        (Some(_), Some(_)) => Err(invalid(path.into(), "number and range exclude each other".into())),
    }
}
