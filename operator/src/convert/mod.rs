//! API objects to the model, at the edge: parsed once, and what can't be read gets its fail-closed meaning here.
//!
//! Every function is pure. What an object says that means nothing sensible is told as [`Issue`]s with the path of
//! the field; it never becomes an error that loses the rest of the object.

mod cidr;
mod closed;
mod cluster_policy;
mod endpoint_slice;
mod label_selector;
mod network_policy;
mod network_set;
mod objects;
mod ours;
mod pool;
mod port;
mod result;
mod selector;
mod tier;

pub use cidr::{address, block};
pub use cluster_policy::cluster_network_policy;
pub use endpoint_slice::endpoint_slice;
pub use network_policy::network_policy;
pub use network_set::{global_network_set, network_set};
pub use objects::{labels, namespace, node, object_key, pod, pod_key, service_account};
pub use ours::{global_network_policy, selvage_network_policy};
pub use pool::ip_pool;
pub use result::{Converted, Read, unreadable};
pub use tier::tier;

use std::fmt;

/// Something that a policy says and that is not, or not literally, what is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The field, as `spec.ingress[0].from[1].ipBlock.cidr`.
    pub path: String,
    /// What is wrong with it.
    pub reason: Reason,
    /// One sentence for a person.
    pub message: String,
}

/// Why a field is not enforced as written. The names are constants that conditions and tests may rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A CIDR or address that can't be read.
    InvalidCIDR,
    /// An `except` entry that can't be read, or lies outside its `cidr`.
    InvalidExcept,
    /// A peer with no field that is known, or with fields that exclude each other.
    InvalidPeer,
    /// A port, port name or range that can't be read, or that has no meaning where it stands.
    InvalidPort,
    /// A protocol that can't be read.
    InvalidProtocol,
    /// An ICMP type or code that can't be read, or stands without its protocol.
    InvalidICMP,
    /// An IP version other than 4 and 6.
    InvalidIPVersion,
    /// A reference to a Service that is incomplete, or stands where none may.
    InvalidService,
    /// A selector that can't be read.
    InvalidSelector,
    /// A policy's subject with no field that is known, or with fields that exclude each other.
    InvalidSubject,
    /// An action that is none.
    InvalidAction,
    /// A tier that the kind of policy does not have.
    InvalidTier,
    /// A policy type other than Ingress and Egress.
    InvalidPolicyType,
    /// A field that is understood and not supported.
    Unsupported,
    /// The object can't be decoded at all.
    Unreadable,
    /// Host bits are set in a CIDR; it is read as its network. A note: nothing is lost.
    HostBitsMasked,
}

impl Issue {
    fn new(path: impl Into<String>, reason: Reason, message: impl Into<String>) -> Self {
        Self { path: path.into(), reason, message: message.into() }
    }

    /// Whether everything is enforced as meant, so that the policy is still accepted.
    pub fn is_note(&self) -> bool {
        self.reason == Reason::HostBitsMasked
    }
}

impl Reason {
    /// The name, as used for a condition's `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCIDR => "InvalidCIDR",
            Self::InvalidExcept => "InvalidExcept",
            Self::InvalidPeer => "InvalidPeer",
            Self::InvalidPort => "InvalidPort",
            Self::InvalidProtocol => "InvalidProtocol",
            Self::InvalidICMP => "InvalidICMP",
            Self::InvalidIPVersion => "InvalidIPVersion",
            Self::InvalidService => "InvalidService",
            Self::InvalidSelector => "InvalidSelector",
            Self::InvalidSubject => "InvalidSubject",
            Self::InvalidAction => "InvalidAction",
            Self::InvalidTier => "InvalidTier",
            Self::InvalidPolicyType => "InvalidPolicyType",
            Self::Unsupported => "Unsupported",
            Self::Unreadable => "Unreadable",
            Self::HostBitsMasked => "HostBitsMasked",
        }
    }
}

/// As conditions and Events have it: field, what is wrong, and the reason by which documents explain it.
impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.message, self.reason.as_str())
    }
}

#[cfg(test)]
mod tests;
