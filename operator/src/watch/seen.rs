//! What is kept of the objects that the operator and the agents write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{DeserializeGuard, ObjectMeta};
use selvage_crds::address_group::{Owner, Owners};
use selvage_crds::bucket::{Bucket, GROUP_LABEL};
use selvage_crds::node_policy::{NodePolicySpec, NodePolicyStatus};
use selvage_crds::{
    AddressGroup, Basis, IPPool, IPPoolSpec, NetworkPolicyStatus, NodePolicy, Tier, codec, digest,
};
use selvage_policy::compiled::Member;
use selvage_policy::model;

use crate::api::{MANAGED_BY, OPERATOR};
use crate::convert::{self, Read};
use crate::status::{Published, Said};
use selvage_crds::tier::FINALIZER;

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
    /// The digest of its content, its owners included; None where the content can't be read.
    pub digest: Option<String>,
    /// The pods that it tells of, until a leader has looked at them.
    pub pods: Option<Box<SeenPods>>,
    /// `spec.count`; 0 where the content can't be read.
    pub count: u32,
    /// `spec.basis`.
    pub basis: Basis,
}

/// The pods that an AddressGroup tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenPods {
    /// Members and former members with their pods, sorted.
    pub owners: Box<[(Member, Owner)]>,
    /// Members that came with an address that another pod had before.
    pub heirs: BTreeSet<Member>,
}

/// What is said of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Stood {
    /// Where the object stands that says it.
    pub place: Place,
    /// The uid of the object that it is about; empty where it can't be read.
    pub uid: String,
    /// What it says.
    pub said: Said,
}

/// A Tier.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenTier {
    /// Where it stands.
    pub place: Place,
    /// What it says.
    pub read: Read<model::Tier>,
    /// Somebody deleted it; it stays while it has a finalizer.
    pub deleting: bool,
    /// Every finalizer.
    pub finalizers: Vec<String>,
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
    /// What it says.
    pub read: Read<model::Pool>,
    /// What a pool that takes its place takes over.
    pub spec: IPPoolSpec,
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
        let spec = self.spec.as_ref()?;
        let (policy_set, digest) = (spec.policy_set.clone(), spec.digest.clone());
        Some(Published { policy_set, digest, generation: self.place.generation })
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
                let slice = codec::decode_slice(&object.spec).ok();
                Self {
                    place: Place::of(&object.metadata),
                    labelled: label(&object.metadata, GROUP_LABEL) == Some(object.spec.group.as_str())
                        && label(&object.metadata, MANAGED_BY) == Some(OPERATOR),
                    buckets: buckets(&object.metadata),
                    digest: slice.as_ref().map(digest::whole_slice),
                    count: slice.as_ref().map_or(0, |slice| slice.count),
                    pods: slice.and_then(|slice| slice.owners).map(|owners| Box::new(SeenPods::of(owners))),
                    basis: object.spec.basis,
                }
            }
            Err(invalid) => Self {
                place: Place::of(&invalid.metadata),
                labelled: false,
                buckets: buckets(&invalid.metadata),
                digest: None,
                pods: None,
                count: 0,
                basis: Basis::new(),
            },
        }
    }
}

impl SeenPods {
    fn of(owners: Owners) -> Self {
        let Owners { members, former, heirs } = owners;
        let all: BTreeMap<Member, Owner> = members.into_iter().chain(former).collect();
        Self { owners: all.into_iter().collect(), heirs }
    }
}

impl Stood {
    /// What is said of a NetworkPolicy.
    pub fn of_network_policy(object: DeserializeGuard<NetworkPolicyStatus>) -> Self {
        let (metadata, uid, status) = match object.0 {
            Ok(object) => (object.metadata, object.spec.uid, object.status.unwrap_or_default()),
            Err(invalid) => (invalid.metadata, String::new(), Default::default()),
        };
        Self { place: Place::of(&metadata), uid, said: Said::Policy(status) }
    }

    /// What an object says of itself.
    pub fn of_itself(metadata: &ObjectMeta, said: Said) -> Self {
        let place = Place::of(metadata);
        Self { uid: place.uid.clone(), place, said }
    }
}

impl SeenTier {
    /// What is kept of a Tier; None for an object without name.
    pub fn of(object: &Tier) -> Option<Self> {
        let metadata = &object.metadata;
        Some(Self {
            place: Place::of(metadata),
            read: convert::tier(object)?.1,
            deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers.clone().unwrap_or_default(),
        })
    }

    /// Whether it can't go while the operator does not let it.
    pub fn is_held(&self) -> bool {
        self.finalizers.iter().any(|name| name == FINALIZER)
    }
}

impl SeenPool {
    /// What is kept of an IPPool; None for an object without name.
    pub fn of(object: &IPPool) -> Option<Self> {
        let metadata = &object.metadata;
        Some(Self {
            place: Place::of(metadata),
            managed: label(metadata, MANAGED_BY) == Some(OPERATOR),
            created: metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            read: convert::ip_pool(object)?.1,
            spec: object.spec.clone(),
        })
    }

    /// Its network, where that can be read.
    pub fn net(&self) -> Option<IpNet> {
        self.read.value.as_ref().map(|pool| pool.net)
    }
}

fn label<'a>(metadata: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(key).map(String::as_str)
}

fn buckets(metadata: &ObjectMeta) -> BTreeSet<Bucket> {
    metadata.labels.iter().flatten().filter_map(|(key, _)| Bucket::from_label(key)).collect()
}
