//! From what the engine changed to writes: which object next, in which order, and how.
//!
//! [`Planner`] is pure: it is told what changed, what stands on the API server and what became of each write, and
//! says what to write next. It works on levels: an item that is queued is compared with what stands when its turn
//! comes, so that a change that was undone, or that somebody else already wrote, costs no write. [`Writer`] sends.

mod group;
mod plan;
mod rounds;
mod writer;

pub use plan::{Outcome, Planner, Refusal};
pub use writer::{Error, Writer};

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kube::Resource;
use selvage_crds::{AddressGroup, NodePolicy};
use selvage_policy::compiled::GroupId;

use crate::watch::{SeenNode, SeenSlice};

/// How many writes are under way together.
pub const CONCURRENCY: usize = 16;
/// How long what no reader should need any more stays: buckets' labels and cuts of a group that were replaced.
pub const RETIRE_AFTER: Duration = Duration::from_secs(600);
/// How long the slices of a group stay that no node names any more: a watch may tell of them before NodePolicies.
pub const FORGET_AFTER: Duration = Duration::from_secs(60);

/// One object that is published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A slice of a group.
    Slice(SliceId),
    /// The NodePolicy of that node.
    Node(Arc<str>),
}

/// One slice of one cut of a group, which is also its object's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceId {
    /// The group.
    pub group: GroupId,
    /// The cut.
    pub epoch: u32,
    /// Which slice.
    pub index: u32,
}

/// One request.
#[derive(Debug, Clone)]
pub enum Write {
    /// To a NodePolicy; with what stands after it.
    Node(Arc<str>, Action<NodePolicy>),
    /// To an AddressGroup.
    Slice(SliceId, Action<AddressGroup>),
}

/// What a request does.
#[derive(Debug, Clone)]
pub enum Action<K> {
    /// Makes the object.
    Create(Box<K>),
    /// Replaces it, if its resourceVersion is still the one given inside.
    Replace(Box<K>),
    /// Deletes it, if it is still this one in this version.
    Delete {
        /// `metadata.uid`.
        uid: String,
        /// `metadata.resourceVersion`.
        version: String,
    },
}

/// An object as the API server holds it after a write or a look.
#[derive(Debug, Clone)]
pub enum Standing {
    /// A NodePolicy; None where there is none.
    Node(Option<Box<SeenNode>>),
    /// An AddressGroup.
    Slice(Option<SeenSlice>),
}

impl Write {
    /// The object it is about.
    pub fn item(&self) -> Item {
        match self {
            Self::Node(name, _) => Item::Node(name.clone()),
            Self::Slice(id, _) => Item::Slice(*id),
        }
    }

    /// The version of the object that this is about, where there is one.
    fn replaces(&self) -> Option<u64> {
        let version = match self {
            Self::Node(_, action) => action.version(),
            Self::Slice(_, action) => action.version(),
        };
        version?.parse().ok()
    }
}

impl<K: Resource> Action<K> {
    fn version(&self) -> Option<&str> {
        match self {
            Self::Create(_) => None,
            Self::Replace(object) => object.meta().resource_version.as_deref(),
            Self::Delete { version, .. } => Some(version),
        }
    }
}

impl Standing {
    /// The object's version, where there is one.
    fn version(&self) -> Option<u64> {
        let place = match self {
            Self::Node(seen) => seen.as_ref().map(|seen| &seen.place),
            Self::Slice(seen) => seen.as_ref().map(|seen| &seen.place),
        };
        place?.version.parse().ok()
    }
}

impl SliceId {
    /// The id in an object's name.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let group = GroupId::parse(parts.next()?)?;
        let epoch = parts.next()?.parse().ok()?;
        let index = parts.next()?.parse().ok()?;
        let id = Self { group, epoch, index };
        // One name an id: "+1" and "01" are other objects.
        (parts.next().is_none() && id.to_string() == name).then_some(id)
    }
}

impl fmt::Display for SliceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.group, self.epoch, self.index)
    }
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slice(id) => write!(f, "AddressGroup {id}"),
            Self::Node(name) => write!(f, "NodePolicy {name}"),
        }
    }
}

#[cfg(test)]
mod tests;
