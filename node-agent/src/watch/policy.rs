//! The watch on this node's NodePolicy.

use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use selvage_crds::codec::decode_node_policy;
use selvage_crds::conditions::reason;
use selvage_crds::{NodePolicy, NodePolicyStatus};
use selvage_policy::compiled;
use tokio::sync::watch;

use crate::metrics::{Metrics, WatchKind};

/// What is known of the NodePolicy.
#[derive(Debug, Clone, Default)]
pub struct PolicyView {
    /// A first list was completed: what is absent is really absent.
    pub listed: bool,
    /// The object as last seen; it stays when the object disappears.
    pub observed: Option<Arc<Observed>>,
    /// The object is there now.
    pub present: bool,
    /// How many lists were completed. Between two of them, what was written may be lost: a backup was restored.
    pub lists: u64,
}

/// One generation of the NodePolicy.
#[derive(Debug, Clone)]
pub struct Observed {
    /// The object's uid.
    pub uid: String,
    /// The object's generation.
    pub generation: i64,
    /// The table must go.
    pub teardown: bool,
    /// `spec.digest`, as published.
    pub digest: String,
    /// `spec.policySet`, as published.
    pub policy_set: String,
    /// What the object means, or why it can't be used.
    pub policy: Result<Arc<compiled::NodePolicy>, Unreadable>,
    /// The status it had when this generation was first seen.
    pub status: Option<NodePolicyStatus>,
}

/// Why an object can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// One of [`selvage_crds::conditions::reason`].
    pub reason: &'static str,
    /// The field and what is wrong with it.
    pub message: String,
}

/// Watches the NodePolicy until the program ends.
pub async fn follow(
    client: Client,
    namespace: &str,
    node: &str,
    view: watch::Sender<PolicyView>,
    metrics: Arc<Metrics>,
) {
    let api: Api<DeserializeGuard<NodePolicy>> = Api::namespaced(client, namespace);
    let config = super::config().fields(&format!("metadata.name={node}"));
    let start = || watcher(api.clone(), config.clone()).backoff(super::Retry::new(node));
    let events = super::events(node, start);
    run(events, node, &view, &metrics).await;
}

/// Applies events to the view.
pub async fn run(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<NodePolicy>>>>,
    node: &str,
    view: &watch::Sender<PolicyView>,
    metrics: &Metrics,
) {
    let mut events = std::pin::pin!(events);
    let mut listed_now = false;
    let mut health = super::Health::default();
    while let Some(event) = events.next().await {
        if event.is_ok() {
            health.works("the NodePolicy");
        }
        match event {
            Ok(watcher::Event::Init) => listed_now = false,
            Ok(watcher::Event::InitApply(object)) => {
                listed_now |= object.name_any() == node;
                take(object, node, view);
            }
            Ok(watcher::Event::Apply(object)) => take(object, node, view),
            Ok(watcher::Event::InitDone) => view.send_modify(|v| {
                v.listed = true;
                v.present = listed_now;
                v.lists += 1;
            }),
            Ok(watcher::Event::Delete(object)) => {
                if object.name_any() == node {
                    tracing::warn!(node, "the NodePolicy was deleted; what is enforced stays");
                    view.send_modify(|v| v.present = false);
                }
            }
            Err(error) => {
                metrics.watch_error(WatchKind::NodePolicy);
                health.failed("the NodePolicy", &error);
            }
        }
    }
}

fn take(object: DeserializeGuard<NodePolicy>, node: &str, view: &watch::Sender<PolicyView>) {
    if object.name_any() != node {
        return;
    }
    let uid = object.uid().unwrap_or_default();
    let generation = object.meta().generation.unwrap_or_default();
    // After a backup was restored, a generation can come a second time and say something else.
    let spec = object.0.as_ref().ok().map(|object| &object.spec);
    let says = spec.map(|spec| (spec.teardown, spec.digest.clone(), spec.policy_set.clone()));
    view.send_if_modified(|v| {
        let known = v.observed.as_ref().is_some_and(|o| {
            let same = |(teardown, digest, policy_set): &(bool, String, String)| {
                (o.teardown, &o.digest, &o.policy_set) == (*teardown, digest, policy_set)
            };
            o.uid == uid && o.generation == generation && says.as_ref().is_none_or(same)
        });
        let changed = !known || !v.present;
        v.present = true;
        if !known {
            v.observed = Some(Arc::new(observe(object, node, uid, generation)));
        }
        changed
    });
}

fn observe(object: DeserializeGuard<NodePolicy>, node: &str, uid: String, generation: i64) -> Observed {
    let object = match object.0 {
        Ok(object) => object,
        Err(invalid) => {
            let policy = Err(Unreadable { reason: reason::UNREADABLE, message: invalid.error });
            let (digest, policy_set) = (String::new(), String::new());
            return Observed { uid, generation, teardown: false, digest, policy_set, policy, status: None };
        }
    };
    let policy = decode_node_policy(node, &object.spec)
        .map(Arc::new)
        .map_err(|e| Unreadable { reason: e.reason(), message: e.to_string() });
    match &policy {
        Ok(policy) => tracing::info!(
            generation,
            digest = object.spec.digest,
            endpoints = policy.endpoints.len(),
            policies = policy.policies.len(),
            "new NodePolicy"
        ),
        Err(error) => {
            tracing::error!(
                generation,
                reason = error.reason,
                message = error.message,
                "unreadable NodePolicy"
            );
        }
    }
    Observed {
        uid,
        generation,
        teardown: object.spec.teardown,
        digest: object.spec.digest,
        policy_set: object.spec.policy_set,
        policy,
        status: object.status,
    }
}

#[cfg(test)]
mod tests;
