//! One end of a rule of our own policies.

use std::sync::Arc;

use selvage_crds::rule::{EntityRule, ServiceAccountMatch, ServiceMatch};
use selvage_policy::compiled;
use selvage_policy::model::{
    Entity, Key, Namespaces, Peer, PeerTerm, PodSet, PortTerm, Ports, SetSelection, given,
};
use selvage_policy::selector::{Chosen, Selector};

use super::port::ports;
use crate::convert::cidr::{net, note_masked};
use crate::convert::selector::{NamespaceSelector, namespace_selector, selector};
use crate::convert::{Issue, Reason};

/// Where a rule stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// The policy's namespace; None for a global one.
    pub(super) home: Option<&'a Arc<str>>,
    /// The end that may be a Service: the other one than the policy's own pods.
    pub(super) peer: compiled::End,
}

/// Which pods and sets an end's selectors are about.
enum Scope {
    /// Pods and NetworkSets of all namespaces, and GlobalNetworkSets.
    Everything,
    /// Pods and NetworkSets of these namespaces.
    Within(Namespaces),
    /// GlobalNetworkSets.
    GlobalSets,
}

/// Reads one end; what it says of ports is a matter of the whole rule.
pub(super) fn end(
    path: &str,
    which: compiled::End,
    given: &EntityRule,
    place: Place<'_>,
    protocol: Option<u8>,
    issues: &mut Vec<Issue>,
) -> (Entity, Vec<PortTerm>) {
    let at = |field: &str| format!("{path}.{field}");
    let mut terms = Vec::new();
    for (field, list, negated) in [("nets", &given.nets, false), ("notNets", &given.not_nets, true)] {
        if !list.is_empty() {
            let peers = nets(&at(field), list, issues);
            terms.push(PeerTerm { negated, peers });
        }
    }

    let wanted = selector(&at("selector"), given.selector.as_deref(), Chosen::PodsAndSets, issues);
    let unwanted = selector(&at("notSelector"), given.not_selector.as_deref(), Chosen::PodsAndSets, issues);
    let scope = namespace_selector(&at("namespaceSelector"), given.namespace_selector.as_deref(), issues)
        .map(Scope::from);
    let accounts =
        given.service_accounts.as_ref().map(|given| accounts(&at("serviceAccounts"), given, issues));
    let known = wanted.is_some()
        || scope.is_some()
        || accounts.is_some()
        || (unwanted.is_some() && place.home.is_some());
    let scope = scope.unwrap_or_else(|| match place.home {
        Some(home) => Scope::Within(Namespaces::Named(home.clone())),
        None => Scope::Everything,
    });
    if known {
        let peers = scope.peers(accounts, wanted.unwrap_or(Selector::All));
        terms.push(PeerTerm { negated: false, peers });
    }
    if let Some(unwanted) = unwanted {
        terms.push(PeerTerm { negated: true, peers: scope.peers(None, unwanted) });
    }

    let mut conditions = Vec::new();
    if let Some(service) = &given.services
        && let Some(key) = backends(&at("services"), which, given, service, place, issues)
    {
        match which {
            compiled::End::Source => {
                terms.push(PeerTerm { negated: false, peers: vec![Peer::Backends(key)] })
            }
            compiled::End::Destination => conditions.push(PortTerm::any_of(vec![Ports::Backends(key)])),
        }
    }
    for (field, list, negated) in [("ports", &given.ports, false), ("notPorts", &given.not_ports, true)] {
        conditions.extend(ports(&at(field), list, which, negated, protocol, issues));
    }
    if given.domains.is_some() {
        issues.push(Issue::new(at("domains"), Reason::Unsupported, "peers by domain name are not supported"));
    }
    (Entity { terms }, conditions)
}

