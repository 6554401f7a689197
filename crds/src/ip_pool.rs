//! IPPool: a network that pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::network_policy_status::NodeCounts;
use crate::schema::{cel, declared, limit, pattern};

/// A pod network.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "IPPool",
    plural = "ippools",
    shortname = "ippool",
    category = "selvage",
    status = "IPPoolStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A network that pods get their addresses from. Selvage allocates nothing: the pool says what the network is.",
    printcolumn(name = "CIDR", type_ = "string", json_path = ".spec.cidr"),
    printcolumn(name = "NAT", type_ = "boolean", json_path = ".spec.natOutgoing"),
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
    printcolumn(name = "Blocks", type_ = "integer", json_path = ".status.blockCount"),
    printcolumn(name = "In-Use", type_ = "integer", json_path = ".status.addressesInUse"),
    printcolumn(name = "Capacity", type_ = "string", json_path = ".status.capacity", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(cel)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolSpec {
    /// The network, its host bits zero, in canonical text. It can't be changed.
    #[schemars(length(max = 49), regex(pattern = pattern::CIDR))]
    #[x_kube(validation = Rule::new("isCIDR(self) && string(cidr(self).masked()) == self")
        .message("must be a network in canonical form with its host bits zero, such as 10.244.0.0/16 or fd00:10::/56"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("can't be changed: make another pool"))]
    pub cidr: String,
    /// Connections from this pool to an address in no pool are given their node's address.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// The pool is out of use; its addresses still count as inside, and are still masqueraded where natOutgoing says so.
    #[serde(default)]
    pub disabled: bool,
    /// The nodes that masquerade for it, by label. Every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new(cel::NOT_GLOBAL).message(cel::NOT_GLOBAL_MESSAGE))]
    pub node_selector: Option<String>,
    /// Calico's, and refused: the CNI encapsulates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::WORD))]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub ipip_mode: Option<String>,
    /// Calico's, and refused: the CNI encapsulates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::WORD))]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub vxlan_mode: Option<String>,
    /// Calico's, and refused: blocks are the nodes' podCIDRs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub block_size: Option<i32>,
    /// Calico's, and refused: the CNI allocates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "declared::list")]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub allowed_uses: Option<Vec<String>>,
    /// Calico's, and refused: the CNI allocates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::WORD))]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub assignment_mode: Option<String>,
    /// Calico's, and refused: the CNI allocates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = limit::SELECTOR))]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub namespace_selector: Option<String>,
    /// Calico's, and refused: nothing here speaks BGP.
    #[serde(default, rename = "disableBGPExport", skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("false").message(declared::ALLOCATION))]
    pub disable_bgp_export: Option<bool>,
}

/// What is known of a pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// Accepted (it is valid and overlaps no older one) and Programmed (its nodes masquerade as it says).
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The nodes that masquerade for it.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// How many addresses the network has, in decimal: an IPv6 network has more than a number holds.
    #[serde(default)]
    #[schemars(regex(pattern = pattern::DECIMAL))]
    pub capacity: String,
    /// How many of them pods have.
    #[serde(default)]
    pub addresses_in_use: u32,
    /// How many blocks nodes have.
    #[serde(default)]
    pub block_count: u32,
    /// The blocks that nodes have, by node.
    #[serde(default)]
    #[schemars(length(max = 16384))]
    pub blocks: Vec<Block>,
}

/// A node's part of a pool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// The node's name.
    #[schemars(length(min = 1, max = 253))]
    pub node: String,
    /// Its block.
    #[schemars(regex(pattern = pattern::CIDR))]
    pub cidr: String,
}

/// How many addresses a network has, in decimal.
pub fn capacity(net: &IpNet) -> String {
    let host_bits = u32::from(net.max_prefix_len().saturating_sub(net.prefix_len()));
    // 2^128 alone does not fit.
    1u128
        .checked_shl(host_bits)
        .map_or_else(|| "340282366920938463463374607431768211456".to_owned(), |n| n.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacities() {
        for (net, expected) in [
            ("10.244.0.0/16", "65536"),
            ("10.0.0.1/32", "1"),
            ("0.0.0.0/0", "4294967296"),
            ("fd00::/64", "18446744073709551616"),
            ("::/0", "340282366920938463463374607431768211456"),
        ] {
            assert_eq!(capacity(&net.parse().expect("a network")), expected, "{net}");
        }
    }
}
