//! IPPool: a network that pods get their addresses from.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::pattern;

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
    /// Packets that leave all pools are given their node's address.
    #[serde(default)]
    pub nat_outgoing: bool,
    /// The pool is out of use; its addresses still count as pods'.
    #[serde(default)]
    pub disabled: bool,
    /// The nodes that it is for, as a selector; every node where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub node_selector: Option<String>,
}

/// What is known of a pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IPPoolStatus {
    /// Accepted: the pool is valid and overlaps no older one.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The generation that all of this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
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
