//! The kinds of our own and ClusterNetworkPolicy: what is refused when it is applied, and what is said of the rest.
//!
//! Every message of the definitions is tried against an API server alone (`xtask/tests/api_server`); here is one of each kind,
//! through the chart as it is installed, and what needs the operator.

use selvage_e2e::Cluster;
use serde_json::{Value, json};

use super::{SPACE, create, event, patch, refused};
use crate::status;
use crate::table::Table;

/// Refused when applied, by what is said.
pub fn refused_when_applied(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let rule = |rule: Value| json!({ "ingress": [rule] });
    let end = |end: Value| rule(json!({ "action": "Allow", "protocol": "TCP", "source": end }));
    let subject =
        json!({ "namespaces": { "matchExpressions": [{ "key": "k", "operator": "In", "values": [] }] } });
    let admin = json!({ "tier": "Admin", "priority": 10, "subject": subject });
    for (what, object, says) in [
        (
            "a field of host endpoints",
            ours("GlobalNetworkPolicy", json!({ "doNotTrack": true })),
            "is not supported",
        ),
        (
            "an unknown protocol",
            ours("GlobalNetworkPolicy", rule(json!({ "action": "Allow", "protocol": "tcp" }))),
            "must be TCP, UDP, SCTP, ICMP",
        ),
        (
            "a code without type",
            ours(
                "SelvageNetworkPolicy",
                rule(json!({ "action": "Deny", "protocol": "ICMP", "icmp": { "code": 0 } })),
            ),
            "code needs type",
        ),
        (
            "a range that ends early",
            ours("SelvageNetworkPolicy", end(json!({ "ports": ["90:80"] }))),
            "must not end before it starts",
        ),
        (
            "a network that is none",
            ours("SelvageNetworkPolicy", end(json!({ "nets": ["10.0.0.0/33"] }))),
            "is neither a network nor an address",
        ),
        (
            "a member that is none",
            ours("NetworkSet", json!({ "nets": ["somewhere"] })),
            "must be a network or an address",
        ),
        (
            "egress by domains",
            ours("GlobalNetworkSet", json!({ "allowedEgressDomains": ["example.com"] })),
            "there is no policy by domain name here",
        ),
        (
            "blocks for the CNI",
            ours("IPPool", json!({ "cidr": "10.9.0.0/16", "blockSize": 26 })),
            "it is about what the CNI does",
        ),
        ("a selector without values", cluster_policy(admin), "needs values"),
    ] {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        refused(table, &format!("a {kind} with {what}"), &create(cluster, &object)?, says);
    }
    let seen = patch(cluster, &["tier", "kube-admin"], &json!({ "spec": { "order": 5 } }))?;
    refused(
        table,
        "another order for the tier kube-admin",
        &seen,
        "this tier always exists and can't be changed",
    );
    Ok(())
}

/// Taken by the API server, as nobody but the operator can tell: conditions name the field, and an Event tells of it.
pub fn accepted_and_said(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let half = json!({ "ingress": [{ "action": "Allow", "source": { "selector": "app ==" } }] });
    let domains = json!([{ "domainNames": ["example.com"] }]);
    let egress = json!({ "tier": "Admin", "priority": 10, "subject": { "namespaces": {} },
        "egress": [{ "action": "Accept", "to": domains }] });
    let pool = pod_network(cluster)?;
    for (kind, spec, said, path) in [
        ("SelvageNetworkPolicy", json!({ "selector": "app ==" }), "False Invalid", "spec.selector"),
        ("SelvageNetworkPolicy", half, "False PartiallyInvalid", "spec.ingress[0].source.selector"),
        (
            "GlobalNetworkPolicy",
            json!({ "tier": "nowhere", "selector": "app == 'none'" }),
            "False TierNotFound",
            "nowhere",
        ),
        ("ClusterNetworkPolicy", egress, "False PartiallyInvalid", "spec.egress[0].to[0].domainNames"),
        ("IPPool", json!({ "cidr": pool }), "False Overlap", "overlap"),
    ] {
        let object = if kind == "ClusterNetworkPolicy" { cluster_policy(spec) } else { ours(kind, spec) };
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        cluster.apply(SPACE, &object.to_string())?;
        let message = status::says(cluster, kind, SPACE, &name, ("Accepted", said));
        let seen = if message.is_ok() { said } else { "otherwise" };
        table.row("said", &format!("{kind} {path}"), said, seen);
        let message = message.unwrap_or_else(|error| error.to_string());
        println!("         {message}");
        let seen = if message.contains(path) { "named" } else { "not named" };
        table.row("said", &format!("  its message names {path}"), "named", seen);
        let seen = if event(cluster, kind, &name, path).is_ok() { "sent" } else { "none" };
        table.row("said", "  a Warning about it", "sent", seen);
        cluster.kubectl_ok(&["delete", kind, "--namespace", SPACE, &name])?;
    }
    Ok(())
}

/// A part of the cluster's pod network.
fn pod_network(cluster: &Cluster) -> anyhow::Result<String> {
    let nodes = cluster.nodes()?;
    let block = nodes.first().and_then(|node| node.pod_cidrs.first().cloned());
    block.ok_or_else(|| anyhow::anyhow!("no node has a pod block"))
}

fn ours(kind: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": "selvage.io/v1alpha1", "kind": kind, "metadata": { "name": "bad-input" }, "spec": spec,
    });
    if ["SelvageNetworkPolicy", "NetworkSet"].contains(&kind) {
        object["metadata"]["namespace"] = json!(SPACE);
    }
    object
}

fn cluster_policy(spec: Value) -> Value {
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": { "name": "bad-input" }, "spec": spec,
    })
}
