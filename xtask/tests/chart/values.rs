//! Values: all are described, and nonsense is refused with a message.

use std::collections::BTreeSet;

use rstest::rstest;
use serde_json::Value;

use crate::render::{ROOT, try_render};

#[rstest]
#[case("agent.unknownPods=ajar", "at '/agent/unknownPods': value must be one of 'closed', 'open'")]
#[case("agent.tableOwnership=mine", "at '/agent/tableOwnership': value must be one of 'owned', 'plain'")]
#[case("agent.countAllowed=yes", "at '/agent/countAllowed': got string, want boolean")]
#[case("agent.privileged=true", "at '/agent': additional properties 'privileged' not allowed")]
#[case("nonsense=1", "additional properties 'nonsense' not allowed")]
#[case("operator.replicas=many", "at '/operator/replicas': got string, want integer")]
#[case("operator.replicas=-1", "at '/operator/replicas': minimum: got -1, want 0")]
#[case("operator.port=70000", "at '/operator/port': maximum: got 70,000, want 65,535")]
#[case("operator.image.digest=sha256:12", "at '/operator/image/digest'")]
#[case("operator.image.pullPolicy=Sometimes", "at '/operator/image/pullPolicy'")]
#[case("apiServer.host=https://api.example.com", "at '/apiServer/host'")]
#[case("apiServer.port=0", "at '/apiServer/port'")]
#[case("log.format=xml", "at '/log/format': value must be one of 'text', 'json'")]
#[case("listenAddress=::", "at '/listenAddress'")]
#[case("podCidrs={10.244.0.0}", "at '/podCidrs/0'")]
#[case("agent.podInterfaces={}", "at '/agent/podInterfaces")]
#[case("agent.podInterfaces={sixteen-letters-}", "at '/agent/podInterfaces/0'")]
#[case("agent.cniResultsDir=results", "at '/agent/cniResultsDir'")]
#[case("agent.maxUnavailable=0", "at '/agent/maxUnavailable'")]
#[case("agent.resources.limits.memory=lots", "at '/agent/resources/limits/memory'")]
#[case("teardown.timeout=soon", "at '/teardown/timeout'")]
#[case(
    "clusterNetworkPolicy.installCRD=2",
    "at '/clusterNetworkPolicy/installCRD': got number, want boolean"
)]
#[case("ipPools.createDefault=no-thanks", "at '/ipPools/createDefault': got string, want boolean")]
#[case("crds.install=perhaps", "at '/crds/install': got string, want boolean")]
fn nonsense_is_refused(#[case] value: &str, #[case] message: &str) {
    let output = try_render(&[value]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{value} was taken");
    assert!(error.contains("values don't meet the specifications of the schema"), "{value}: {error}");
    assert!(error.contains(message), "{value}: {error}");
}

/// Every value is in the schema and every property of the schema is a value, so that neither lies.
#[test]
fn values_and_schema_say_the_same() {
    let chart = format!("{ROOT}/charts/selvage");
    let read = |name: &str| std::fs::read_to_string(format!("{chart}/{name}")).expect("a file of the chart");
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).expect("YAML");
    let schema: Value = serde_json::from_str(&read("values.schema.json")).expect("JSON");
    let mut described = BTreeSet::new();
    properties(&schema, &schema, "", &mut described);
    // What a parent chart shares is no setting of this one.
    described.remove("global");
    let mut given = BTreeSet::new();
    paths(&values, "", &mut given);
    let missing: Vec<_> = given.difference(&described).collect();
    assert!(missing.is_empty(), "not in the schema: {missing:?}");
    let unset: Vec<_> = described.difference(&given).filter(|path| !optional(path)).collect();
    assert!(unset.is_empty(), "not in values.yaml: {unset:?}");
}

/// Parts of values that are the user's own: what to request, node labels, tolerations.
fn optional(path: &str) -> bool {
    path.ends_with(".requests") || path.ends_with(".limits")
}

fn properties(root: &Value, schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    let referred = schema["$ref"].as_str().and_then(|pointer| root.pointer(pointer.trim_start_matches('#')));
    let schema = referred.unwrap_or(schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        properties(root, property, &path, into);
        into.insert(path);
    }
}

fn paths(values: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (name, value) in values.as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        // Below these, names are the user's.
        let free =
            ["requests", "limits", "nodeSelector", "podLabels", "podAnnotations"].contains(&name.as_str());
        if !free {
            paths(value, &path, into);
        }
        into.insert(path);
    }
}
