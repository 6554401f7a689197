//! What the compiler hands to a node: endpoints, profiles, policies and the address groups they name.
//!
//! These are the types that the operator publishes (through the wire codec of `selvage-crds`) and that the node
//! agent renders to nftables. They hold no selectors and no labels: every question about labels is answered before.
//! All lists are in a canonical order, so that equal meaning gives equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use crate::shared::Shared;

/// Everything that one node needs to know, except the members of the address groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodePolicy {
    /// The node's name.
    pub node: Arc<str>,
    /// Every endpoint on the node, by (namespace, name), those that no policy selects too: an endpoint that is not
    /// listed is closed.
    pub endpoints: BTreeMap<EndpointKey, Endpoint>,
    /// Profiles that [`Endpoint::profile`] refers to.
    pub profiles: BTreeMap<ProfileId, Shared<Profile>>,
    /// Policies that [`TierStep::policies`] refers to.
    pub policies: Shared<BTreeMap<PolicyKey, Arc<Policy>>>,
    /// Every group that the rules name, directly or in ports.
    pub groups: Shared<BTreeSet<GroupId>>,
    /// What this node masquerades; None where it masquerades nothing.
    pub masquerade: Option<Masquerade>,
}

/// Connections from some addresses to none of others get the node's address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Masquerade {
    /// Where they come from: host bits masked, sorted, none inside another.
    pub from: Vec<IpNet>,
    /// Where they must not go to, in the same form: every pool.
    pub inside: Vec<IpNet>,
}

/// A pod's place in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointKey {
    /// The pod's namespace.
    pub namespace: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
}

/// A pod on this node that policies are enforced for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod's uid: the same name with another uid is another endpoint.
    pub uid: Arc<str>,
    /// Which profile judges it.
    pub profile: ProfileId,
    /// Its addresses as the API server knows them, canonical and sorted, without those that another live pod owns;
    /// empty while the pod is bound but has none yet. On its own node the CNI result decides.
    pub addresses: Vec<IpAddr>,
}

/// A profile's name: a hash of its content, so that equal profiles are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileId(pub u64);

/// What judges an endpoint: an ordered list of tiers for each direction.
///
/// A direction with no step allows everything: nothing selects the endpoint there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Profile {
    /// Tiers that count for packets to the endpoint, in order.
    pub ingress: Vec<TierStep>,
    /// Tiers that count for packets from the endpoint, in order.
    pub egress: Vec<TierStep>,
    /// The endpoint's own named ports, for the names that its ingress rules use. A name that is absent, or carries
    /// no port of the rule's protocol, matches nothing.
    pub named_ports: BTreeMap<NamedPort, BTreeSet<u16>>,
}

/// One tier that counts for an endpoint and direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierStep {
    /// The tier's name.
    pub tier: Arc<str>,
    /// What happens when no rule of the step decides: [`Action::Deny`] or [`Action::Pass`].
    pub default_action: Action,
    /// Policies of the tier that select the endpoint for this direction, in the order they are judged.
    pub policies: Vec<PolicyKey>,
}

/// Which object a policy came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyKey {
    /// The object's kind.
    pub kind: PolicyKind,
    /// The object's namespace, empty where it is cluster-scoped.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

/// Kinds of objects that policies come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyKind {
    /// networking.k8s.io/v1 NetworkPolicy.
    NetworkPolicy,
    /// policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.
    ClusterNetworkPolicy,
    /// selvage.io GlobalNetworkPolicy.
    GlobalNetworkPolicy,
    /// selvage.io SelvageNetworkPolicy.
    SelvageNetworkPolicy,
}

/// A policy's rules, as every endpoint it selects shares them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// The object's uid.
    pub uid: Arc<str>,
    /// `metadata.generation` of the object that these rules were compiled from; reported back as
    /// `observedGeneration`.
    pub generation: i64,
    /// Rules for packets to the endpoint, in order.
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint, in order.
    pub egress: Vec<Rule>,
}

/// What a rule or a tier does with a packet that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The packet may pass; no later tier is asked.
    Allow,
    /// The packet is dropped silently.
    Deny,
    /// The next tier decides.
    Pass,
    /// The packet is noted, and the next rule is asked.
    Log,
}

