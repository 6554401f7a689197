//! What pods, nodes, service accounts and EndpointSlices mean, row by row: "Who is judged", and `services`.

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::ObjectMeta;
use rstest::rstest;
use serde_json::{Value, json};

use crate::convert::{endpoint_slice, node, object_key, pod, service_account};

fn pod_with(change: impl FnOnce(&mut Value)) -> Option<selvage_policy::model::Pod> {
    let mut object = json!({
        "metadata": {
            "namespace": "ns", "name": "p", "uid": "u", "labels": { "a": "b" },
            "creationTimestamp": "2026-01-01T00:00:10Z",
        },
        "spec": {
            "nodeName": "n1", "serviceAccountName": "sa",
            "containers": [{ "name": "c", "ports": [
                { "name": "web", "containerPort": 80 },
                { "name": "web", "containerPort": 81 },
                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                { "containerPort": 99 },
            ] }],
            "initContainers": [{ "name": "i", "ports": [{ "name": "init", "containerPort": 7 }] }],
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.5", "podIPs": [{ "ip": "10.0.0.5" }, { "ip": "fd00::5" }],
        },
    });
    change(&mut object);
    pod(&serde_json::from_value::<Pod>(object).unwrap())
}

#[test]
fn a_pod() {
    let pod = pod_with(|_| ()).unwrap();
    assert_eq!((&*pod.uid, &*pod.node, &*pod.service_account), ("u", "n1", "sa"));
    assert_eq!(pod.created, 1_767_225_610);
    let addresses: Vec<_> = pod.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.5", "fd00::5"]);
    let ports: Vec<_> = pod
        .named_ports
        .iter()
        .map(|(port, numbers)| (port.protocol, &*port.name, numbers.iter().copied().collect::<Vec<_>>()))
        .collect();
    assert_eq!(ports, [(6, "init", vec![7]), (6, "web", vec![80, 81]), (17, "dns", vec![53])]);
}

#[rstest]
#[case::host_network(|pod: &mut Value| pod["spec"]["hostNetwork"] = json!(true))]
#[case::succeeded(|pod: &mut Value| pod["status"]["phase"] = json!("Succeeded"))]
#[case::failed(|pod: &mut Value| pod["status"]["phase"] = json!("Failed"))]
#[case::not_bound(|pod: &mut Value| pod["spec"]["nodeName"] = json!(null))]
fn no_endpoint(#[case] change: fn(&mut Value)) {
    assert_eq!(pod_with(change), None);
}

#[rstest]
#[case::terminating(|pod: &mut Value| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:20Z"), 2)]
#[case::pending(|pod: &mut Value| pod["status"]["phase"] = json!("Pending"), 2)]
#[case::unknown(|pod: &mut Value| pod["status"]["phase"] = json!("Unknown"), 2)]
#[case::no_address_yet(|pod: &mut Value| pod["status"] = json!({ "phase": "Pending" }), 0)]
#[case::no_status(|pod: &mut Value| pod["status"] = json!(null), 0)]
#[case::an_old_kubelets_status(|pod: &mut Value| pod["status"]["podIPs"] = json!(null), 1)]
#[case::unreadable_addresses(|pod: &mut Value| {
    pod["status"] = json!({ "podIPs": [{ "ip": "010.0.0.5" }, { "ip": "::ffff:10.0.0.5" }, { "ip": "10.0.0.6" }] });
}, 1)]
fn an_endpoint(#[case] change: fn(&mut Value), #[case] addresses: usize) {
    assert_eq!(pod_with(change).map(|pod| pod.addresses.len()), Some(addresses));
}

#[test]
fn a_node() {
    let object: Node = serde_json::from_value(json!({
        "metadata": { "name": "n1", "labels": { "zone": "a" } },
        "spec": { "podCIDR": "10.0.1.0/24", "podCIDRs": ["10.0.1.0/24", "fd00:0:0:1::/64", "rubbish"] },
        "status": { "addresses": [
            { "type": "InternalIP", "address": "192.0.2.1" },
            { "type": "ExternalIP", "address": "2001:db8::1" },
            { "type": "Hostname", "address": "n1" },
        ] },
    }))
    .unwrap();
    let node = node(&object);
    let blocks: Vec<_> = node.blocks.iter().map(ToString::to_string).collect();
    assert_eq!(blocks, ["10.0.1.0/24", "fd00:0:0:1::/64"]);
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(node.labels.len(), 1);
}

