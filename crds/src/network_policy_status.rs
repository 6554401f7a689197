//! NetworkPolicyStatus: what became of a NetworkPolicy, whose own status upstream removed in Kubernetes 1.28.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a NetworkPolicyStatus is about. Its namespace and name are the policy's.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "NetworkPolicyStatus",
    plural = "networkpolicystatuses",
    singular = "networkpolicystatus",
    shortname = "netpolstatus",
    shortname = "nps",
    category = "selvage",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "What became of the NetworkPolicy of the same namespace and name, which owns it. Written by the operator.",
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary"),
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.endpoints"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyStatusSpec {
    /// The policy's uid: what is left of a deleted policy says nothing about the next one of the same name.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
}

/// What became of a policy.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Accepted (it was understood) and Programmed (it stands on every node concerned).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The policy's generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The nodes that have endpoints it selects.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// How many endpoints it selects.
    #[serde(default)]
    pub endpoints: u32,
}

/// On how many nodes a policy stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeCounts {
    /// `programmed/desired`, for people.
    #[schemars(length(max = 32))]
    pub summary: String,
    /// Nodes that it concerns.
    pub desired: u32,
    /// Nodes where it stands.
    pub programmed: u32,
    /// Nodes that reported that they could not.
    pub failed: u32,
    /// Nodes where it does not stand, failed ones first, at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_NODES))]
    pub details: Vec<NodeDetail>,
}

/// How many nodes [`NodeCounts::details`] names at most.
pub const MAX_NODES: usize = 10;

/// A node where a policy does not stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeDetail {
    /// The node's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Why, in one word.
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// For people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl NodeCounts {
    /// Counts with their summary, and the first [`MAX_NODES`] of `details`.
    pub fn new(desired: u32, programmed: u32, failed: u32, mut details: Vec<NodeDetail>) -> Self {
        details.truncate(MAX_NODES);
        Self { summary: format!("{programmed}/{desired}"), desired, programmed, failed, details }
    }
}
