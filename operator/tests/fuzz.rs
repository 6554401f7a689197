//! Objects with anything anywhere: a good object of each kind, parts of which are replaced by arbitrary JSON or taken
//! out. What still decodes is converted and compiled, beside a pod that it may be about; nothing panics.
//!
//! That what can't be read never becomes wider access is tried by the conversion's own tests, on objects whose shape
//! is right.
#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::ObjectMeta;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use selvage_crds::{
    ClusterNetworkPolicy, GlobalNetworkPolicy, GlobalNetworkSet, IPPool, NetworkSet, SelvageNetworkPolicy,
    Tier,
};
use selvage_operator::convert::{self, Converted};
use selvage_policy::engine::Engine;
use selvage_policy::model::Change;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What becomes of an object; None where it does not decode or is none of ours.
type Convert = fn(Value) -> Option<Change>;

fn kinds() -> Vec<(Convert, Value)> {
    let metadata =
        json!({ "namespace": "ns", "name": "x", "uid": "u", "generation": 1, "labels": { "app": "web" } });
    let object = |spec: Value| json!({ "metadata": metadata, "spec": spec });
    let label = json!({ "matchLabels": { "app": "web" }, "matchExpressions": [
        { "key": "a", "operator": "NotIn", "values": ["b"] }, { "key": "c", "operator": "Exists" },
    ] });
    let own = json!({
        "tier": "default", "order": 10.5, "selector": "app == 'web'", "namespaceSelector": "has(a)",
        "serviceAccountSelector": "all()", "types": ["Ingress", "Egress"],
        "ingress": [{
            "action": "Allow", "protocol": "TCP", "ipVersion": 4,
            "source": { "nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"], "notSelector": "x in {'y'}",
                "serviceAccounts": { "names": ["a"], "selector": "b != 'c'" } },
            "destination": { "ports": [80, "90:99", "http"], "notPorts": [81] },
        }],
        "egress": [
            { "action": "Pass", "destination": { "services": { "name": "s", "namespace": "ns" } } },
            { "action": "Deny", "protocol": "ICMP", "icmp": { "type": 8, "code": 0 }, "notICMP": { "type": 3 },
                "destination": { "selector": "has(a)", "namespaceSelector": "global()" } },
            { "action": "Log", "notProtocol": 6 },
        ],
    });
    let namespaced = {
        let mut own = own.clone();
        own["namespaceSelector"].take();
        own
    };
    let cluster = json!({
        "tier": "Admin", "priority": 10, "subject": { "pods": { "namespaceSelector": label, "podSelector": {} } },
        "ingress": [{ "action": "Accept", "name": "n", "from": [{ "namespaces": label }],
            "protocols": [{ "tcp": { "destinationPort": { "number": 80 } } },
                { "udp": { "destinationPort": { "range": { "start": 1, "end": 9 } } } }] }],
        "egress": [{ "action": "Deny", "to": [{ "networks": ["10.0.0.0/8", "fd00::/8"] }, { "nodes": label }] },
            { "action": "Pass", "to": [{ "pods": { "namespaceSelector": {}, "podSelector": label } }],
                "protocols": [{ "destinationNamedPort": "http" }] }],
    });
    let standard = json!({
        "podSelector": label, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": [{ "podSelector": label, "namespaceSelector": {} },
            { "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"] } }],
            "ports": [{ "protocol": "TCP", "port": "http" }, { "port": 80, "endPort": 90 }] }],
        "egress": [{ "to": [{ "ipBlock": { "cidr": "fd00::/8" } }], "ports": [{ "protocol": "UDP", "port": 53 }] }],
    });
    let slice = json!({ "metadata": { "namespace": "ns", "name": "x", "labels": { "kubernetes.io/service-name": "s" } },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["10.244.1.2"] }],
        "ports": [{ "name": "p", "protocol": "TCP", "port": 80 }] });
    let pod = json!({ "metadata": metadata, "spec": { "nodeName": "n", "serviceAccountName": "a", "containers": [
        { "name": "c", "ports": [{ "name": "http", "protocol": "TCP", "containerPort": 80 }] }] },
        "status": { "phase": "Running", "podIP": "10.244.1.2", "podIPs": [{ "ip": "10.244.1.2" }, { "ip": "fd00::2" }] } });
    let node = json!({ "metadata": metadata, "spec": { "podCIDRs": ["10.244.1.0/24", "fd00::/64"] },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }] } });
    vec![
        (|object| policy(convert::network_policy(&decode::<NetworkPolicy>(object)?)), object(standard)),
        (
            |object| policy(convert::cluster_network_policy(&decode::<ClusterNetworkPolicy>(object)?)),
            object(cluster),
        ),
        (
            |object| policy(convert::global_network_policy(&decode::<GlobalNetworkPolicy>(object)?)),
            object(own),
        ),
        (
            |object| policy(convert::selvage_network_policy(&decode::<SelvageNetworkPolicy>(object)?)),
            object(namespaced),
        ),
        (
            |object| {
                let (name, read) = convert::tier(&decode::<Tier>(object)?)?;
                Some(Change::Tier(name, read.value))
            },
            object(json!({ "order": 10, "defaultAction": "Pass" })),
        ),
        (
            |object| {
                let (key, read) = convert::network_set(&decode::<NetworkSet>(object)?)?;
                Some(Change::NetworkSet(key, read.value))
            },
            object(json!({ "nets": ["10.0.0.0/8", "fd00::1"] })),
        ),
        (
            |object| {
                let (key, read) = convert::global_network_set(&decode::<GlobalNetworkSet>(object)?)?;
                Some(Change::NetworkSet(key, read.value))
            },
            object(json!({ "nets": ["10.0.0.0/8", "fd00::1"] })),
        ),
        (
            |object| {
                let (name, read) = convert::ip_pool(&decode::<IPPool>(object)?)?;
                Some(Change::Pool(name, read.value))
            },
            object(
                json!({ "cidr": "10.244.0.0/16", "natOutgoing": true, "disabled": false, "nodeSelector": "all()" }),
            ),
        ),
        (
            |object| {
                let object = decode::<EndpointSlice>(object)?;
                Some(Change::Backends(
                    convert::object_key(&object.metadata)?,
                    convert::endpoint_slice(&object),
                ))
            },
            slice,
        ),
        (
            |object| {
                let object = decode::<Pod>(object)?;
                Some(Change::Pod(convert::pod_key(&object.metadata)?, convert::pod(&object)))
            },
            pod,
        ),
        (
            |object| {
                let object = decode::<Node>(object)?;
                Some(Change::Node(object.metadata.name.as_deref()?.into(), Some(convert::node(&object))))
            },
            node,
        ),
        (
            |object| {
                let metadata = decode::<ObjectMeta>(object["metadata"].clone())?;
                Some(Change::Namespace(metadata.name.as_deref()?.into(), Some(convert::namespace(&metadata))))
            },
            object(json!({})),
        ),
        (
            |object| {
                let metadata = decode::<ObjectMeta>(object["metadata"].clone())?;
                let account = convert::service_account(&metadata);
                Some(Change::ServiceAccount(convert::object_key(&metadata)?, Some(account)))
            },
            object(json!({})),
        ),
    ]
}

