//! The kinds that are watched, and what is kept of each.

use std::fmt::{self, Debug};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::core::{DeserializeGuard, ObjectMeta, PartialObjectMeta};
use kube::{Client, Resource};
use selvage_crds::{AddressGroup, IPPool, NetworkPolicyStatus, NodePolicy};
use selvage_policy::compiled::{EndpointKey, PolicyKey, PolicyKind};
use selvage_policy::model::Change;
use serde::de::DeserializeOwned;

use super::seen::{Agent, SeenNode, SeenPool, SeenSlice, SeenStatus};
use crate::convert::{self, Converted};

/// A kind of objects. The first four are what policies are made from, the others what the operator writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    NetworkPolicy,
    NodePolicy,
    AddressGroup,
    NetworkPolicyStatus,
    IPPool,
}

/// What happened to one object; None says that it is gone.
#[derive(Debug)]
pub enum Update {
    /// Something that the engine takes as it is.
    Change(Change),
    /// A NetworkPolicy.
    Policy(PolicyKey, Option<Box<Converted>>),
    /// A NetworkPolicy that can't be decoded. What was known of it stays; if that is nothing, this is to be said.
    Unreadable(PolicyKey, Box<Converted>),
    /// An agent's pod, by name.
    Agent(Arc<str>, Option<Agent>),
    /// A NodePolicy, by name.
    NodePolicy(Arc<str>, Option<Box<SeenNode>>),
    /// An AddressGroup, by name.
    Slice(Arc<str>, Option<SeenSlice>),
    /// A NetworkPolicyStatus; the key is its policy's.
    Status(PolicyKey, Option<Box<SeenStatus>>),
    /// An IPPool, by name.
    Pool(Arc<str>, Option<Box<SeenPool>>),
}

/// What translating needs to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// The system namespace.
    pub namespace: Arc<str>,
}

/// A kind that can be watched.
pub trait Watched: Send + 'static {
    /// What is decoded.
    type Wire: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static;
    /// What tells two objects apart.
    type Key: Ord + Clone + Send;
    /// Which kind it is.
    const KIND: Kind;
    /// Where to watch.
    fn api(client: Client, namespace: &str) -> Api<Self::Wire>;
    /// The object's key; None for an object without a name, which no API server hands out.
    fn key(metadata: &ObjectMeta) -> Option<Self::Key>;
    /// The object came or changed.
    ///
    /// # Errors
    /// Why it can't be decoded.
    fn applied(
        context: &Context,
        key: Self::Key,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String>;
    /// The object went.
    fn gone(context: &Context, key: &Self::Key, updates: &mut Vec<Update>);
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::NetworkPolicy,
        Self::NodePolicy,
        Self::AddressGroup,
        Self::NetworkPolicyStatus,
        Self::IPPool,
    ];
    /// The kinds that policies are made from, which a `basis` speaks of.
    pub const INPUTS: [Self; 4] = [Self::Namespace, Self::Node, Self::Pod, Self::NetworkPolicy];

    /// The kind's name, as in a `basis`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::NodePolicy => "NodePolicy",
            Self::AddressGroup => "AddressGroup",
            Self::NetworkPolicyStatus => "NetworkPolicyStatus",
            Self::IPPool => "IPPool",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn name(metadata: &ObjectMeta) -> Option<Arc<str>> {
    metadata.name.as_deref().map(Arc::from)
}

fn policy_key(metadata: &ObjectMeta) -> Option<PolicyKey> {
    let namespace = metadata.namespace.as_deref()?.into();
    Some(PolicyKey { kind: PolicyKind::NetworkPolicy, namespace, name: name(metadata)? })
}

impl Watched for Namespace {
    // Only the labels matter, so only metadata is asked for; there is nothing in it that can fail to decode.
    type Wire = PartialObjectMeta<Namespace>;
    type Key = Arc<str>;
    const KIND: Kind = Kind::Namespace;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<Arc<str>> {
        name(metadata)
    }
    fn applied(
        _: &Context,
        key: Arc<str>,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        let namespace = convert::namespace(&object.metadata);
        updates.push(Update::Change(Change::Namespace(key, Some(namespace))));
        Ok(())
    }
    fn gone(_: &Context, key: &Arc<str>, updates: &mut Vec<Update>) {
        updates.push(Update::Change(Change::Namespace(key.clone(), None)));
    }
}

impl Watched for Node {
    type Wire = DeserializeGuard<Node>;
    type Key = Arc<str>;
    const KIND: Kind = Kind::Node;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<Arc<str>> {
        name(metadata)
    }
    fn applied(
        _: &Context,
        key: Arc<str>,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        let node = object.0.map_err(|invalid| invalid.error)?;
        updates.push(Update::Change(Change::Node(key, Some(convert::node(&node)))));
        Ok(())
    }
    fn gone(_: &Context, key: &Arc<str>, updates: &mut Vec<Update>) {
        updates.push(Update::Change(Change::Node(key.clone(), None)));
    }
}

