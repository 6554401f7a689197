//! Namespaces, nodes, pods and service accounts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use selvage_policy::compiled::{EndpointKey, NamedPort};
use selvage_policy::model;

use super::cidr::{address, block};
use super::port::protocol;

/// An object's labels.
pub fn labels(metadata: &ObjectMeta) -> model::Labels {
    metadata
        .labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

/// A namespace; its metadata is all that matters.
pub fn namespace(metadata: &ObjectMeta) -> model::Namespace {
    model::Namespace { labels: labels(metadata) }
}

/// A node: its labels, the pod blocks it owns, and its own addresses.
pub fn node(object: &Node) -> model::Node {
    let spec = object.spec.as_ref();
    let mut blocks: Vec<IpNet> = spec
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default()
        .iter()
        .chain(spec.and_then(|spec| spec.pod_cidr.as_ref()))
        .filter_map(|text| block(text).ok())
        .map(|block| block.net)
        .collect();
    blocks.sort();
    blocks.dedup();
    let addresses = object
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten())
        .filter_map(|entry| address(&entry.address))
        .collect();
    model::Node { labels: labels(&object.metadata), blocks, addresses }
}

/// The place of an object that has a namespace; None for one without.
pub fn object_key(metadata: &ObjectMeta) -> Option<model::Key> {
    Some(model::Key {
        namespace: metadata.namespace.as_deref()?.into(),
        name: metadata.name.as_deref()?.into(),
    })
}

/// A service account; its metadata is all that matters.
pub fn service_account(metadata: &ObjectMeta) -> model::ServiceAccount {
    model::ServiceAccount { labels: labels(metadata) }
}

/// A pod's place; None for an object without name or namespace.
pub fn pod_key(metadata: &ObjectMeta) -> Option<EndpointKey> {
    Some(EndpointKey {
        namespace: metadata.namespace.as_deref()?.into(),
        name: metadata.name.as_deref()?.into(),
    })
}

/// A pod as an endpoint; None while it is none: not bound yet, on the host network, or finished. A deletion
/// timestamp does not matter: a pod that terminates still sends and receives.
pub fn pod(object: &Pod) -> Option<model::Pod> {
    let spec = object.spec.as_ref()?;
    let status = object.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref());
    let node = spec.node_name.as_deref().filter(|node| !node.is_empty())?;
    if spec.host_network == Some(true) || matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let addresses: BTreeSet<_> = status
        .iter()
        .flat_map(|status| {
            let listed = status.pod_ips.iter().flatten().map(|entry| entry.ip.as_str());
            listed.chain(status.pod_ip.as_deref())
        })
        .filter_map(address)
        .collect();
    let mut named_ports: BTreeMap<NamedPort, BTreeSet<u16>> = BTreeMap::new();
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        for port in container.ports.iter().flatten() {
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            let number = u16::try_from(port.container_port).ok().filter(|number| *number != 0);
            if let (Some(name), Some(number), Some(protocol)) =
                (name, number, protocol(port.protocol.as_deref()))
            {
                named_ports.entry(NamedPort { protocol, name: name.into() }).or_default().insert(number);
            }
        }
    }
    let account = spec.service_account_name.as_deref().filter(|name| !name.is_empty());
    Some(model::Pod {
        uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
        created: object.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
        node: Arc::from(node),
        labels: labels(&object.metadata),
        service_account: account.unwrap_or("default").into(),
        addresses,
        named_ports,
    })
}
