//! A small cluster, and replicas of the operator on it.

use std::time::{Duration, Instant};

use selvage_operator::args;
use selvage_operator::lease::Terms;
use selvage_operator::metrics::Metrics;
use selvage_operator::run::{Error, Operator};
use selvage_operator::watch::Kind;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fake::Fake;

/// The system namespace.
pub const SYSTEM: &str = "selvage-system";

/// How long a replica trusts its lease.
pub const RENEW_WITHIN: Duration = Duration::from_secs(4);

/// A running replica.
pub struct Replica {
    stop: watch::Sender<bool>,
    task: JoinHandle<Result<(), Error>>,
}

impl Replica {
    /// Starts one; the name is its identity and that of its calls.
    pub fn start(fake: &Fake, name: &'static str) -> Self {
        let client = fake.client(name);
        let args = args::Run {
            namespace: SYSTEM.into(),
            listen: ([127, 0, 0, 1], 0).into(),
            lease_name: "selvage-operator".into(),
            pod_cidrs: vec![],
            create_default_pools: true,
        };
        let (stop, stopped) = watch::channel(false);
        let operator = Operator {
            identity: name.into(),
            // Shorter than the real ones, and long enough for a machine that has other things to do.
            terms: Terms {
                duration: Duration::from_secs(6),
                renew_within: RENEW_WITHIN,
                retry: Duration::from_millis(200),
            },
            metrics: Metrics::default(),
            missing: watch::channel(Kind::ALL.to_vec()).0,
        };
        let task = tokio::spawn(async move { operator.run(client, &args, stopped).await });
        Self { stop, task }
    }

    /// Stops it as a signal does.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap().unwrap();
    }

    /// Ends it as a crash does: no lease is given back.
    pub fn crash(self) {
        self.task.abort();
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Error {
        tokio::time::timeout(Duration::from_secs(30), self.task).await.unwrap().unwrap().unwrap_err()
    }
}

/// Waits until something holds.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Gives the operator time to do what it must not do.
pub async fn a_while() {
    tokio::time::sleep(Duration::from_millis(700)).await;
}

/// Two namespaces, nodes n1 and n2, pods a/web on n1 and a/db on n2, and a policy that lets web reach db.
pub fn cluster() -> Fake {
    let fake = Fake::new();
    for name in ["a", "b", SYSTEM] {
        fake.put("namespaces", json!({ "metadata": { "name": name } }));
    }
    node(&fake, "n1", 1);
    node(&fake, "n2", 2);
    pod(&fake, "web", "n1", "10.244.1.2");
    pod(&fake, "db", "n2", "10.244.2.2");
    let peers = json!([{ "podSelector": { "matchLabels": { "app": "web" } } }]);
    let spec = json!({ "podSelector": { "matchLabels": { "app": "db" } }, "ingress": [{ "from": peers }] });
    policy(&fake, "db", spec);
    fake
}

pub fn node(fake: &Fake, name: &str, number: u8) {
    let block = format!("10.244.{number}.0/24");
    fake.put("nodes", json!({ "metadata": { "name": name }, "spec": { "podCIDRs": [block] } }));
}

/// A pod in namespace a, with its name as label `app`.
pub fn pod(fake: &Fake, name: &str, node: &str, address: &str) {
    fake.put(
        "pods",
        json!({
            "metadata": { "namespace": "a", "name": name, "labels": { "app": name } },
            "spec": { "nodeName": node, "containers": [] },
            "status": { "phase": "Running", "podIPs": [{ "ip": address }] },
        }),
    );
}

/// A policy in namespace a.
pub fn policy(fake: &Fake, name: &str, spec: Value) {
    fake.put("networkpolicies", json!({ "metadata": { "namespace": "a", "name": name }, "spec": spec }));
}

/// The members of every slice.
pub fn members(fake: &Fake) -> Vec<String> {
    let mut members: Vec<String> = fake
        .all("addressgroups")
        .iter()
        .flat_map(|slice| slice["spec"]["members"].as_array().cloned().unwrap_or_default())
        .map(|member| member.as_str().unwrap().to_owned())
        .collect();
    members.sort();
    members
}

/// A node's NodePolicy.
pub fn node_policy(fake: &Fake, node: &str) -> Option<Value> {
    fake.get("nodepolicies", SYSTEM, node)
}

/// Everything published: names, versions, specs.
pub fn published(fake: &Fake) -> Vec<Value> {
    ["nodepolicies", "addressgroups"].into_iter().flat_map(|plural| fake.all(plural)).collect()
}

/// What is written of the cluster: the group, two NodePolicies and the policy's status.
pub async fn settled(fake: &Fake) {
    until("the cluster is published", || {
        node_policy(fake, "n1").is_some()
            && node_policy(fake, "n2").is_some()
            && members(fake) == ["10.244.1.2"]
            && fake.get("networkpolicystatuses", "a", "db").is_some_and(|found| found["status"].is_object())
            && fake.all("ippools").iter().any(|pool| pool["status"].is_object())
    })
    .await;
    a_while().await;
}

/// The node's agent is ready.
pub fn agent(fake: &Fake, node: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    fake.put(
        "pods",
        json!({
            "metadata": {
                "namespace": SYSTEM, "name": format!("agent-{node}"),
                "labels": { "app.kubernetes.io/component": "agent" },
            },
            "spec": { "nodeName": node, "hostNetwork": true, "containers": [] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": ready }] },
        }),
    );
}

/// The node's agent reports that it enforces what it was sent, but for what `change` says.
pub fn report(fake: &Fake, node: &str, change: impl FnOnce(&mut Value)) {
    fake.edit("nodepolicies", SYSTEM, node, |policy| {
        let mut status = json!({
            "policySet": policy["spec"]["policySet"], "formats": [1],
            "observedGeneration": policy["metadata"]["generation"],
        });
        change(&mut status);
        policy["status"] = status;
    });
}

/// The status and reason of a condition of any object; empty where it has none.
pub fn condition_of(fake: &Fake, plural: &str, namespace: &str, name: &str, kind: &str) -> (String, String) {
    let found = fake.get(plural, namespace, name).map(|found| found["status"]["conditions"].clone());
    let found = found.and_then(|conditions| conditions.as_array().cloned()).unwrap_or_default();
    let found = found.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// Waits for a condition.
pub async fn until_is(fake: &Fake, plural: &str, namespace: &str, name: &str, kind: &str, is: (&str, &str)) {
    let what = format!("{plural} {name} has {kind} {is:?}");
    until(&what, || {
        let (status, reason) = condition_of(fake, plural, namespace, name, kind);
        (status.as_str(), reason.as_str()) == is
    })
    .await;
}
