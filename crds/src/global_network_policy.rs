//! GlobalNetworkPolicy: a policy for pods of many namespaces.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::network_policy_status::PolicyStatus;
use crate::rule;
use crate::schema::{cel, declared, directions, limit, pattern};

/// A policy for pods of many namespaces.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "GlobalNetworkPolicy",
    plural = "globalnetworkpolicies",
    shortname = "gnp",
    category = "selvage",
    status = "PolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A policy for pods of many namespaces, in a tier and with an order.",
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
    printcolumn(name = "Order", type_ = "number", json_path = ".spec.order"),
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
pub struct GlobalNetworkPolicySpec {
    /// The tier it belongs to. In a tier that does not exist it is not enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = limit::TIER), regex(pattern = pattern::LABEL), extend("default" = "default"))]
    pub tier: Option<String>,
    /// Its place in the tier: lower is asked first, without one last. NetworkPolicies have 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// Which pods, by label. Every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub selector: Option<String>,
    /// Pods of which namespaces, by the namespaces' labels. Of every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub namespace_selector: Option<String>,
    /// Which pods, by the labels of their service account. Every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub service_account_selector: Option<String>,
    /// The directions it is about: Ingress, Egress. Where absent: Ingress if there are ingress rules or no rules at all,
    /// Egress if there are egress rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "directions")]
    #[x_kube(validation = Rule::new("self.size() < 2 || self[0] != self[1]").message("name each direction once"))]
    pub types: Vec<String>,
    /// Rules for packets to the pods, in order: the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::RULES))]
    #[x_kube(validation = Rule::new(cel::INGRESS_SERVICES).message(
        "destination.services is for egress rules: the destination of ingress rules is the policy's own pods"
    ))]
    #[x_kube(validation = Rule::new(cel::SOURCE_SERVICE_NAMESPACE).message(cel::SERVICE_NAMESPACE_MESSAGE))]
    pub ingress: Vec<rule::Rule>,
    /// Rules for packets from the pods, in order: the first that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::RULES))]
    #[x_kube(validation = Rule::new(cel::EGRESS_SERVICES).message(
        "source.services is for ingress rules: the source of egress rules is the policy's own pods"
    ))]
    #[x_kube(validation = Rule::new(cel::EGRESS_SERVICE_PORTS).message(
        "destination.services brings its own ports: remove ports and notPorts"
    ))]
    #[x_kube(validation = Rule::new(cel::DESTINATION_SERVICE_NAMESPACE).message(cel::SERVICE_NAMESPACE_MESSAGE))]
    pub egress: Vec<rule::Rule>,
    /// Calico's, and refused: pods' packets are always tracked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("false").message(declared::HOST_ENDPOINTS))]
    pub do_not_track: Option<bool>,
    /// Calico's, and refused: it is about host endpoints.
    #[serde(default, rename = "preDNAT", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("false").message(declared::HOST_ENDPOINTS))]
    pub pre_dnat: Option<bool>,
    /// Calico's, and refused: it is about host endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("false").message(declared::HOST_ENDPOINTS))]
    pub apply_on_forward: Option<bool>,
    /// Calico's, and refused: there is nothing to hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::list")]
    #[x_kube(validation = Rule::new("false").message("is not supported: remove it, every node knows what it needs"))]
    pub performance_hints: Option<Vec<String>>,
}
