//! The API server without kubectl's own start in between, and what keeps it busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api as Objects, DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use selvage_e2e::Cluster;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// Clients that write one after the other, each after a pause, while the API server is to be busy.
const BUSY_CLIENTS: usize = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// A connection that stays open.
pub struct Api {
    runtime: Runtime,
    client: Client,
}

/// Writes that go on until it is dropped.
pub struct Load {
    clients: Vec<JoinHandle<()>>,
    written: Arc<AtomicU64>,
    start: Instant,
}

impl Api {
    /// As the administrator.
    pub fn connect(cluster: &Cluster) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()).context("the kubeconfig")?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self { runtime, client })
    }

    /// Makes a NetworkPolicy; the time is that at which the request was sent.
    pub fn create(&self, namespace: &str, policy: &Value) -> anyhow::Result<Instant> {
        let policy = serde_json::from_value(policy.clone()).context("the policy")?;
        let policies = Objects::<NetworkPolicy>::namespaced(self.client.clone(), namespace);
        let sent = Instant::now();
        self.runtime.block_on(policies.create(&PostParams::default(), &policy))?;
        Ok(sent)
    }

    /// Deletes a NetworkPolicy.
    pub fn delete(&self, namespace: &str, name: &str) -> anyhow::Result<()> {
        let policies = Objects::<NetworkPolicy>::namespaced(self.client.clone(), namespace);
        self.runtime.block_on(policies.delete(name, &DeleteParams::default()))?;
        Ok(())
    }

    /// The client, for work that is given to [`Api::spawn`].
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Works beside the caller.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.runtime.spawn(work)
    }

    /// Keeps the API server and etcd busy with writes of ConfigMaps.
    pub fn load(&self, namespace: &str) -> Load {
        let (written, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let clients = (0..BUSY_CLIENTS).map(|client| {
            let maps = Objects::<ConfigMap>::namespaced(self.client.clone(), namespace);
            self.runtime.spawn(write(maps, format!("load-{client}"), Arc::clone(&written)))
        });
        Load { clients: clients.collect(), written, start }
    }
}

async fn write(maps: Objects<ConfigMap>, name: String, written: Arc<AtomicU64>) {
    let params = PatchParams::apply("selvage-scenarios").force();
    for number in 0_u64.. {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name },
            "data": { "number": number.to_string() },
        });
        // One that fails is not counted, and that is all there is to it: the load is said as what was written.
        if maps.patch(&name, &params, &Patch::Apply(&map)).await.is_ok() {
            written.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(BUSY_PAUSE).await;
    }
}

impl Load {
    /// Writes a second since the start.
    pub fn rate(&self) -> f64 {
        // A count of writes is far below 2^52.
        self.written.load(Ordering::Relaxed) as f64 / self.start.elapsed().as_secs_f64()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.clients.iter().for_each(JoinHandle::abort);
    }
}
