//! NodePolicy: all that one node enforces (the operator's wish), and what its agent made of it (the report).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use selvage_policy::compiled::PolicyKey;
use serde::{Deserialize, Serialize};

use crate::Basis;
use crate::rules::Rule;
use crate::schema::pattern;

/// What a node enforces. Lists refer to each other: an endpoint to its profile by id, a profile to policies by index,
/// rules to groups by name.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "NodePolicy",
    plural = "nodepolicies",
    shortname = "nodepol",
    category = "selvage",
    namespaced,
    status = "NodePolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "All that one node enforces, named after the node. The operator writes the spec, the node's agent the status.",
    printcolumn(name = "Endpoints", type_ = "integer", json_path = ".status.counts.endpoints"),
    printcolumn(name = "Rules", type_ = "integer", json_path = ".status.counts.rules"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].reason"
    ),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agentVersion", priority = 1),
    printcolumn(name = "Elements", type_ = "integer", json_path = ".status.counts.elements", priority = 1),
    printcolumn(name = "Error", type_ = "string", json_path = ".status.lastError.message", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct NodePolicySpec {
    /// The version of this encoding. An agent applies only formats that it reports in `status.formats`.
    pub format: u32,
    /// The digest of the meaning of everything below. An agent recomputes it over what it read: a field that was
    /// pruned on the way, or that it does not know, can't go unnoticed.
    #[schemars(regex(pattern = pattern::HEX32))]
    pub digest: String,
    /// A hash over name, uid and generation of every policy in `policies`. The agent echoes it once they stand.
    #[schemars(regex(pattern = pattern::HEX16))]
    pub policy_set: String,
    /// The resourceVersions that this was computed from, by kind.
    pub basis: Basis,
    /// Remove everything from the node's kernel and keep it so; nothing else does. Set by uninstalling.
    pub teardown: bool,
    /// The node's endpoints, by namespace and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub endpoints: Vec<Endpoint>,
    /// The profiles that endpoints name, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub profiles: Vec<Profile>,
    /// The policies that profiles name by their index here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384))]
    pub policies: Vec<Policy>,
    /// The address groups that rules name, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384), inner(regex(pattern = pattern::HEX32)))]
    pub groups: Vec<String>,
    /// What the node masquerades; nothing where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masquerade: Option<Masquerade>,
}

/// Connections from some addresses to none of others get the node's address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Masquerade {
    /// Networks that they come from, sorted.
    #[schemars(length(max = 16384), inner(regex(pattern = pattern::CIDR)))]
    pub from: Vec<String>,
    /// Networks that they must not go to, sorted: every pool.
    #[schemars(length(max = 16384), inner(regex(pattern = pattern::CIDR)))]
    pub inside: Vec<String>,
}

/// A pod on the node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The pod's namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// The pod's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The pod's uid.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
    /// The id of the profile that judges it.
    #[schemars(regex(pattern = pattern::HEX16))]
    pub profile: String,
    /// Its addresses, sorted; empty while it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(regex(pattern = pattern::ADDRESS)))]
    pub addresses: Vec<String>,
}

/// What judges endpoints: the tiers that count in each direction.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// A hash of the profile's content.
    #[schemars(regex(pattern = pattern::HEX16))]
    pub id: String,
    /// Tiers that count for packets to the endpoint, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub ingress: Vec<TierStep>,
    /// Tiers that count for packets from the endpoint, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub egress: Vec<TierStep>,
    /// The endpoint's own named ports, by protocol and name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub named_ports: Vec<NamedPort>,
}

/// One tier of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TierStep {
    /// The tier's name.
    #[schemars(length(min = 1, max = 253))]
    pub tier: String,
    /// What happens when no rule decides: Deny or Pass.
    #[schemars(extend("enum" = ["Deny", "Pass"]))]
    pub default_action: String,
    /// Indices into `spec.policies`, in the order they are judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384))]
    pub policies: Vec<u32>,
}

/// The ports that carry a name on an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamedPort {
    /// The IANA protocol number.
    pub protocol: u8,
    /// The name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The ports, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ports: Vec<u16>,
}