#[test]
fn a_service_account() {
    let metadata: ObjectMeta =
        serde_json::from_value(json!({ "namespace": "ns", "name": "sa", "labels": { "team": "a" } }))
            .unwrap();
    let labels: Vec<_> =
        service_account(&metadata).labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(labels, ["team=a"]);
    let key = object_key(&metadata).unwrap();
    assert_eq!((&*key.namespace, &*key.name), ("ns", "sa"));
    assert_eq!(object_key(&ObjectMeta::default()), None);
}

/// Addresses, protocols with ports, and protocols with every port.
type Said = (Vec<String>, Vec<(u8, u16)>, Vec<u8>);

/// What a slice with this change says.
fn backends(change: fn(&mut Value)) -> Option<Said> {
    let mut object = json!({
        "metadata": { "namespace": "ns", "name": "web-1", "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": [
            { "addresses": ["10.0.0.5"], "conditions": { "ready": true } },
            { "addresses": ["10.0.0.4"], "conditions": { "ready": false, "serving": false, "terminating": true } },
        ],
        "ports": [{ "port": 8080 }, { "name": "dns", "port": 53, "protocol": "UDP" }],
    });
    change(&mut object);
    let backends = endpoint_slice(&serde_json::from_value::<EndpointSlice>(object).unwrap())?;
    assert_eq!(&*backends.service, "web");
    let addresses = backends.addresses.iter().map(ToString::to_string).collect();
    Some((addresses, backends.ports.into_iter().collect(), backends.whole.into_iter().collect()))
}

#[rstest]
#[case::every_address_ready_or_not(|_: &mut Value| (), &["10.0.0.4", "10.0.0.5"], &[(6, 8080), (17, 53)])]
#[case::no_endpoints(|slice: &mut Value| slice["endpoints"] = json!(null), &[], &[(6, 8080), (17, 53)])]
#[case::no_ports(|slice: &mut Value| slice["ports"] = json!(null), &["10.0.0.4", "10.0.0.5"], &[])]
#[case::an_unknown_protocol(
    |slice: &mut Value| slice["ports"] = json!([{ "port": 80, "protocol": "QUIC" }, { "port": 81 }]),
    &["10.0.0.4", "10.0.0.5"], &[(6, 81)]
)]
#[case::unreadable_addresses(
    |slice: &mut Value| slice["endpoints"] = json!([{ "addresses": ["010.0.0.1", "fd00::7"] }]),
    &["fd00::7"], &[(6, 8080), (17, 53)]
)]
fn a_slice(#[case] change: fn(&mut Value), #[case] addresses: &[&str], #[case] ports: &[(u8, u16)]) {
    let (found, found_ports, whole) = backends(change).unwrap();
    assert_eq!((found, found_ports.as_slice()), (addresses.iter().map(|a| (*a).to_owned()).collect(), ports));
    assert!(whole.is_empty());
}

/// discovery.k8s.io: "If this is not specified, ports are not restricted".
#[test]
fn a_port_without_a_number_is_every_port_of_its_protocol() {
    let given = |slice: &mut Value| {
        slice["ports"] = json!([{ "protocol": "UDP" }, { "port": 80 }, { "protocol": "QUIC" }, {}]);
    };
    let (_, ports, whole) = backends(given).unwrap();
    assert_eq!((ports.as_slice(), whole.as_slice()), (&[(6, 80)][..], &[6, 17][..]));
}

#[rstest]
#[case::domain_names(|slice: &mut Value| slice["addressType"] = json!("FQDN"))]
#[case::no_service(|slice: &mut Value| slice["metadata"]["labels"] = json!({ "a": "b" }))]
#[case::an_empty_service(|slice: &mut Value| {
    slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": "" });
})]
#[case::no_labels(|slice: &mut Value| slice["metadata"]["labels"] = json!(null))]
fn no_slice_of_a_service(#[case] change: fn(&mut Value)) {
    assert_eq!(backends(change), None);
}
