//! Rules as they travel inside a NodePolicy.
//!
//! Fields hold text and numbers as the API server checked them against the schema; [`crate::codec`] gives them their
//! meaning, and refuses what has none. A field that is absent is empty.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::pattern;

/// A rule: a packet matches when every part does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which of the object's rules in that direction it came from, from 0; where absent, the one after that of the rule
    /// before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// What happens to a packet that matches: Allow, Deny, Pass or Log.
    #[schemars(extend("enum" = ["Allow", "Deny", "Pass", "Log"]))]
    pub action: String,
    /// Only packets of this family: IPv4 or IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = pattern::FAMILY))]
    pub family: Option<String>,
    /// Conditions on protocol and ports, all of which must hold; of each, one entry must.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 65536)))]
    pub services: Vec<Vec<Service>>,
    /// Terms on the source address, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub source: Vec<AddressTerm>,
    /// Terms on the destination address, all of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub destination: Vec<AddressTerm>,
}

/// One condition on an address: it lies in one of the nets or is a member of one of the groups. With neither, nothing
/// lies in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressTerm {
    /// The condition must not hold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// Networks, host bits zero, sorted, none inside another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 65536), inner(regex(pattern = pattern::CIDR)))]
    pub nets: Vec<String>,
    /// Groups of addresses, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16384), inner(regex(pattern = pattern::HEX32)))]
    pub groups: Vec<String>,
}

/// One condition on protocol and ports: exactly one of its fields is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// A protocol with its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Every protocol but the one with this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<u8>,
    /// ICMP or ICMPv6 by type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Address, protocol and port together are a member of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupMatch>,
}

/// A look at a group of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupMatch {
    /// The group.
    #[schemars(regex(pattern = pattern::HEX32))]
    pub name: String,
    /// The source's address and port are looked up, not the destination's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub source: bool,
    /// They must be no member.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
}

/// An IP protocol and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// The IANA protocol number.
    pub number: u8,
    /// Source ports; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<PortMatch>,
    /// Destination ports; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<PortMatch>,
}

/// ICMP or ICMPv6 by type and code.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Icmp {
    /// 1 is ICMP, 58 is ICMPv6.
    pub protocol: u8,
    /// The type.
    #[serde(rename = "type")]
    pub kind: u8,
    /// The code; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The type and code must not match; the protocol still must.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
}

/// A set of ports.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortMatch {
    /// The port must be in none of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub negated: bool,
    /// Ports ("80") and inclusive ranges ("80-90"), sorted and disjoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32768), inner(regex(pattern = pattern::PORTS)))]
    pub ranges: Vec<String>,
    /// Names that the judged endpoint's profile resolves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    pub names: Vec<PortName>,
}

/// A container port's name and protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortName {
    /// The IANA protocol number.
    pub protocol: u8,
    /// The name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}
