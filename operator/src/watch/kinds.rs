//! What is kept of each kind that is watched.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::Api;
use kube::core::{DeserializeGuard, NamespaceResourceScope, ObjectMeta, PartialObjectMeta};
use kube::{Client, Resource};
use selvage_crds::{AddressGroup, NetworkPolicyStatus, NodePolicy};
use selvage_policy::compiled::{EndpointKey, PolicyKey, PolicyKind};
use selvage_policy::model::{Change, Key};
use serde::de::DeserializeOwned;

use super::Kind;
use super::seen::{Agent, SeenNode, SeenSlice, Stood};
use super::update::{Context, Update};
use crate::convert::{self, Converted};
use crate::status::About;

/// A kind that can be watched.
pub trait Watched: Send + 'static {
    /// What is decoded.
    type Wire: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static;
    /// What tells two objects apart.
    type Key: Ord + Clone + Send;
    /// Which kind it is.
    const KIND: Kind;
    /// Whether there are clusters that don't serve it.
    const OPTIONAL: bool = false;
    /// Where to watch.
    fn api(client: Client, namespace: &str) -> Api<Self::Wire>;
    /// The object's key; None for an object without a name, which no API server hands out.
    fn key(metadata: &ObjectMeta) -> Option<Self::Key>;
    /// The object came or changed, or went (None).
    ///
    /// # Errors
    /// Why it can't be decoded.
    fn told(
        context: &Context,
        key: Self::Key,
        object: Option<Self::Wire>,
        updates: &mut Vec<Update>,
    ) -> Result<(), String>;
}

/// Implements [`Watched`]: of which kind, what is decoded, where it is watched, which key it has, and what it tells.
macro_rules! watched {
    ($kind:ident as $wire:ty, $place:ident, $key:ident -> $key_type:ty, $told:expr $(, $option:ident)?) => {
        impl Watched for $kind {
            type Wire = $wire;
            type Key = $key_type;
            const KIND: Kind = Kind::$kind;
            $(const $option: bool = true;)?

            fn api(client: Client, namespace: &str) -> Api<Self::Wire> {
                $place(client, namespace)
            }

            fn key(metadata: &ObjectMeta) -> Option<Self::Key> {
                $key(metadata)
            }

            fn told(
                context: &Context,
                key: Self::Key,
                object: Option<Self::Wire>,
                updates: &mut Vec<Update>,
            ) -> Result<(), String> {
                let told: fn(&Context, $key_type, Option<$wire>, &mut Vec<Update>) -> Result<(), String> = $told;
                told(context, key, object, updates)
            }
        }
    };
}

pub(super) use watched;

// Of these two only the labels matter, so only metadata is asked for; nothing in it can fail to decode.
watched!(Namespace as PartialObjectMeta<Namespace>, everywhere, name -> Arc<str>, |_, key, object, updates| {
    change(updates, Change::Namespace(key, object.map(|object| convert::namespace(&object.metadata))))
});
watched!(ServiceAccount as PartialObjectMeta<ServiceAccount>, everywhere, object_key -> Key, |_, key, object, updates| {
    change(updates, Change::ServiceAccount(key, object.map(|object| convert::service_account(&object.metadata))))
});
watched!(Node as DeserializeGuard<Node>, everywhere, name -> Arc<str>, |_, key, object, updates| {
    change(updates, Change::Node(key, decoded(object)?.as_ref().map(convert::node)))
});
watched!(Pod as DeserializeGuard<Pod>, everywhere, pod_key -> EndpointKey, |context, key, object, updates| {
    let pod = decoded(object)?;
    if key.namespace == context.namespace {
        updates.push(Update::Agent(key.name.clone(), pod.as_ref().and_then(Agent::of)));
    }
    change(updates, Change::Pod(key, pod.as_ref().and_then(convert::pod)))
});
watched!(EndpointSlice as DeserializeGuard<EndpointSlice>, everywhere, object_key -> Key, |_, key, object, updates| {
    change(updates, Change::Backends(key, decoded(object)?.as_ref().and_then(convert::endpoint_slice)))
});
watched!(NetworkPolicy as DeserializeGuard<NetworkPolicy>, everywhere, network_policy_key -> PolicyKey, |_, key, object, updates| {
    policy(key, object, updates, convert::network_policy)
});
watched!(NodePolicy as DeserializeGuard<NodePolicy>, of_the_system, name -> Arc<str>, |_, key, object, updates| {
    updates.push(Update::NodePolicy(key, object.map(|object| Box::new(SeenNode::of(object)))));
    Ok(())
});
watched!(AddressGroup as DeserializeGuard<AddressGroup>, of_the_system, name -> Arc<str>, |_, key, object, updates| {
    updates.push(Update::Slice(key, object.map(SeenSlice::of)));
    Ok(())
});
watched!(NetworkPolicyStatus as DeserializeGuard<NetworkPolicyStatus>, everywhere, network_policy_key -> PolicyKey, |_, key, object, updates| {
    let stood = object.map(|object| Box::new(Stood::of_network_policy(object)));
    updates.push(Update::Stands(About::Policy(key), stood));
    Ok(())
});

/// All objects of a kind.
pub(super) fn everywhere<K: Resource<DynamicType = ()>>(client: Client, _: &str) -> Api<K> {
    Api::all(client)
}

/// The objects in the system namespace.
fn of_the_system<K>(client: Client, namespace: &str) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client, namespace)
}

pub(super) fn name(metadata: &ObjectMeta) -> Option<Arc<str>> {
    metadata.name.as_deref().map(Arc::from)
}

pub(super) fn object_key(metadata: &ObjectMeta) -> Option<Key> {
    convert::object_key(metadata)
}

fn pod_key(metadata: &ObjectMeta) -> Option<EndpointKey> {
    convert::pod_key(metadata)
}

pub(super) fn policy_key(kind: PolicyKind, metadata: &ObjectMeta) -> Option<PolicyKey> {
    let namespace = match kind {
        PolicyKind::NetworkPolicy | PolicyKind::SelvageNetworkPolicy => metadata.namespace.as_deref()?,
        PolicyKind::ClusterNetworkPolicy | PolicyKind::GlobalNetworkPolicy => "",
    };
    Some(PolicyKey { kind, namespace: namespace.into(), name: name(metadata)? })
}

fn network_policy_key(metadata: &ObjectMeta) -> Option<PolicyKey> {
    policy_key(PolicyKind::NetworkPolicy, metadata)
}

fn change(updates: &mut Vec<Update>, change: Change) -> Result<(), String> {
    updates.push(Update::Change(change));
    Ok(())
}

pub(super) fn decoded<K>(object: Option<DeserializeGuard<K>>) -> Result<Option<K>, String> {
    object.map(|object| object.0.map_err(|invalid| invalid.error)).transpose()
}

/// What a policy says. One that can't be decoded is told as such.
pub(super) fn policy<K>(
    key: PolicyKey,
    object: Option<DeserializeGuard<K>>,
    updates: &mut Vec<Update>,
    convert: fn(&K) -> Option<Converted>,
) -> Result<(), String> {
    let policy = match object {
        None => None,
        Some(DeserializeGuard(Ok(policy))) => convert(&policy).map(Box::new),
        Some(DeserializeGuard(Err(invalid))) => {
            let converted = convert::unreadable(key.kind, &invalid.metadata, &invalid.error);
            updates.extend(converted.map(|converted| Update::Unreadable(key, Box::new(converted))));
            return Err(invalid.error);
        }
    };
    updates.push(Update::Policy(key, policy));
    Ok(())
}
