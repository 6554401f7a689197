//! Tier: which policies are asked first.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network_policy_status::NodeCounts;
use crate::policy_uses::PolicyUses;
use crate::schema::cel;

/// The finalizer that keeps a deleted tier until no policy is in it.
pub const FINALIZER: &str = "selvage.io/policies";

/// A step in the order in which policies are asked.
#[derive(CustomResource, Debug, Clone, PartialEq, Default, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "Tier",
    plural = "tiers",
    category = "selvage",
    status = "TierStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A step in the order in which policies are asked. kube-admin, default and kube-baseline always exist.",
    validation = Rule::new(cel::TIER_NAME).message(cel::TIER_NAME_MESSAGE),
    validation = Rule::new(cel::BUILT_IN_TIERS).message(cel::BUILT_IN_TIERS_MESSAGE),
    printcolumn(name = "Order", type_ = "number", json_path = ".spec.order"),
    printcolumn(name = "Default", type_ = "string", json_path = ".spec.defaultAction"),
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
    printcolumn(name = "Policies", type_ = "integer", json_path = ".status.policies.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct TierSpec {
    /// Its place among the tiers: lower is asked first, without one last, equal ones by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<f64>,
    /// What happens to a packet that no rule of the tier decides, where a policy of the tier selects the pod for that
    /// direction: Deny, or Pass to the next tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Deny", "Pass"], "default" = "Deny"))]
    pub default_action: Option<String>,
}

/// What became of a tier.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TierStatus {
    /// Accepted (it was understood) and Programmed (every node that needs it asks it where it says).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The nodes that have endpoints which a policy of the tier selects.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// The policies in it.
    #[serde(default)]
    pub policies: PolicyUses,
}
