//! What the compiler is given: parsed objects, without strings that still have to be understood.
//!
//! The edge (the operator's conversion) parses once. What it could not read it says in these types, so that every
//! unreadable part has its fail-closed meaning here and can't be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::compiled::{Action, Family, NamedPort, PolicyKey, PortRange};
use crate::selector::Selector;

/// Labels of an object.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespace {
    /// Its labels. The engine sets `kubernetes.io/metadata.name` to the namespace's name, whatever is here.
    pub labels: Labels,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Its labels.
    pub labels: Labels,
    /// The pod blocks it owns (`spec.podCIDRs`).
    pub blocks: Vec<IpNet>,
    /// The IPs in `status.addresses`.
    pub addresses: BTreeSet<IpAddr>,
}

/// A pod off the host network that is bound to a node and has not finished.
///
/// The edge hands every other pod to the engine as absent: pods on the host network are their node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.creationTimestamp` in seconds: of two live pods with one address the newer has it, after the pod
    /// whose node owns the block.
    pub created: i64,
    /// The node it is bound to.
    pub node: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// The name of its service account.
    pub service_account: Arc<str>,
    /// `status.podIPs`, canonical; empty before the CNI has given any. A list that turns empty later (of the same uid)
    /// leaves the addresses that the engine has.
    pub addresses: BTreeSet<IpAddr>,
    /// Ports of containers and init containers that have a name.
    pub named_ports: BTreeMap<NamedPort, BTreeSet<u16>>,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Lower is asked first; None comes last.
    pub order: Option<Order>,
    /// [`Action::Deny`] or [`Action::Pass`].
    pub default_action: Action,
}

/// A policy's or tier's `order`: a finite number, compared as numbers are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order(f64);

/// One policy of any kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.generation`.
    pub generation: i64,
    /// The tier it belongs to. In a tier that does not exist it is not enforced.
    pub tier: Arc<str>,
    /// Its place in the tier; None comes last.
    pub order: Option<Order>,
    /// Which endpoints it selects.
    pub subject: PodSet,
    /// Rules for packets to the endpoints; None where the policy says nothing of that direction.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for packets from the endpoints.
    pub egress: Option<Vec<Rule>>,
}

/// Pods, by namespace and by label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSet {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which pods there.
    pub pods: Selector,
}

/// Namespaces by name or by label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Namespaces {
    /// This one.
    Named(Arc<str>),
    /// Those whose labels match.
    Matching(Selector),
}

/// A rule. `source` and `destination` are the two ends; for NetworkPolicy the judged endpoint's own end is
/// [`Entity::default`], which matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens to a packet that matches.
    pub action: Action,
    /// Only packets of this family.
    pub family: Option<Family>,
    /// Protocols and ports, any of which must match; an empty list means every one. A rule all of whose ports were
    /// unreadable carries [`Ports::Nothing`].
    pub ports: Vec<Ports>,
    /// Where from.
    pub source: Entity,
    /// Where to.
    pub destination: Entity,
}

/// One end of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entity {
    /// Any of these peers; None means any address at all, an empty list means none.
    pub peers: Option<Vec<Peer>>,
}

/// One peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An ipBlock: the address lies in `net` and in none of `except`. Host bits are masked.
    Block {
        /// The network.
        net: IpNet,
        /// Parts of it that are left out.
        except: Vec<IpNet>,
    },
    /// Pods by label.
    Pods(PodSet),
    /// What could not be read: matches nothing.
    Nothing,
}

/// One entry of a rule's ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Every port of this protocol (IANA number); for protocols without ports, the protocol.
    Protocol(u8),
    /// Ports of this protocol by number, inclusive.
    Range(u8, PortRange),
    /// The container port of that name and protocol, on the destination pod.
    Named(NamedPort),
    /// What could not be read: matches nothing.
    Nothing,
}

/// One object that came, changed or went (None).
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A namespace by name.
    Namespace(Arc<str>, Option<Namespace>),
    /// A node by name.
    Node(Arc<str>, Option<Node>),
    /// A pod by namespace and name.
    Pod(crate::compiled::EndpointKey, Option<Pod>),
    /// A tier by name.
    Tier(Arc<str>, Option<Tier>),
    /// A policy.
    Policy(PolicyKey, Option<Policy>),
}

impl Order {
    /// An order; None where it is not a finite number. -0 is 0.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
