//! policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.

mod peer;
mod port;
mod unknown;

use selvage_crds::ClusterNetworkPolicy;
use selvage_crds::cluster_network_policy::{Other, Protocol};
use selvage_policy::compiled::{Action, PolicyKind};
use selvage_policy::model::{Entity, Order, Peer, Policy, PortTerm, Rule};
use selvage_policy::tier;

use self::peer::{Peers, peer, subject};
use self::port::protocol;
use self::unknown::known;
use super::closed::closed;
use super::result::{Converted, Identity};
use super::{Issue, Reason};

/// A rule of either direction.
struct Given<'a> {
    path: String,
    /// The field of its peers.
    field: &'static str,
    action: &'a str,
    peers: Vec<Peers<'a>>,
    protocols: &'a [Protocol],
    other: &'a Other,
}

/// Reads a ClusterNetworkPolicy; None for an object without name, which no API server hands out.
pub fn cluster_network_policy(object: &ClusterNetworkPolicy) -> Option<Converted> {
    let identity = Identity::of(PolicyKind::ClusterNetworkPolicy, &object.metadata)?;
    let spec = &object.spec;
    let mut issues = Vec::new();
    let mut or_not_enforced = |mut issue: Issue| {
        issue.message.push_str(": the policy is not enforced");
        issues.push(issue);
    };
    let tier = tier(&spec.tier).map_err(&mut or_not_enforced).ok();
    let subject = subject("spec.subject", &spec.subject).map_err(&mut or_not_enforced).ok();
    let mut ingress = Vec::with_capacity(spec.ingress.len());
    for (index, given) in spec.ingress.iter().enumerate() {
        let rule = Given {
            path: format!("spec.ingress[{index}]"),
            field: "from",
            action: &given.action,
            peers: given.from.iter().map(Peers::from).collect(),
            protocols: &given.protocols,
            other: &given.other,
        };
        ingress.push(rule.read(&mut issues, |peers| (peers, Entity::default())));
    }
    let mut egress = Vec::with_capacity(spec.egress.len());
    for (index, given) in spec.egress.iter().enumerate() {
        let rule = Given {
            path: format!("spec.egress[{index}]"),
            field: "to",
            action: &given.action,
            peers: given.to.iter().map(Peers::from).collect(),
            protocols: &given.protocols,
            other: &given.other,
        };
        egress.push(rule.read(&mut issues, |peers| (Entity::default(), peers)));
    }
    let policy = tier.zip(subject).map(|(tier, subject)| Policy {
        uid: identity.uid.clone(),
        generation: identity.generation,
        tier: tier.into(),
        order: Order::new(f64::from(spec.priority)),
        subject,
        ingress: (!ingress.is_empty()).then_some(ingress),
        egress: (!egress.is_empty()).then_some(egress),
    });
    Some(identity.converted(policy, issues))
}

fn tier(given: &str) -> Result<&'static str, Issue> {
    match given {
        "Admin" => Ok(tier::KUBE_ADMIN),
        "Baseline" => Ok(tier::KUBE_BASELINE),
        other => {
            let message = format!("{other:?} is neither Admin nor Baseline");
            Err(Issue::new("spec.tier", Reason::InvalidTier, message))
        }
    }
}

impl Given<'_> {
    /// Reads it; a rule that can't be read fails closed as a whole. `ends` says at which end the peers are.
    fn read(&self, issues: &mut Vec<Issue>, ends: impl FnOnce(Entity) -> (Entity, Entity)) -> Rule {
        let mut found = Vec::new();
        let action = self.action(&mut found);
        found.extend(known(&self.path, self.other).err());
        let peers = self.peers(&mut found);
        let ports = self.ports(&mut found);
        let rule = match action {
            Some(action) if found.iter().all(Issue::is_note) => {
                let (source, destination) = ends(Entity::any_of(peers));
                Rule { action, family: None, ports, source, destination }
            }
            _ => closed(action, &mut found),
        };
        issues.append(&mut found);
        rule
    }

    fn action(&self, found: &mut Vec<Issue>) -> Option<Action> {
        match self.action {
            "Accept" => Some(Action::Allow),
            "Deny" => Some(Action::Deny),
            "Pass" => Some(Action::Pass),
            other => {
                let message = format!("{other:?} is none of Accept, Deny and Pass");
                found.push(Issue::new(format!("{}.action", self.path), Reason::InvalidAction, message));
                None
            }
        }
    }

    fn peers(&self, found: &mut Vec<Issue>) -> Vec<Peer> {
        let path = format!("{}.{}", self.path, self.field);
        if self.peers.is_empty() {
            found.push(Issue::new(&path, Reason::InvalidPeer, "the rule has no peer"));
        }
        let mut read = Vec::new();
        for (index, given) in self.peers.iter().enumerate() {
            match peer(&format!("{path}[{index}]"), given, found) {
                Ok(peers) => read.extend(peers),
                Err(issue) => found.push(issue),
            }
        }
        read
    }

    fn ports(&self, found: &mut Vec<Issue>) -> Vec<PortTerm> {
        let unnamed = self.peers.iter().any(Peers::have_no_named_ports);
        let mut ports = Vec::new();
        for (index, given) in self.protocols.iter().enumerate() {
            let path = format!("{}.protocols[{index}]", self.path);
            match protocol(&path, given) {
                Ok(_) if unnamed && given.destination_named_port.is_some() => {
                    let why = "nodes, networks and domain names have no named ports";
                    found.push(Issue::new(format!("{path}.destinationNamedPort"), Reason::InvalidPort, why));
                }
                Ok(entries) => ports.extend(entries),
                Err(issue) => found.push(issue),
            }
        }
        if self.protocols.is_empty() { Vec::new() } else { vec![PortTerm::any_of(ports)] }
    }
}
