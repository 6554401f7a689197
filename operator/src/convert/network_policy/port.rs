//! Ports of a rule.

use k8s_openapi::api::networking::v1::NetworkPolicyPort;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use selvage_policy::compiled::{NamedPort, PortRange};
use selvage_policy::model::{PortTerm, Ports};

use crate::convert::port::{is_name, number, protocol};
use crate::convert::{Issue, Reason};

/// Reads a rule's ports. No entry means every protocol; an entry that can't be read matches nothing.
pub(super) fn ports(
    path: &str,
    given: Option<&[NetworkPolicyPort]>,
    issues: &mut Vec<Issue>,
) -> Vec<PortTerm> {
    let entry = |(index, port)| {
        one(&format!("{path}.ports[{index}]"), port).unwrap_or_else(|issue| {
            issues.push(issue);
            Ports::Nothing
        })
    };
    let given = given.unwrap_or_default();
    if given.is_empty() {
        Vec::new()
    } else {
        vec![PortTerm::any_of(given.iter().enumerate().map(entry).collect())]
    }
}

fn one(path: &str, given: &NetworkPolicyPort) -> Result<Ports, Issue> {
    let name = given.protocol.as_deref();
    let protocol = protocol(name).ok_or_else(|| {
        Issue::new(
            format!("{path}.protocol"),
            Reason::InvalidProtocol,
            format!("{:?} is none of TCP, UDP and SCTP: the entry matches nothing", name.unwrap_or_default()),
        )
    })?;
    match (&given.port, given.end_port) {
        (None, None) => Ok(Ports::Protocol(protocol)),
        (None, Some(_)) => Err(invalid(&format!("{path}.endPort"), "endPort needs port")),
        (Some(IntOrString::Int(first)), last) => {
            let first = number(*first).map_err(|why| invalid(&format!("{path}.port"), &why))?;
            let end_path = format!("{path}.endPort");
            let last = last.map_or(Ok(first), number).map_err(|why| invalid(&end_path, &why))?;
            if last < first {
                return Err(invalid(&end_path, &format!("{last} is below port {first}")));
            }
            Ok(Ports::Range(protocol, PortRange { first, last }))
        }
        (Some(IntOrString::String(_)), Some(_)) => {
            Err(invalid(&format!("{path}.endPort"), "endPort needs a numeric port"))
        }
        (Some(IntOrString::String(name)), None) if is_name(name) => {
            Ok(Ports::Named(NamedPort { protocol, name: name.as_str().into() }))
        }
        (Some(IntOrString::String(name)), None) => {
            Err(invalid(&format!("{path}.port"), &format!("{name:?} can't be a port's name")))
        }
    }
}

fn invalid(path: &str, why: &str) -> Issue {
    Issue::new(path, Reason::InvalidPort, format!("{why}: the entry matches nothing"))
}
