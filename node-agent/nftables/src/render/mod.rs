//! The ruleset that a node must have, as a pure function of what the operator wishes and what the node knows.
//!
//! The rules are those of the design's "The ruleset" and "Whatever the policies say". What can't be understood or is
//! not there yet never widens access: it is rendered closed and listed in [`Rendered::problems`].

mod address;
mod base;
pub mod bridge;
mod expr;
mod masquerade;
mod member;
pub mod owners;
mod ports;
mod profile;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_policy::compiled::{EndpointKey, GroupId, Member, NodePolicy, PolicyKey, ProfileId};

use crate::model::{Chain, Expr, Name, Rule, Ruleset, Set};
use crate::sorted::Sorted;

/// The address groups that are complete, with their members. A group that a rule names and that is absent here is not
/// complete yet, and the rule is rendered closed.
pub type Groups = BTreeMap<GroupId, Sorted<Member>>;

/// What the node knows by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalFacts {
    /// The pod-side interfaces: the bridge (flannel's `cni0`), or the host ends of routed pods.
    pub pod_interfaces: BTreeSet<Arc<str>>,
    /// The addresses of this node's pods, as the CNI results say, or the API where there are none. An endpoint of the
    /// node policy that is missing here stays closed; a pod here that is no endpoint of the node policy does too.
    pub addresses: BTreeMap<EndpointKey, BTreeSet<IpAddr>>,
}

/// Choices of whoever runs the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What happens to pods that the node does not know yet.
    pub unknown_pods: UnknownPods,
    /// Counters on rules that let packets pass, too. Those that drop or log always have one.
    pub count_allowed: bool,
    /// The NFLOG group of Log rules.
    pub log_group: u16,
}

/// What happens to pods that the node does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownPods {
    /// Nothing new to or from them passes.
    #[default]
    Closed,
    /// They are not judged; their sources must at least be routed to the interface they come from.
    Open,
}

/// A direction, seen from the judged endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Packets to the endpoint.
    Ingress,
    /// Packets from the endpoint.
    Egress,
}

/// The ruleset and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rendered {
    /// What the table must hold.
    pub ruleset: Ruleset,
    /// What the rule ids of profile chains stand for. The fixed rules of the base chains have speaking ids that are
    /// not listed here.
    pub origins: BTreeMap<Arc<str>, Origin>,
    /// What was rendered closed, sorted and without duplicates.
    pub problems: BTreeSet<Problem>,
}

/// What a rule of a profile chain stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A rule of a policy.
    Rule {
        /// The policy.
        policy: PolicyKey,
        /// Ingress or egress rules.
        direction: Direction,
        /// The rule's place among them in the object, from 0.
        index: u32,
    },
    /// A policy that the node policy names and does not hold: everything is dropped in its place.
    MissingPolicy(PolicyKey),
    /// A tier's default action.
    TierDefault {
        /// The tier's name.
        tier: Arc<str>,
        /// For which direction.
        direction: Direction,
    },
}

/// Something that could not be rendered as meant, and was rendered closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Problem {
    /// A rule names a group that is not complete yet: Allow matches nothing; Deny and Pass drop whatever the rest of
    /// the rule matches.
    GroupIncomplete {
        /// The policy.
        policy: PolicyKey,
        /// The group.
        group: GroupId,
    },
    /// A rule names a group whose members are of the other kind: rendered as [`Problem::GroupIncomplete`].
    GroupKind {
        /// The policy.
        policy: PolicyKey,
        /// The group.
        group: GroupId,
    },
    /// A profile names a policy that is not there: everything is dropped in its place.
    PolicyMissing {
        /// The policy.
        policy: PolicyKey,
    },
    /// An endpoint names a profile that is not there: the endpoint is closed.
    ProfileMissing {
        /// The endpoint.
        endpoint: EndpointKey,
    },
    /// A profile has more tiers in one direction than [`MAX_TIERS`]: its endpoints are closed in that direction.
    TooManyTiers {
        /// The profile.
        profile: ProfileId,
    },
    /// An address that can't be a pod's (multicast, loopback, link-local, unspecified, IPv4-mapped): left out.
    AddressUnusable {
        /// The endpoint.
        endpoint: EndpointKey,
        /// The address.
        address: IpAddr,
    },
    /// An address that another endpoint claims, too: closed, as it has no identity.
    AddressShared {
        /// One of the endpoints.
        endpoint: EndpointKey,
        /// The address.
        address: IpAddr,
    },
    /// A name that can't be an interface's: left out.
    InterfaceName {
        /// The name.
        name: Arc<str>,
    },
}

/// Tiers in one direction of a profile. The kernel allows chains to nest 16 deep, base chain included.
pub const MAX_TIERS: usize = 12;

impl Default for Settings {
    fn default() -> Self {
        Self { unknown_pods: UnknownPods::Closed, count_allowed: false, log_group: 32 }
    }
}

/// The ruleset for a node policy.
pub fn render(policy: &NodePolicy, groups: &Groups, facts: &LocalFacts, settings: &Settings) -> Rendered {
    let mut output = Rendered::default();
    profile::render(policy, groups, facts, settings, &mut output);
    base::render(facts, settings, &mut output);
    if let Some(wanted) = &policy.masquerade {
        masquerade::render(wanted, &mut output);
    }
    output.drop_unused_sets();
    output
}

/// What stands while the first ruleset is built: established connections and neighbour discovery pass, nothing new
/// passes from or to the pod side.
pub fn closed(facts: &LocalFacts, settings: &Settings) -> Ruleset {
    let mut output = Rendered::default();
    base::closed(facts, settings, &mut output);
    output.ruleset
}

impl Rendered {
    /// A set may have been made for an alternative that another condition of its rule then ruled out.
    fn drop_unused_sets(&mut self) {
        let rules = self.ruleset.chains.values().flat_map(|chain| &chain.rules);
        let used: BTreeSet<&Name> = rules
            .flat_map(|rule| &rule.expressions)
            .filter_map(|expression| match expression {
                Expr::Lookup { set, .. } | Expr::VerdictMap { map: set, .. } => Some(set),
                _ => None,
            })
            .collect();
        self.ruleset.sets.retain(|name, _| used.contains(name));
    }

    fn add_chain(&mut self, name: &Name, chain: Chain) {
        self.ruleset.chains.insert(name.clone(), chain);
    }

    fn add_set(&mut self, name: &Name, set: Set) {
        self.ruleset.sets.insert(name.clone(), set);
    }

    fn add_rule(&mut self, chain: &Name, rule: Rule) {
        self.ruleset.chains.entry(chain.clone()).or_default().rules.push(rule);
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GroupIncomplete { policy, group } => {
                write!(f, "{policy}: address group {group} is not complete yet")
            }
            Self::GroupKind { policy, group } => {
                write!(f, "{policy}: address group {group} has members of the wrong kind")
            }
            Self::PolicyMissing { policy } => write!(f, "{policy}: named by a profile and missing"),
            Self::ProfileMissing { endpoint } => write!(f, "{endpoint}: its profile is missing"),
            Self::TooManyTiers { profile } => write!(f, "profile {profile}: more than {MAX_TIERS} tiers"),
            Self::AddressUnusable { endpoint, address } => {
                write!(f, "{endpoint}: {address} can't be a pod's address")
            }
            Self::AddressShared { endpoint, address } => {
                write!(f, "{endpoint}: another pod claims {address}, too")
            }
            Self::InterfaceName { name } => write!(f, "{name:?} can't be an interface's name"),
        }
    }
}
