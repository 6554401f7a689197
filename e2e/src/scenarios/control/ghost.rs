//! Pods that only the API server knows, on a node that nobody is: fifty a second, more than kubelets of a small machine
//! could start.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api as Objects, DeleteParams, Patch, PatchParams, PostParams};
use selvage_e2e::{Cluster, wait_for};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::latency::api::Api;
use crate::product::NAMESPACE;

/// The node; a block of few addresses, so that each is another pod's at once.
const NODE: &str = "ghost";
const BLOCK: &str = "10.244.250";
/// Each makes and deletes pods one after the other, five a second.
const WORKERS: u8 = 10;
const PACE: Duration = Duration::from_millis(200);
/// How long the operator may take to publish the last of them, in seconds.
const SETTLE: u64 = 60;

/// Pods that come and go until it is dropped.
pub struct Ghost<'a> {
    cluster: &'a Cluster,
    namespace: &'static str,
    workers: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    _api: Api,
}

impl<'a> Ghost<'a> {
    /// Makes the node, and pods whose label `role` is now `role`, now something else.
    pub fn start(cluster: &'a Cluster, namespace: &'static str, role: &'static str) -> anyhow::Result<Self> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE },
            // No agent, no flannel: their DaemonSets ask for the label of an operating system.
            "spec": { "podCIDRs": [format!("{BLOCK}.0/28")], "unschedulable": true },
        });
        cluster.apply(namespace, &node.to_string())?;
        let api = Api::connect(cluster)?;
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let workers = (0..WORKERS).map(|number| {
            let pods = Objects::<Pod>::namespaced(api.client(), namespace);
            api.spawn(work(pods, number, role, Arc::clone(&stop), Arc::clone(&made)))
        });
        Ok(Self { cluster, namespace, workers: workers.collect(), stop, made, _api: api })
    }

    /// How many pods were made and deleted so far.
    pub fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Ends, and waits until none of the addresses is in any group.
    ///
    /// # Errors
    /// Where one stays.
    pub fn end(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        wait_for("the last of the pods to go", SETTLE, || {
            if self.workers.iter().all(JoinHandle::is_finished) { Ok(()) } else { Err("busy".to_owned()) }
        })?;
        Ok(wait_for("groups without the address of a pod that is gone", SETTLE, || {
            let list = self
                .cluster
                .kubectl_json(&["get", "addressgroups", "-n", NAMESPACE])
                .map_err(|error| error.to_string())?;
            let text = list.to_string();
            if text.contains(&format!("\"{BLOCK}.")) { Err("some are left".to_owned()) } else { Ok(()) }
        })?)
    }
}

impl Drop for Ghost<'_> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.iter().for_each(JoinHandle::abort);
        let pods = ["delete", "pod", "-n", self.namespace, "-l", "ghost", "--force", "--grace-period=0"];
        let node = ["delete", "node", NODE, "--ignore-not-found"];
        for words in [&pods[..], &node] {
            if let Err(error) = self.cluster.kubectl_ok(words) {
                eprintln!("  clean-up: {error:#}");
            }
        }
    }
}

async fn work(
    pods: Objects<Pod>,
    number: u8,
    role: &'static str,
    stop: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
) {
    let mut pace = tokio::time::interval(PACE);
    let address = format!("{BLOCK}.{}", number + 2);
    for round in 0_u64.. {
        pace.tick().await;
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("ghost-{number}-{round}");
        let role = if round % 2 == 0 { role } else { "none" };
        // One that the API server is too busy for is not counted.
        if life(&pods, &name, role, &address).await.is_ok() {
            made.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A pod's life: made, running with its address, deleted.
async fn life(pods: &Objects<Pod>, name: &str, role: &str, address: &str) -> anyhow::Result<()> {
    let pod: Pod = serde_json::from_value(pod(name, role))?;
    pods.create(&PostParams::default(), &pod).await?;
    let status = json!({ "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] } });
    let running = pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await;
    pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    running?;
    Ok(())
}

fn pod(name: &str, role: &str) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "ghost": "", "role": role } },
        "spec": {
            "nodeName": NODE, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "none", "image": "none" }],
        },
    })
}