fn decode<T: DeserializeOwned>(object: Value) -> Option<T> {
    serde_json::from_value(object).ok()
}

fn policy(read: Option<Converted>) -> Option<Change> {
    let read = read?;
    Some(Change::Policy(read.key, read.policy))
}

/// Words that mean something somewhere, and others.
fn word() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "",
            " ",
            "10.0.0.0/8",
            "010.0.0.0/8",
            "10.0.0.0/33",
            "::/0",
            "::ffff:10.0.0.0/104",
            "fe80::1%eth0",
            "80:90",
            "90:80",
            "65536",
            "0",
            "http",
            "TCP",
            "udp",
            "all()",
            "global()",
            "has(",
            "a == 'b'",
            "!!!!has(a)",
            "Allow",
            "Deny",
            "Pass",
            "Log",
            "Accept",
            "Ingress",
            "Egress",
            "kube-admin",
            "In",
            "é\0",
        ][..],
    );
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

fn anything() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&[-1i64, 0, 1, 4, 6, 58, 255, 256, 65535, 65536, 1 << 31, 1 << 32][..]).prop_map(Value::from),
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => number,
        4 => word().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(word(), inner, 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Every place in a value, the deepest last.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let inside: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), value))
            .collect(),
        Value::Array(entries) => {
            entries.iter().enumerate().map(|(index, value)| (format!("{at}/{index}"), value)).collect()
        }
        _ => Vec::new(),
    };
    for (at, value) in inside {
        found.push(at.clone());
        places(value, &at, found);
    }
}

/// Puts something else in one place, or takes out what is there.
fn change(object: &mut Value, place: Index, other: &Option<Value>) {
    let mut found = Vec::new();
    places(object, "", &mut found);
    if found.is_empty() {
        return;
    }
    let place = place.get(&found);
    let (outer, name) = place.rsplit_once('/').unwrap();
    match (other, object.pointer_mut(outer).unwrap()) {
        (None, Value::Object(fields)) => {
            fields.remove(&name.replace("~1", "/").replace("~0", "~"));
        }
        (None, Value::Array(entries)) => {
            entries.remove(name.parse().unwrap());
        }
        (Some(other), _) => *object.pointer_mut(place).unwrap() = other.clone(),
        (None, _) => {}
    }
}

/// An engine with one object of every kind.
fn engine() -> Engine {
    let mut engine = Engine::new();
    for (convert, object) in kinds() {
        engine.apply(convert(object).unwrap());
    }
    engine.flush();
    engine
}

#[test]
fn good_objects_are_read_whole() {
    for (convert, object) in kinds() {
        let change = convert(object.clone());
        assert!(
            !matches!(
                change,
                None | Some(
                    Change::Policy(_, None)
                        | Change::Pod(_, None)
                        | Change::Backends(_, None)
                        | Change::Pool(_, None)
                        | Change::NetworkSet(_, None)
                        | Change::Tier(_, None)
                )
            ),
            "{object}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(
        kind in any::<Index>(),
        changes in vec((any::<Index>(), proptest::option::weighted(0.8, anything())), 1..4),
    ) {
        let kinds = kinds();
        let (convert, object) = kind.get(&kinds);
        let mut object = object.clone();
        for (place, other) in &changes {
            change(&mut object, *place, other);
        }
        if let Some(change) = convert(object) {
            let mut engine = engine();
            engine.apply(change);
            engine.flush();
        }
    }
}
