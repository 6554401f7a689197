//! Rules as users write them in our own policies, with Calico's v3 field names.
//!
//! What the API server can check within its limits is checked here; networks in rules, and their families, are checked by
//! the chart's ValidatingAdmissionPolicy `selvage-policies`; the rest the operator reports and closes.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::{cel, declared, limit, net, pattern, ports};

/// A rule: a packet matches when every field holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(cel::ICMP_NEEDS_PROTOCOL)
    .message("icmp and notICMP need protocol: ICMP or ICMPv6"))]
#[x_kube(validation = Rule::new(cel::ICMP_FAMILY)
    .message("protocol ICMP is IPv4's and ICMPv6 is IPv6's: leave ipVersion out, or make it fit"))]
#[x_kube(validation = Rule::new(cel::PORTS_NEED_PROTOCOL)
    .message("ports by number need protocol: TCP, UDP or SCTP; with another protocol there are no ports at all"))]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What happens to a packet that matches. Allow and Deny decide, Pass leaves it to the next tier, Log notes it and
    /// goes on with the next rule.
    #[serde(default)]
    #[schemars(!default, extend("enum" = ["Allow", "Deny", "Pass", "Log"]))]
    pub action: String,
    /// The packet's protocol: TCP, UDP, SCTP, ICMP (of IPv4), ICMPv6, UDPLite, or a number from 1 to 255.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = limit::PROTOCOL))]
    #[x_kube(validation = Rule::new(cel::PROTOCOL).message(cel::PROTOCOL_MESSAGE))]
    pub protocol: Option<IntOrString>,
    /// A protocol that the packet does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxLength" = limit::PROTOCOL))]
    #[x_kube(validation = Rule::new(cel::PROTOCOL).message(cel::PROTOCOL_MESSAGE))]
    pub not_protocol: Option<IntOrString>,
    /// The packet's ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// An ICMP type and code that the packet does not have.
    #[serde(default, rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<Icmp>,
    /// The packet's family: 4 or 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [4, 6]))]
    pub ip_version: Option<i32>,
    /// Where the packet comes from.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where the packet goes to.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// Calico's, and refused: nothing here reads HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::object")]
    #[x_kube(validation = Rule::new("false").message(
        "is not supported, there is no application layer policy here: remove it, and say with ports what may pass"
    ))]
    pub http: Option<declared::Object>,
    /// Calico's, and refused: nothing here reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::object")]
    #[x_kube(validation = Rule::new("false").message(
        "is not supported: remove it, and describe the rule in an annotation of the policy"
    ))]
    pub metadata: Option<declared::Object>,
}

/// An ICMP type, or a type and a code.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("!has(self.code) || has(self.type)").message("code needs type"))]
#[serde(rename_all = "camelCase")]
pub struct Icmp {
    /// The type: 8 is an echo request, 128 ICMPv6's.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub type_: Option<i64>,
    /// The code; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 255))]
    pub code: Option<i64>,
}

/// One end of a rule: all of its fields must hold. Without one, any address and port.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new(cel::SERVICES_ALONE).message(
    "services excludes nets, notNets, selector, notSelector, namespaceSelector and serviceAccounts: make another rule of them"
))]
#[serde(rename_all = "camelCase")]
pub struct EntityRule {
    /// The address lies in one of these networks, or is one of these addresses. Host bits are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "net::few")]
    pub nets: Vec<String>,
    /// The address lies in none of these networks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "net::few")]
    pub not_nets: Vec<String>,
    /// The address is that of a pod, or lies in a set, whose labels match. `all()` is every pod and set, not every
    /// address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub selector: Option<String>,
    /// The address is that of no pod, and in no set, whose labels match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub not_selector: Option<String>,
    /// Pods and NetworkSets of namespaces whose labels match; `global()`, alone, means GlobalNetworkSets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::GLOBAL_ALONE).message(
        "global() stands alone: one rule for global() and one for the namespaces"
    ))]
    pub namespace_selector: Option<String>,
    /// Pods that run as one of these accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
    /// The backends of a Service, as the destination of egress rules, with their ports, or the source of ingress rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// The port is one of these: numbers, ranges such as "80:90", or names of container ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub ports: Vec<IntOrString>,
    /// The port is none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "ports")]
    pub not_ports: Vec<IntOrString>,
    /// Calico's, and refused: nothing here follows DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::list")]
    #[x_kube(validation = Rule::new("false").message(
        "is not supported, there is no policy by domain name here: remove it, and list the networks in nets or a NetworkSet"
    ))]
    pub domains: Option<Vec<String>>,
}

/// Service accounts that have one of the names, where any is given, and match the selector.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountMatch {
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limit::NAMES), inner(length(min = 1, max = 253), regex(pattern = pattern::NAME)))]
    pub names: Vec<String>,
    /// Their labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub selector: Option<String>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMatch {
    /// Its name.
    #[serde(default)]
    #[schemars(!default, length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub name: String,
    /// Its namespace: the policy's own where absent, and never absent in a GlobalNetworkPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = pattern::LABEL))]
    pub namespace: Option<String>,
}

impl EntityRule {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