/// One rule. A packet matches when every part does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which of the object's rules in that direction it came from, from 0. Rules that can match nothing are left out, and
    /// several in a row may have come from one; their matches may overlap.
    pub index: u32,
    /// What happens to a packet that matches.
    pub action: Action,
    /// Only packets of this family.
    pub family: Option<Family>,
    /// Conditions on protocol and ports, all of which must hold; one holds when one of its entries does.
    pub services: Vec<Vec<Service>>,
    /// Terms on the source address, all of which must hold.
    pub source: Vec<AddressTerm>,
    /// Terms on the destination address, all of which must hold.
    pub destination: Vec<AddressTerm>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// One condition on an address: it lies in one of the nets or is a member of one of the groups.
///
/// With neither nets nor groups nothing lies in it: the term is false, or true when negated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressTerm {
    /// The condition must not hold.
    pub negated: bool,
    /// Networks with their host bits masked, sorted, none inside another.
    pub nets: Vec<IpNet>,
    /// Groups of kind [`GroupKind::Addresses`], sorted.
    pub groups: Vec<GroupId>,
}

/// One condition on protocol and ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// An IP protocol by number (6 TCP, 17 UDP, 132 SCTP, ...), optionally with ports.
    Protocol {
        /// IANA protocol number. 1 means ICMP and matches IPv4 alone; 58 ICMPv6 and IPv6 alone.
        protocol: u8,
        /// Source ports: the packet's is in one of them (or in none, where negated).
        source_ports: Option<PortMatch>,
        /// Destination ports: the packet's is in one of them (or in none, where negated).
        destination_ports: Option<PortMatch>,
    },
    /// Every protocol but this one. As in [`Service::Protocol`], 1 is IPv4's and 58 IPv6's: it holds for every packet of
    /// the other family.
    NotProtocol(u8),
    /// ICMP (protocol 1) or ICMPv6 (protocol 58), by type and code.
    Icmp {
        /// 1 or 58.
        protocol: u8,
        /// The type.
        kind: u8,
        /// The code; any where absent.
        code: Option<u8>,
        /// The type and code must not match; the protocol still must.
        negated: bool,
    },
    /// Address, protocol and port of one end together are a member of a group of kind [`GroupKind::Ports`]: named
    /// ports of peers, and the ports of a Service's backends.
    Group {
        /// The group.
        group: GroupId,
        /// Whose address and port.
        end: End,
        /// They must be no member. A packet of a protocol without ports is none.
        negated: bool,
    },
}

/// One end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A set of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortMatch {
    /// The port must be in none of them.
    pub negated: bool,
    /// Inclusive ranges, sorted and disjoint.
    pub ranges: Vec<PortRange>,
    /// Names that the judged endpoint's own profile resolves (destination ports of ingress rules alone).
    pub names: Vec<NamedPort>,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port, not below the first.
    pub last: u16,
}

/// A container port's name and protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    /// IANA protocol number.
    pub protocol: u8,
    /// The name, as in the container's `ports[].name`.
    pub name: Arc<str>,
}

/// An address group's name: 128 bits of a hash over its kind, scope and selector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u128);

/// What the members of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// Addresses and networks.
    Addresses,
    /// Address, protocol and port together.
    Ports,
}

/// One member of a group; all members of one group are of its [`GroupKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// An address or network (host bits masked); a pod is a /32 or /128.
    Net(IpNet),
    /// Address, IANA protocol and port.
    Port(IpAddr, u8, u16),
}

impl Policy {
    /// Every group that the rules name, as often as they do.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.ingress.iter().chain(&self.egress).flat_map(|rule| {
            let terms = rule.source.iter().chain(&rule.destination);
            let addresses = terms.flat_map(|term| &term.groups).copied();
            let ports = rule.services.iter().flatten().filter_map(|service| match service {
                Service::Group { group, .. } => Some(*group),
                _ => None,
            });
            addresses.chain(ports)
        })
    }
}

impl Member {
    /// Its address; of a network the first.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Net(net) => net.addr(),
            Self::Port(address, ..) => *address,
        }
    }
}

impl GroupId {
    /// The 32 lower-case hexadecimal digits used in object and set names.
    pub fn parse(text: &str) -> Option<Self> {
        let digits =
            text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digits.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupId({self})")
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::SelvageNetworkPolicy => "SelvageNetworkPolicy",
        })
    }
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {}/{}", self.kind, namespace, self.name),
        }
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