/// A policy and its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The object's kind.
    #[schemars(extend("enum" = [
        "NetworkPolicy", "ClusterNetworkPolicy", "GlobalNetworkPolicy", "SelvageNetworkPolicy"
    ]))]
    pub kind: String,
    /// The object's namespace; absent where it is cluster-scoped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The object's uid.
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
    /// The object's generation that these rules came from.
    pub generation: i64,
    /// Rules for packets to the endpoint, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 65536))]
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 65536))]
    pub egress: Vec<Rule>,
}

/// What the node's agent reports: on change, at most once a second.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePolicyStatus {
    /// Ready (the agent works) and Programmed (the kernel holds `digest`).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation of this object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `spec.digest` of what the kernel holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = pattern::HEX32))]
    pub digest: Option<String>,
    /// `spec.policySet` of what the kernel holds, except for the policies in `notProgrammed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = pattern::HEX16))]
    pub policy_set: Option<String>,
    /// How many transactions the agent has committed since it started.
    #[serde(default)]
    pub revision: u64,
    /// The formats that the agent reads; the operator writes the newest of them.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub formats: Vec<u32>,
    /// How much the kernel holds.
    #[serde(default)]
    pub counts: Counts,
    /// What went wrong last; absent once all is well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<LastError>,
    /// Policies that do not stand as they should, the first [`MAX_NOT_PROGRAMMED`] of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_NOT_PROGRAMMED))]
    pub not_programmed: Vec<NotProgrammed>,
    /// How many policies do not stand as they should. Where it is more than are listed, none of the node's policies
    /// can be called programmed.
    #[serde(default)]
    pub not_programmed_total: u32,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,
    /// Addresses of the pod network that are the node's own: the bridge's, the tunnel's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(regex(pattern = pattern::ADDRESS)))]
    pub addresses: Vec<String>,
    /// Which address groups the kernel holds; absent where an agent does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_groups: Option<AppliedGroups>,
}

/// How many entries [`NodePolicyStatus::not_programmed`] holds at most.
pub const MAX_NOT_PROGRAMMED: usize = 64;
/// How many entries [`AppliedGroups::pending`] holds at most.
pub const MAX_PENDING_GROUPS: usize = 32;

/// Which address groups the kernel holds: everything that the AddressGroup objects of the node's bucket say up to a
/// resourceVersion, save for the groups that are pending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedGroups {
    /// The highest resourceVersion of an AddressGroup whose content is in the kernel; absent where there is none.
    #[serde(default)]
    #[schemars(length(max = 32))]
    pub resource_version: Option<String>,
    /// Groups of which something newer is known than the kernel holds, because slices are missing or can't be read; the
    /// first [`MAX_PENDING_GROUPS`] of them.
    #[serde(default)]
    #[schemars(length(max = MAX_PENDING_GROUPS), inner(regex(pattern = pattern::HEX32)))]
    pub pending: Vec<String>,
    /// How many groups are pending. Where it is more than are listed, no group can be said to be in the kernel.
    #[serde(default)]
    pub pending_total: u32,
}

/// How much the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    /// Endpoints that have an address and a profile in the kernel.
    pub endpoints: u32,
    /// Rules.
    pub rules: u32,
    /// Elements of sets and maps.
    pub elements: u32,
    /// Address groups.
    pub groups: u32,
}

/// An error and when it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// What went wrong.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When.
    pub time: Time,
}

/// A policy that does not stand as it should.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotProgrammed {
    /// Which.
    pub policy: PolicyRef,
    /// One of [`crate::conditions::reason`].
    #[schemars(length(min = 1, max = 128))]
    pub reason: String,
    /// For people.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A policy by kind and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// The object's kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Its namespace; absent where it is cluster-scoped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl From<&PolicyKey> for PolicyRef {
    fn from(key: &PolicyKey) -> Self {
        Self { kind: key.kind.to_string(), namespace: key.namespace.to_string(), name: key.name.to_string() }
    }
}

impl PolicyRef {
    /// Whether this names that policy.
    pub fn is(&self, key: &PolicyKey) -> bool {
        *self == Self::from(key)
    }
}
