//! Waiting for what Selvage itself says: a policy's conditions.

use selvage_e2e::{Cluster, wait_for};
use serde_json::Value;

/// How long a policy may take to be programmed on every node, in seconds.
const PROGRAMMED: u64 = 30;

/// Waits until a NetworkPolicy's present generation is Programmed on every node, and returns "n/n".
pub fn programmed(cluster: &Cluster, namespace: &str, policy: &str) -> anyhow::Result<String> {
    programmed_within(cluster, namespace, policy, PROGRAMMED)
}

/// As [`programmed`], with another time, in seconds.
pub fn programmed_within(
    cluster: &Cluster,
    namespace: &str,
    policy: &str,
    seconds: u64,
) -> anyhow::Result<String> {
    let object = cluster.kubectl_json(&["get", "networkpolicy", "--namespace", namespace, policy])?;
    let (generation, uid) = (&object["metadata"]["generation"], &object["metadata"]["uid"]);
    let what = format!("NetworkPolicy {namespace}/{policy} to be Programmed");
    Ok(wait_for(&what, seconds, || {
        let words = ["get", "networkpolicystatus", "--namespace", namespace, policy];
        let seen = cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let condition = condition(&seen, "Programmed");
        let current = condition["observedGeneration"] == *generation && seen["spec"]["uid"] == *uid;
        if current && condition["status"] == "True" {
            Ok(seen["status"]["nodes"]["summary"].as_str().unwrap_or_default().to_owned())
        } else {
            Err(seen["status"].to_string())
        }
    })?)
}

/// Waits until an object that has conditions of its own is Programmed in its present generation.
pub fn stands(cluster: &Cluster, kind: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
    Ok(wait_for(&format!("{kind} {namespace}/{name} to be Programmed"), PROGRAMMED, || {
        let words = ["get", kind, "--namespace", namespace, name];
        let seen = cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let condition = condition(&seen, "Programmed");
        let current = condition["observedGeneration"] == seen["metadata"]["generation"];
        if current && condition["status"] == "True" { Ok(()) } else { Err(seen["status"].to_string()) }
    })?)
}

/// Waits until an object says of one of its conditions what is expected: its status and reason, as "False InvalidCIDR".
pub fn says(
    cluster: &Cluster,
    kind: &str,
    namespace: &str,
    name: &str,
    (type_, expected): (&str, &str),
) -> anyhow::Result<String> {
    Ok(wait_for(&format!("{kind} {namespace}/{name} to be {type_} {expected}"), PROGRAMMED, || {
        let words = ["get", kind, "--namespace", namespace, name];
        let seen = cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let condition = condition(&seen, type_);
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        let current = condition["observedGeneration"] == seen["metadata"]["generation"];
        let said = format!("{} {}", text("status"), text("reason"));
        if current && said == expected { Ok(text("message")) } else { Err(seen["status"].to_string()) }
    })?)
}

/// Waits until a deleted policy's status is gone too.
pub fn gone(cluster: &Cluster, namespace: &str, policy: &str) -> anyhow::Result<()> {
    Ok(wait_for(&format!("the status of {namespace}/{policy} to go"), PROGRAMMED, || {
        let words = ["get", "networkpolicystatus", "--namespace", namespace, policy];
        match cluster.kubectl(&words) {
            Ok(output) if output.stderr.contains("NotFound") => Ok(()),
            Ok(output) => Err(output.stdout + &output.stderr),
            Err(error) => Err(error.to_string()),
        }
    })?)
}

/// A condition of an object by its type, or null.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}
