//! NetworkSet and GlobalNetworkSet: lists of networks that rules choose by label.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network_policy_status::NodeCounts;
use crate::policy_uses::PolicyUses;
use crate::schema::{declared, net};

/// Networks that rules choose by label, of one namespace.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "NetworkSet",
    plural = "networksets",
    shortname = "netset",
    category = "selvage",
    namespaced,
    status = "SetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Networks that rules choose by label, of one namespace.",
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
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.members"),
    printcolumn(name = "Policies", type_ = "integer", json_path = ".status.policies.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSetSpec {
    /// The networks and addresses, of both families. They may overlap; host bits are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "net::many")]
    pub nets: Vec<String>,
    /// Calico's, and refused: nothing here follows DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::list")]
    #[x_kube(validation = Rule::new("false").message(
        "is not supported, there is no policy by domain name here: remove it, and list the networks in nets"
    ))]
    pub allowed_egress_domains: Option<Vec<String>>,
}

/// Networks that rules choose by label, of no namespace.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "GlobalNetworkSet",
    plural = "globalnetworksets",
    shortname = "gns",
    category = "selvage",
    status = "SetStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Networks that rules choose by label, of no namespace.",
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
    printcolumn(name = "Members", type_ = "integer", json_path = ".status.members"),
    printcolumn(name = "Policies", type_ = "integer", json_path = ".status.policies.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct GlobalNetworkSetSpec {
    /// The networks and addresses, of both families. They may overlap; host bits are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "net::many")]
    pub nets: Vec<String>,
    /// Calico's, and refused: nothing here follows DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::list")]
    #[x_kube(validation = Rule::new("false").message(
        "is not supported, there is no policy by domain name here: remove it, and list the networks in nets"
    ))]
    pub allowed_egress_domains: Option<Vec<String>>,
}

/// What became of a set of either kind.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetStatus {
    /// Accepted (all of it was understood) and Programmed (it is published to every node that needs it, where the
    /// policies that use it stand).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The nodes that need it.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// How many different networks it has.
    #[serde(default)]
    pub members: u32,
    /// The policies that use it.
    #[serde(default)]
    pub policies: PolicyUses,
}
