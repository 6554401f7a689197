//! AddressGroup: one slice of the members of a group.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

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
    /// Which pods the members are, of a group of pods. An agent that does not know this reads the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<OwnersSpec>,
}

/// Which pods the members of a slice are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnersSpec {
    /// The digest of the meaning of the slice with its owners.
    #[schemars(regex(pattern = pattern::HEX32))]
    pub digest: String,
    /// Eight characters a member, in their order: a hash of the pod's uid, or `--------` where no pod has the address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = pattern::OWNERS), length(max = 262144))]
    pub members: String,
    /// Members before, whose pods have their addresses as ever, sorted: member, `=`, hash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32768), inner(regex(pattern = pattern::FORMER)))]
    pub former: Vec<String>,
    /// Members that came with an address that another pod had not long before, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32768), inner(regex(pattern = pattern::MEMBER)))]
    pub heirs: Vec<String>,
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
    /// Which pods they are; None where the group is not one of pods, or the writer does not say.
    pub owners: Option<Owners>,
}

/// Which pods the members of a slice are: what lets a reader tell the end of a pod from a label that changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owners {
    /// The pods of members. One that is not named here is no pod's: an address that an EndpointSlice names alone.
    pub members: BTreeMap<Member, Owner>,
    /// What was a member, and is none any more though the pod has its address as ever.
    pub former: BTreeMap<Member, Owner>,
    /// Members that came with an address that another pod had not long before.
    pub heirs: BTreeSet<Member>,
}

/// The pod that has an address: 32 bits of a hash of its uid. Two that follow one another at an address are taken for
/// one with a chance of one in four thousand million.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner(pub u32);

impl Owner {
    /// The pod with this uid.
    pub fn of(uid: &str) -> Self {
        let [a, b, c, d, ..] = *blake3::hash(uid.as_bytes()).as_bytes();
        Self(u32::from_be_bytes([a, b, c, d]))
    }

    /// Reads the eight hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let owner = u32::from_str_radix(text, 16).ok().map(Self)?;
        (owner.to_string() == text).then_some(owner)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Slice {
    /// The name of the slice's object: `<group>-<epoch>-<index>`.
    pub fn object_name(&self) -> String {
        let Self { group, epoch, index, .. } = self;
        format!("{group}-{epoch}-{index}")
    }
}
