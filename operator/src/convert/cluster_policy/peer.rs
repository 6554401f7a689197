//! Subjects and peers.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use selvage_crds::cluster_network_policy::{EgressPeer, IngressPeer, NamespacedPod, Other, Subject};
use selvage_policy::model::{Namespaces, Peer, PodSet};
use selvage_policy::selector::Selector;

use super::unknown::known;
use crate::convert::cidr::{block, note_masked};
use crate::convert::label_selector::{self, Values};
use crate::convert::{Issue, Reason};

/// A peer, or several of one sort, of either direction: only egress has nodes, networks and domain names.
pub(super) struct Peers<'a> {
    namespaces: Option<&'a LabelSelector>,
    pods: Option<&'a NamespacedPod>,
    nodes: Option<&'a LabelSelector>,
    networks: Option<&'a [String]>,
    domain_names: bool,
    other: &'a Other,
}

/// The pods that a policy selects.
pub(super) fn subject(path: &str, given: &Subject) -> Result<PodSet, Issue> {
    known(path, &given.other)?;
    match (&given.namespaces, &given.pods) {
        (Some(namespaces), None) => all_of(&format!("{path}.namespaces"), namespaces),
        (None, Some(pods)) => some_of(&format!("{path}.pods"), pods),
        (None, None) => {
            let why = "it has neither namespaces nor pods";
            Err(Issue::new(path, Reason::InvalidSubject, why))
        }
        (Some(_), Some(_)) => {
            Err(Issue::new(path, Reason::InvalidSubject, "namespaces and pods exclude each other"))
        }
    }
}

/// Reads one peer.
pub(super) fn peer(path: &str, given: &Peers<'_>, issues: &mut Vec<Issue>) -> Result<Vec<Peer>, Issue> {
    known(path, given.other)?;
    let fields = [
        given.namespaces.is_some(),
        given.pods.is_some(),
        given.nodes.is_some(),
        given.networks.is_some(),
        given.domain_names,
    ];
    match fields.into_iter().filter(|set| *set).count() {
        0 => {
            return Err(Issue::new(path, Reason::InvalidPeer, "the peer is empty"));
        }
        1 => {}
        _ => return Err(Issue::new(path, Reason::InvalidPeer, "the peer's fields exclude each other")),
    }
    if let Some(given) = given.namespaces {
        return Ok(vec![Peer::Pods(all_of(&format!("{path}.namespaces"), given)?)]);
    }
    if let Some(given) = given.pods {
        return Ok(vec![Peer::Pods(some_of(&format!("{path}.pods"), given)?)]);
    }
    if let Some(given) = given.nodes {
        return Ok(vec![Peer::Nodes(selector(&format!("{path}.nodes"), given)?)]);
    }
    match given.networks {
        Some(given) => networks(&format!("{path}.networks"), given, issues),
        None => {
            let why = "peers by domain name are not supported";
            Err(Issue::new(format!("{path}.domainNames"), Reason::Unsupported, why))
        }
    }
}

/// The API server checks no selector of this kind.
fn selector(path: &str, given: &LabelSelector) -> Result<Selector, Issue> {
    label_selector::selector(path, given, Values::Checked)
}

fn all_of(path: &str, namespaces: &LabelSelector) -> Result<PodSet, Issue> {
    let namespaces = Namespaces::Matching(selector(path, namespaces)?);
    Ok(PodSet { namespaces, accounts: Selector::All, pods: Selector::All })
}

fn some_of(path: &str, given: &NamespacedPod) -> Result<PodSet, Issue> {
    known(path, &given.other)?;
    let namespaces = selector(&format!("{path}.namespaceSelector"), &given.namespace_selector)?;
    let pods = selector(&format!("{path}.podSelector"), &given.pod_selector)?;
    Ok(PodSet { namespaces: Namespaces::Matching(namespaces), accounts: Selector::All, pods })
}

fn networks(path: &str, given: &[String], issues: &mut Vec<Issue>) -> Result<Vec<Peer>, Issue> {
    if given.is_empty() {
        return Err(Issue::new(path, Reason::InvalidPeer, "the peer has no network"));
    }
    let one = |(index, text): (usize, &String)| {
        let path = format!("{path}[{index}]");
        let net =
            block(text).map_err(|why| Issue::new(&path, Reason::InvalidCIDR, format!("{text:?} {why}")))?;
        note_masked(&path, text, net, issues);
        Ok(Peer::Block { net: net.net, except: Vec::new() })
    };
    given.iter().enumerate().map(one).collect()
}

impl Peers<'_> {
    /// Whether they are what has no container ports, so that a port's name beside it has no meaning.
    pub(super) fn have_no_named_ports(&self) -> bool {
        self.nodes.is_some() || self.networks.is_some() || self.domain_names
    }
}

impl<'a> From<&'a IngressPeer> for Peers<'a> {
    fn from(peer: &'a IngressPeer) -> Self {
        Self {
            namespaces: peer.namespaces.as_ref(),
            pods: peer.pods.as_ref(),
            nodes: None,
            networks: None,
            domain_names: false,
            other: &peer.other,
        }
    }
}

impl<'a> From<&'a EgressPeer> for Peers<'a> {
    fn from(peer: &'a EgressPeer) -> Self {
        Self {
            namespaces: peer.namespaces.as_ref(),
            pods: peer.pods.as_ref(),
            nodes: peer.nodes.as_ref(),
            networks: peer.networks.as_deref(),
            domain_names: peer.domain_names.is_some(),
            other: &peer.other,
        }
    }
}
