//! Writes the status: on change and after each list, at most once a second, without heartbeats.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use selvage_crds::{NodePolicy, NodePolicyStatus};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Report, status};
use crate::watch::policy::PolicyView;

/// Least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);
/// Least time before a write that tells of nothing but figures.
const FIGURES_PAUSE: Duration = Duration::from_secs(10);
/// Pauses after a failed write, doubled up to the second.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);
/// A write that takes longer is tried again.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the status goes.
pub trait Target: Send + Sync {
    /// Merges the JSON into the object's status. The error is for the log.
    fn patch(&self, status: Value) -> impl Future<Output = Result<(), String>> + Send;
}

/// The status subresource of one NodePolicy.
#[derive(Debug, Clone)]
pub struct StatusOf {
    api: Api<NodePolicy>,
    node: String,
}

impl StatusOf {
    /// The status of a node's NodePolicy.
    pub fn new(client: Client, namespace: &str, node: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), node: node.to_owned() }
    }
}

impl Target for StatusOf {
    async fn patch(&self, status: Value) -> Result<(), String> {
        let patch = Patch::Merge(Value::from(Map::from_iter([("status".to_owned(), status)])));
        let params = PatchParams::default();
        let write = self.api.patch_status(&self.node, &params, &patch);
        match tokio::time::timeout(TIMEOUT, write).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer in {} s", TIMEOUT.as_secs())),
        }
    }
}

/// Writes what changes, until the report has no writer any more.
pub async fn write(
    target: impl Target,
    mut report: watch::Receiver<Report>,
    mut policy: watch::Receiver<PolicyView>,
) {
    let mut written: Option<Written> = None;
    let mut last: Option<Instant> = None;
    let mut retry = RETRY;
    loop {
        let now = report.borrow_and_update().clone();
        let (present, uid, lists, old) = {
            let view = policy.borrow_and_update();
            let observed = view.observed.as_ref();
            let old = observed.and_then(|o| o.status.clone()).unwrap_or_default();
            (view.present, observed.map(|o| o.uid.clone()).unwrap_or_default(), view.lists, old)
        };
        // A new object of the same name starts without a status.
        if written.as_ref().is_some_and(|w| w.uid != uid) {
            written = None;
        }
        let due = match &written {
            _ if !present || now.generation.is_none() => None,
            None => Some(last.map_or_else(Instant::now, |at| at + PAUSE)),
            Some(w) if w.report == now && w.lists == lists => None,
            Some(w) if w.lists == lists && only_figures(&w.report, &now) => Some(w.at + FIGURES_PAUSE),
            Some(w) => Some(w.at + PAUSE),
        };
        let Some(due) = due else {
            if !changed(&mut report, &mut policy).await {
                return;
            }
            continue;
        };
        if Instant::now() < due {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                alive = changed(&mut report, &mut policy) => {
                    if !alive {
                        return;
                    }
                    continue;
                }
            }
        }
        let before = written.as_ref().map_or(old.conditions, |w| w.conditions.clone());
        let wanted = status(&now, &before, &Time(Timestamp::now()));
        let conditions = wanted.conditions.clone();
        last = Some(Instant::now());
        match target.patch(merge_patch(&wanted)).await {
            Ok(()) => {
                retry = RETRY;
                written = Some(Written { uid, report: now, lists, conditions, at: Instant::now() });
            }
            Err(error) => {
                tracing::warn!(error, "the status could not be written; trying again");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LONGEST);
            }
        }
    }
}

#[derive(Debug)]
struct Written {
    uid: String,
    report: Report,
    /// After that many lists: with the next one, what was written may be gone.
    lists: u64,
    conditions: Vec<Condition>,
    at: Instant,
}

/// False when one of them has no writer any more.
async fn changed(report: &mut watch::Receiver<Report>, policy: &mut watch::Receiver<PolicyView>) -> bool {
    tokio::select! {
        changed = report.changed() => changed.is_ok(),
        changed = policy.changed() => changed.is_ok(),
    }
}

/// True where nothing but counts differs: those may wait, so that pods that come and go do not make a write a second.
fn only_figures(a: &Report, b: &Report) -> bool {
    let bare = |r: &Report| Report { revision: 0, sizes: Default::default(), applied_to: None, ..r.clone() };
    bare(a) == bare(b)
}

/// A merge patch leaves alone what it does not name, so fields that are absent now are named with null.
fn merge_patch(status: &NodePolicyStatus) -> Value {
    const OPTIONAL: [&str; 7] = [
        "observedGeneration",
        "digest",
        "policySet",
        "lastError",
        "notProgrammed",
        "agentVersion",
        "addresses",
    ];
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Value::Object(fields) = &mut value {
        for name in OPTIONAL {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    value
}

#[cfg(test)]
mod tests;
