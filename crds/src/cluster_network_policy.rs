//! Upstream's ClusterNetworkPolicy (`policy.networking.k8s.io/v1alpha2`, experimental channel of release v0.2.0), as far
//! as it is read here.
//!
//! Upstream asks that what an implementation does not know makes the rule fail closed, so nothing may be lost in reading:
//! words are text, and fields that are not known are kept in `other`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields that are not known here, with their values.
pub type Other = BTreeMap<String, Value>;

/// What an administrator asks of pods of the whole cluster.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[kube(
    group = "policy.networking.k8s.io",
    version = "v1alpha2",
    kind = "ClusterNetworkPolicy",
    plural = "clusternetworkpolicies",
    shortname = "cnp",
    schema = "disabled",
    status = "ClusterNetworkPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What an administrator asks of pods of the whole cluster."
)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicySpec {
    /// Admin or Baseline.
    pub tier: String,
    /// Lower is asked first: 0 to 1000.
    pub priority: i32,
    /// The pods it is about.
    pub subject: Subject,
    /// Rules for packets to them, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<IngressRule>,
    /// Rules for packets from them, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<EgressRule>,
}

/// The pods that a policy is about: one of its fields is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subject {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// Pods by label in namespaces by label.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPod {
    /// Which namespaces; all where empty.
    pub namespace_selector: LabelSelector,
    /// Which pods there; all where empty.
    pub pod_selector: LabelSelector,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// A rule for packets to the subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressRule {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Accept, Deny or Pass.
    pub action: String,
    /// Where from: one of these.
    pub from: Vec<IngressPeer>,
    /// One of these; every protocol where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// A rule for packets from the subject.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressRule {
    /// For people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Accept, Deny or Pass.
    pub action: String,
    /// Where to: one of these.
    pub to: Vec<EgressPeer>,
    /// One of these; every protocol where empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protocols: Vec<Protocol>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// Where a packet to the subject may come from: one field is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// Where a packet from the subject may go to: one field is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EgressPeer {
    /// All pods of these namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPod>,
    /// These nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// These networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// What these names stand for, which is not supported here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// A protocol with its ports, or a port's name: one field is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Protocol {
    /// TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Ports>,
    /// UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<Ports>,
    /// SCTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Ports>,
    /// A container port's name, of whatever protocol carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// The ports of a protocol.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ports {
    /// The destination's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<Port>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// A port or a range: one field is set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// Several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<Range>,
    /// What is not known here.
    #[serde(flatten)]
    pub other: Other,
}

/// Ports from `start` to `end`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Range {
    /// The first.
    pub start: i32,
    /// The last.
    pub end: i32,
}

/// What became of a policy: upstream has room for conditions alone.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterNetworkPolicyStatus {
    /// Accepted and Programmed, as of our own kinds. Upstream's list is a map by type: other controllers may add theirs.
    pub conditions: Vec<Condition>,
}
