//! AddressGroup: one slice of the members of a group.

use std::collections::BTreeSet;

use kube::CustomResource;
use schemars::JsonSchema;
use selvage_policy::compiled::{GroupId, GroupKind, Member};
use serde::{Deserialize, Serialize};

use crate::Basis;
use crate::schema::pattern;

/// One slice of an address group. A group is known when all `count` slices of one epoch are there.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "selvage.io",
    version = "v1alpha1",
    kind = "AddressGroup",
    plural = "addressgroups",
    shortname = "ag",
    category = "selvage",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    doc = "One slice of the members of an address group. The operator writes it; agents read it.",
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.group"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".spec.epoch"),
    printcolumn(name = "Index", type_ = "integer", json_path = ".spec.index"),
    printcolumn(name = "Count", type_ = "integer", json_path = ".spec.count"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AddressGroupSpec {
    /// The version of this encoding.
    pub format: u32,
    /// The digest of the meaning of everything below but `basis`.
    #[schemars(regex(pattern = pattern::HEX32))]
    pub digest: String,
    /// The resourceVersions that this was computed from, by kind.
    pub basis: Basis,
    /// The group's name.
    #[schemars(regex(pattern = pattern::HEX32))]
    pub group: String,
    /// What the members are: Addresses, or Ports (address, protocol and port).
    #[schemars(extend("enum" = ["Addresses", "Ports"]))]
    pub kind: String,
    /// Raised when the group is cut anew; the reader uses the newest epoch that is complete.
    pub epoch: u32,
    /// Which slice of the epoch this is, from 0.
    pub index: u32,
    /// How many slices the epoch has.
    #[schemars(range(min = 1, max = 65536))]
    pub count: u32,
    /// The members, sorted: "10.0.0.1", "10.0.0.0/8", or "10.0.0.1,6,80" (address, protocol number, port).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32768), inner(regex(pattern = pattern::MEMBER)))]
    pub members: Vec<String>,
}

/// A slice, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The group.
    pub group: GroupId,
    /// What its members are.
    pub kind: GroupKind,
    /// Raised when the group is cut anew.
    pub epoch: u32,
    /// Which slice of the epoch this is, from 0.
    pub index: u32,
    /// How many slices the epoch has, at least 1.
    pub count: u32,
    /// The members in this slice.
    pub members: BTreeSet<Member>,
}

impl Slice {
    /// The name of the slice's object: `<group>-<epoch>-<index>`.
    pub fn object_name(&self) -> String {
        let Self { group, epoch, index, .. } = self;
        format!("{group}-{epoch}-{index}")
    }
}
