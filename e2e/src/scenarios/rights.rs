//! What operator and agents may do, beside what they have done since the bed came up: a right that nobody uses is one too
//! many, a request that was refused is one too few.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Context;
use selvage_e2e::Cluster;
use serde_json::Value;

use crate::product::NAMESPACE;
use crate::table::Table;

/// Who, and the role that says what it may do.
const ROLES: &[(&str, &str)] = &[
    ("selvage-operator", "clusterrole/selvage-operator"),
    ("selvage-operator", "role/selvage-operator"),
    ("selvage-agent", "role/selvage-agent"),
];

/// What a run may do without: (who, verb, resource).
const SELDOM: &[(&str, &str, &str)] = &[
    // After a conflict with a write of somebody else.
    ("selvage-operator", "get", "addressgroups.selvage.io"),
    ("selvage-operator", "get", "nodepolicies.selvage.io"),
    // When the same is told again within minutes.
    ("selvage-operator", "patch", "events.events.k8s.io"),
    // When a node is removed from the cluster, with its block.
    ("selvage-operator", "delete", "ippools.selvage.io"),
    ("selvage-operator", "delete", "nodepolicies.selvage.io"),
    // When a NetworkPolicy was replaced by one of the same name before its status was collected.
    ("selvage-operator", "delete", "networkpolicystatuses.selvage.io"),
];

/// A right: who, verb, resource with its API group.
type Right = (String, String, String);

/// The scenario: whatever ran before is what is looked at.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let granted = granted(cluster)?;
    let (used, refused) = asked(cluster)?;
    let mut table = Table::start("what programs may do, and did");
    for right in &granted {
        let (who, verb, resource) = right;
        let times = used.get(right).copied().unwrap_or_default();
        let expected = if SELDOM.contains(&(&**who, &**verb, &**resource)) { "seldom" } else { "used" };
        let seen = match (expected, times) {
            ("seldom", _) => "seldom",
            (_, 0) => "never",
            _ => "used",
        };
        table.row("right", &format!("{who} {verb} {resource} ({times})"), expected, seen);
    }
    for (who, verb, resource) in &refused {
        table.row("right", &format!("{who} {verb} {resource}"), "allowed", "refused");
    }
    table.finish()
}

/// Every verb of every role.
fn granted(cluster: &Cluster) -> anyhow::Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for (who, role) in ROLES {
        let role = cluster.kubectl_json(&["get", "--namespace", NAMESPACE, role])?;
        for rule in role["rules"].as_array().context("a role without rules")? {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert(((*who).to_owned(), verb.to_owned(), named(resource, group)));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// What was asked for, how often, and what of it was refused, by the programs themselves: who holds a stolen token uses
/// another client.
fn asked(cluster: &Cluster) -> anyhow::Result<(BTreeMap<Right, usize>, BTreeSet<Right>)> {
    let path = cluster.require_bed()?.audit_log();
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (mut used, mut refused) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).context("an audit event")?;
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let Some(who) = user.strip_prefix(&format!("system:serviceaccount:{NAMESPACE}:")) else { continue };
        let known = ROLES.iter().any(|(account, _)| *account == who);
        if !known || event["userAgent"].as_str().is_some_and(|agent| agent.starts_with("kubectl/")) {
            continue;
        }
        let object = &event["objectRef"];
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let resource = match text("subresource") {
            "" => text("resource").to_owned(),
            sub => format!("{}/{sub}", text("resource")),
        };
        let verb = event["verb"].as_str().unwrap_or_default();
        let right = (who.to_owned(), verb.to_owned(), named(&resource, text("apiGroup")));
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" {
            refused.insert(right);
        } else {
            *used.entry(right).or_default() += 1;
        }
    }
    anyhow::ensure!(!used.is_empty(), "{} tells of no request", path.display());
    Ok((used, refused))
}

fn named(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}
