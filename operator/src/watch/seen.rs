//! What is kept of the objects that the operator and the agents write.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, ObjectMeta};
use selvage_crds::bucket::{Bucket, GROUP_LABEL};
use selvage_crds::network_policy_status::PolicyStatus;
use selvage_crds::node_policy::{NodePolicySpec, NodePolicyStatus};
use selvage_crds::{AddressGroup, Basis, IPPool, IPPoolStatus, NetworkPolicyStatus, NodePolicy, codec};

use crate::api::{MANAGED_BY, OPERATOR};
use crate::status::Published;

/// The label that tells an agent's pod from other pods of the system namespace, and its value.
const COMPONENT: (&str, &str) = ("app.kubernetes.io/component", "agent");

/// Where an object stands on the API server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.generation`, which changes with the spec alone.
    pub generation: i64,
}

/// An agent's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The node it runs on.
    pub node: Arc<str>,
    /// Its Ready condition.
    pub ready: bool,
}

/// A NodePolicy.
#[derive(Debug, Clone)]
pub struct SeenNode {
    /// Where it stands.
    pub place: Place,
    /// The spec, until its content was looked at; None where it could not be decoded.
    pub spec: Option<NodePolicySpec>,
    /// `spec.teardown`.
    pub teardown: bool,
    /// `spec.basis`.
    pub basis: Basis,
    /// What the agent reports; None before it does.
    pub status: Option<NodePolicyStatus>,
}

/// An AddressGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSlice {
    /// Where it stands.
    pub place: Place,
    /// Whether its labels other than those of buckets are as they should be.
    pub labelled: bool,
    /// Buckets that it carries the labels of.
    pub buckets: BTreeSet<Bucket>,
    /// The digest of its content; None where the content can't be read.
    pub digest: Option<String>,
    /// `spec.count`; 0 where the content can't be read.
    pub count: u32,
    /// `spec.basis`.
    pub basis: Basis,
}

/// A NetworkPolicyStatus.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenStatus {
    /// Where it stands.
    pub place: Place,
    /// The uid of the policy it is about; empty where it can't be read.
    pub policy_uid: String,
    /// What it says.
    pub status: PolicyStatus,
}

/// An IPPool.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenPool {
    /// Where it stands.
    pub place: Place,
    /// Whether the operator made it.
    pub managed: bool,
    /// When it was made, in seconds: of two that overlap the younger is refused.
    pub created: i64,
    /// `spec.cidr`.
    pub cidr: String,
    /// What it says.
    pub status: IPPoolStatus,
}

impl Place {
    /// The place of an object with this metadata.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            version: metadata.resource_version.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
        }
    }

    /// Whether this is an older view of the same object than `other`.
    pub fn is_older_than(&self, other: &Self) -> bool {
        let number = |place: &Self| place.version.parse::<u64>().ok();
        matches!((number(self), number(other)), (Some(mine), Some(theirs)) if mine < theirs)
    }
}

impl Agent {
    /// The agent that a pod is; None where it is none, or is not bound to a node.
    pub fn of(pod: &Pod) -> Option<Self> {
        let labels = pod.metadata.labels.as_ref()?;
        let node = pod.spec.as_ref()?.node_name.as_deref()?;
        let (key, value) = COMPONENT;
        if labels.get(key).map(String::as_str) != Some(value) {
            return None;
        }
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let ready = conditions.unwrap_or_default().iter().any(|c| c.type_ == "Ready" && c.status == "True");
        Some(Self { node: node.into(), ready: ready && pod.metadata.deletion_timestamp.is_none() })
    }
}

impl SeenNode {
    /// What is kept of a NodePolicy.
    pub fn of(object: DeserializeGuard<NodePolicy>) -> Self {
        match object.0 {
            Ok(object) => Self {
                place: Place::of(&object.metadata),
                teardown: object.spec.teardown,
                basis: object.spec.basis.clone(),
                spec: Some(object.spec),
                status: object.status,
            },
            // It still has to be replaced, for which its version is needed.
            Err(invalid) => Self {
                place: Place::of(&invalid.metadata),
                teardown: false,
                basis: Basis::new(),
                spec: None,
                status: None,
            },
        }
    }

    /// What a report of this object is about; None where the content can't be read.
    pub fn published(&self) -> Option<Published> {
        let policy_set = self.spec.as_ref()?.policy_set.clone();
        Some(Published { policy_set, generation: self.place.generation })
    }

    /// The digest of the content, recomputed; None where it can't be read or is not what the spec says.
    pub fn digest(&self, node: &str) -> Option<String> {
        let spec = self.spec.as_ref()?;
        codec::decode_node_policy(node, spec).ok().map(|_| spec.digest.clone())
    }
}

impl SeenSlice {
    /// What is kept of an AddressGroup.
    pub fn of(object: DeserializeGuard<AddressGroup>) -> Self {
        match object.0 {
            Ok(object) => {
                let readable = codec::decode_slice(&object.spec).is_ok();
                Self {
                    place: Place::of(&object.metadata),
                    labelled: label(&object.metadata, GROUP_LABEL) == Some(object.spec.group.as_str())
                        && label(&object.metadata, MANAGED_BY) == Some(OPERATOR),
                    buckets: buckets(&object.metadata),
                    digest: readable.then(|| object.spec.digest.clone()),
                    count: if readable { object.spec.count } else { 0 },
                    basis: object.spec.basis,
                }
            }
            Err(invalid) => Self {
                place: Place::of(&invalid.metadata),
                labelled: false,
                buckets: buckets(&invalid.metadata),
                digest: None,
                count: 0,
                basis: Basis::new(),
            },
        }
    }
}

impl SeenStatus {
    /// What is kept of a NetworkPolicyStatus.
    pub fn of(object: DeserializeGuard<NetworkPolicyStatus>) -> Self {
        match object.0 {
            Ok(object) => Self {
                place: Place::of(&object.metadata),
                policy_uid: object.spec.uid,
                status: object.status.unwrap_or_default(),
            },
            Err(invalid) => Self {
                place: Place::of(&invalid.metadata),
                policy_uid: String::new(),
                status: PolicyStatus::default(),
            },
        }
    }
}

impl SeenPool {
    /// What is kept of an IPPool.
    pub fn of(object: IPPool) -> Self {
        Self {
            place: Place::of(&object.metadata),
            managed: label(&object.metadata, MANAGED_BY) == Some(OPERATOR),
            created: object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            cidr: object.spec.cidr,
            status: object.status.unwrap_or_default(),
        }
    }
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn buckets(metadata: &ObjectMeta) -> BTreeSet<Bucket> {
    metadata.labels.iter().flatten().filter_map(|(key, _)| Bucket::from_label(key)).collect()
}