fn nets(path: &str, given: &[String], issues: &mut Vec<Issue>) -> Vec<Peer> {
    let mut peers = Vec::with_capacity(given.len());
    for (index, text) in given.iter().enumerate() {
        let path = format!("{path}[{index}]");
        match net(text) {
            Ok(block) => {
                note_masked(&path, text, block, issues);
                peers.push(Peer::Block { net: block.net, except: Vec::new() });
            }
            Err(why) => issues.push(Issue::new(path, Reason::InvalidCIDR, format!("{text:?} {why}"))),
        }
    }
    peers
}

/// The accounts that have one of the names and match the selector. Without either: any, which no set has.
fn accounts(path: &str, given: &ServiceAccountMatch, issues: &mut Vec<Issue>) -> Selector {
    let path = format!("{path}.selector");
    let mut parts =
        Vec::from_iter(selector(&path, given.selector.as_deref(), Chosen::ServiceAccounts, issues));
    if !given.names.is_empty() {
        parts.push(Selector::within(given::NAME, given.names.iter().map(|name| name.as_str().into())));
    }
    Selector::all_of(parts)
}

/// The Service that an end names. It excludes every other way to say which addresses, and at a destination, where
/// it brings its own, ports.
fn backends(
    path: &str,
    which: compiled::End,
    end: &EntityRule,
    given: &ServiceMatch,
    place: Place<'_>,
    issues: &mut Vec<Issue>,
) -> Option<Key> {
    let mut refuse = |path: &str, why: &str| {
        issues.push(Issue::new(path, Reason::InvalidService, why));
        None
    };
    if which != place.peer {
        return refuse(
            path,
            "services is for the source of ingress rules and the destination of egress rules",
        );
    }
    let blank = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
    let excluded = !end.nets.is_empty()
        || !end.not_nets.is_empty()
        || !blank(&end.selector)
        || !blank(&end.not_selector)
        || !blank(&end.namespace_selector)
        || end.service_accounts.is_some();
    if excluded {
        return refuse(path, "services excludes nets, notNets, selectors and serviceAccounts");
    }
    if which == compiled::End::Destination && !(end.ports.is_empty() && end.not_ports.is_empty()) {
        return refuse(path, "services brings its own ports: it excludes ports and notPorts");
    }
    if given.name.is_empty() {
        return refuse(&format!("{path}.name"), "the Service has no name");
    }
    let named = given.namespace.as_deref().filter(|name| !name.is_empty()).map(Arc::from);
    match named.or_else(|| place.home.cloned()) {
        Some(namespace) => Some(Key { namespace, name: given.name.as_str().into() }),
        None => refuse(&format!("{path}.namespace"), "a global policy must name the Service's namespace"),
    }
}

impl From<NamespaceSelector> for Scope {
    fn from(given: NamespaceSelector) -> Self {
        match given {
            NamespaceSelector::Namespaces(selector) => Self::Within(Namespaces::Matching(selector)),
            NamespaceSelector::Global => Self::GlobalSets,
        }
    }
}

impl Scope {
    /// Pods and sets in scope by their labels; pods alone where something is asked of their accounts, which sets
    /// don't have.
    fn peers(&self, accounts: Option<Selector>, selector: Selector) -> Vec<Peer> {
        let everywhere = Namespaces::Matching(Selector::All);
        let (namespaces, global) = match self {
            Self::Everything => (Some(&everywhere), true),
            Self::Within(namespaces) => (Some(namespaces), false),
            Self::GlobalSets => (None, true),
        };
        let mut peers = Vec::new();
        let sets = accounts.is_none();
        if let Some(namespaces) = namespaces {
            let accounts = accounts.unwrap_or(Selector::All);
            peers.push(Peer::Pods(PodSet {
                namespaces: namespaces.clone(),
                accounts,
                pods: selector.clone(),
            }));
        }
        if sets {
            let own = namespaces.cloned().map(Some);
            let scopes = own.into_iter().chain(global.then_some(None));
            peers.extend(
                scopes.map(|namespaces| Peer::Sets(SetSelection { namespaces, sets: selector.clone() })),
            );
        }
        peers
    }
}
