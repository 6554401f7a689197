//! What the compiler is given: parsed objects, without strings that still have to be understood.
//!
//! The edge (the operator's conversion) parses once. What it could not read it says in these types, so that every
//! unreadable part has its fail-closed meaning here and can't be forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::compiled::{Action, End, Family, NamedPort, PolicyKey, PortRange};
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

/// An object's place in the cluster; the namespace is empty where the object is cluster-scoped.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The object's namespace.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceAccount {
    /// Its labels. [`given::NAME`] is its name, whatever is here.
    pub labels: Labels,
}

/// A NetworkSet, or a GlobalNetworkSet where its key names no namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkSet {
    /// Its labels. [`given::NAMESPACE`] is its namespace, if it has one, whatever is here.
    pub labels: Labels,
    /// Its networks, host bits masked; they may overlap.
    pub nets: Vec<IpNet>,
}

/// What one EndpointSlice says of a Service's backends: every address with every port, ready or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backends {
    /// The Service's name; its namespace is the slice's.
    pub service: Arc<str>,
    /// Addresses of the endpoints, canonical.
    pub addresses: BTreeSet<IpAddr>,
    /// IANA protocol and port.
    pub ports: BTreeSet<(u8, u16)>,
    /// IANA protocols of which every port is meant: those of ports without a number.
    pub whole: BTreeSet<u8>,
}

/// A network that pods get their addresses from. A disabled one is none the less a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// The network, host bits masked.
    pub net: IpNet,
    /// What leaves all pools from this one is given its node's address.
    pub nat_outgoing: bool,
    /// The nodes that do so.
    pub nodes: Selector,
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

/// Pods, by namespace, by service account and by label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodSet {
    /// In which namespaces.
    pub namespaces: Namespaces,
    /// Which service accounts they run as, by the account's labels and [`given::NAME`]. An account without an object
    /// has no other label.
    pub accounts: Selector,
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

/// NetworkSets by label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetSelection {
    /// The NetworkSets of these namespaces; None means the GlobalNetworkSets.
    pub namespaces: Option<Namespaces>,
    /// Which of them.
    pub sets: Selector,
}

/// A rule: a packet matches when every part does. `source` and `destination` are the two ends; for NetworkPolicy the
/// judged endpoint's own end is [`Entity::default`], which matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What happens to a packet that matches.
    pub action: Action,
    /// Only packets of this family.
    pub family: Option<Family>,
    /// Conditions on protocol and ports, all of which must hold.
    pub ports: Vec<PortTerm>,
    /// Where from.
    pub source: Entity,
    /// Where to.
    pub destination: Entity,
}

/// One end of a rule: conditions on its address, all of which must hold. Without one any address matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entity {
    /// The conditions.
    pub terms: Vec<PeerTerm>,
}

/// One condition on an address: one of the peers contains it, or, negated, none does. Without a peer none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTerm {
    /// No peer may contain the address.
    pub negated: bool,
    /// The peers.
    pub peers: Vec<Peer>,
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
    /// Networks of sets by label.
    Sets(SetSelection),
    /// The addresses of a Service's backends.
    Backends(Key),
    /// The addresses of nodes by label.
    Nodes(Selector),
    /// What could not be read: contains nothing.
    Nothing,
}

/// One condition on protocol and ports: one of the entries holds, or, negated, none does. Without an entry none does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortTerm {
    /// Whose port is looked at.
    pub end: End,
    /// No entry may hold.
    pub negated: bool,
    /// The entries.
    pub ports: Vec<Ports>,
}

/// One entry of a [`PortTerm`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// Every port of this protocol (IANA number); for protocols without ports, the protocol. 1 is IPv4's ICMP alone,
    /// 58 IPv6's.
    Protocol(u8),
    /// Ports of this protocol by number, inclusive.
    Range(u8, PortRange),
    /// The container port of that name and protocol, on the pod at that end.
    Named(NamedPort),
    /// ICMP (1) or ICMPv6 (58) by type and code; any code where None.
    Icmp(u8, u8, Option<u8>),
    /// The address, protocol and port of one of a Service's backends.
    Backends(Key),
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
    /// A service account.
    ServiceAccount(Key, Option<ServiceAccount>),
    /// A NetworkSet or GlobalNetworkSet.
    NetworkSet(Key, Option<NetworkSet>),
    /// An EndpointSlice of a Service.
    Backends(Key, Option<Backends>),
    /// An IPPool by name.
    Pool(Arc<str>, Option<Pool>),
}

/// Labels that objects have by what they are. The keys are none that an object could carry itself, so that nobody can
/// forge them; the edge reads `projectcalico.org/...` and `selvage.io/...` in our own selectors as these, and in no
/// others.
pub mod given {
    /// The namespace's name, of pods and NetworkSets.
    pub const NAMESPACE: &str = "@namespace";
    /// The service account's name, of pods.
    pub const SERVICE_ACCOUNT: &str = "@serviceaccount";
    /// `k8s`, of pods.
    pub const ORCHESTRATOR: &str = "@orchestrator";
    /// The object's own name, of namespaces and service accounts.
    pub const NAME: &str = "@name";

    /// Whether a key is one of these.
    pub fn is_given(key: &str) -> bool {
        key.starts_with('@')
    }
}

impl Entity {
    /// The end of a NetworkPolicy rule: any of these peers.
    pub fn any_of(peers: Vec<Peer>) -> Self {
        Self { terms: vec![PeerTerm { negated: false, peers }] }
    }
}

impl PortTerm {
    /// The ports of a NetworkPolicy rule: any of these at the destination.
    pub fn any_of(ports: Vec<Ports>) -> Self {
        Self { end: End::Destination, negated: false, ports }
    }
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