impl Watched for Pod {
    type Wire = DeserializeGuard<Pod>;
    type Key = EndpointKey;
    const KIND: Kind = Kind::Pod;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<EndpointKey> {
        convert::pod_key(metadata)
    }
    fn applied(
        context: &Context,
        key: EndpointKey,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        let pod = object.0.map_err(|invalid| invalid.error)?;
        if key.namespace == context.namespace {
            updates.push(Update::Agent(key.name.clone(), Agent::of(&pod)));
        }
        updates.push(Update::Change(Change::Pod(key, convert::pod(&pod))));
        Ok(())
    }
    fn gone(context: &Context, key: &EndpointKey, updates: &mut Vec<Update>) {
        if key.namespace == context.namespace {
            updates.push(Update::Agent(key.name.clone(), None));
        }
        updates.push(Update::Change(Change::Pod(key.clone(), None)));
    }
}

impl Watched for NetworkPolicy {
    type Wire = DeserializeGuard<NetworkPolicy>;
    type Key = PolicyKey;
    const KIND: Kind = Kind::NetworkPolicy;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<PolicyKey> {
        policy_key(metadata)
    }
    fn applied(
        _: &Context,
        key: PolicyKey,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        let policy = match object.0 {
            Ok(policy) => policy,
            Err(invalid) => {
                let converted =
                    convert::unreadable(PolicyKind::NetworkPolicy, &invalid.metadata, &invalid.error);
                updates.extend(converted.map(|converted| Update::Unreadable(key, Box::new(converted))));
                return Err(invalid.error);
            }
        };
        updates.push(Update::Policy(key, convert::network_policy(&policy).map(Box::new)));
        Ok(())
    }
    fn gone(_: &Context, key: &PolicyKey, updates: &mut Vec<Update>) {
        updates.push(Update::Policy(key.clone(), None));
    }
}

impl Watched for NodePolicy {
    type Wire = DeserializeGuard<NodePolicy>;
    type Key = Arc<str>;
    const KIND: Kind = Kind::NodePolicy;

    fn api(client: Client, namespace: &str) -> Api<Self::Wire> {
        Api::namespaced(client, namespace)
    }
    fn key(metadata: &ObjectMeta) -> Option<Arc<str>> {
        name(metadata)
    }
    fn applied(
        _: &Context,
        key: Arc<str>,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        updates.push(Update::NodePolicy(key, Some(Box::new(SeenNode::of(object)))));
        Ok(())
    }
    fn gone(_: &Context, key: &Arc<str>, updates: &mut Vec<Update>) {
        updates.push(Update::NodePolicy(key.clone(), None));
    }
}

impl Watched for AddressGroup {
    type Wire = DeserializeGuard<AddressGroup>;
    type Key = Arc<str>;
    const KIND: Kind = Kind::AddressGroup;

    fn api(client: Client, namespace: &str) -> Api<Self::Wire> {
        Api::namespaced(client, namespace)
    }
    fn key(metadata: &ObjectMeta) -> Option<Arc<str>> {
        name(metadata)
    }
    fn applied(
        _: &Context,
        key: Arc<str>,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        updates.push(Update::Slice(key, Some(SeenSlice::of(object))));
        Ok(())
    }
    fn gone(_: &Context, key: &Arc<str>, updates: &mut Vec<Update>) {
        updates.push(Update::Slice(key.clone(), None));
    }
}

impl Watched for NetworkPolicyStatus {
    type Wire = DeserializeGuard<NetworkPolicyStatus>;
    type Key = PolicyKey;
    const KIND: Kind = Kind::NetworkPolicyStatus;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<PolicyKey> {
        policy_key(metadata)
    }
    fn applied(
        _: &Context,
        key: PolicyKey,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        updates.push(Update::Status(key, Some(Box::new(SeenStatus::of(object)))));
        Ok(())
    }
    fn gone(_: &Context, key: &PolicyKey, updates: &mut Vec<Update>) {
        updates.push(Update::Status(key.clone(), None));
    }
}

impl Watched for IPPool {
    type Wire = DeserializeGuard<IPPool>;
    type Key = Arc<str>;
    const KIND: Kind = Kind::IPPool;

    fn api(client: Client, _: &str) -> Api<Self::Wire> {
        Api::all(client)
    }
    fn key(metadata: &ObjectMeta) -> Option<Arc<str>> {
        name(metadata)
    }
    fn applied(
        _: &Context,
        key: Arc<str>,
        object: Self::Wire,
        updates: &mut Vec<Update>,
    ) -> Result<(), String> {
        let pool = object.0.map_err(|invalid| invalid.error)?;
        updates.push(Update::Pool(key, Some(Box::new(SeenPool::of(pool)))));
        Ok(())
    }
    fn gone(_: &Context, key: &Arc<str>, updates: &mut Vec<Update>) {
        updates.push(Update::Pool(key.clone(), None));
    }
}
