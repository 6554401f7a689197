//! `teardown`: every agent removes its rules, then what the operator made is removed.
//!
//! Uninstalling runs this while operators and agents still run. A leading operator that sees `spec.teardown` being set
//! on a NodePolicy publishes nothing any more, so nothing comes back between this and its own end. One that begins to
//! lead takes the flags for left over and resets them, which is why they are set in each round anew.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::{Client, Resource, ResourceExt};
use selvage_crds::conditions::reason;
use selvage_crds::tier::FINALIZER;
use selvage_crds::{AddressGroup, IPPool, NetworkPolicyStatus, NodePolicy, Tier};
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::{info, warn};

use crate::api::{MANAGED_BY, OPERATOR, deadline};
use crate::args;

/// The pause between two looks at the reports.
const PAUSE: Duration = Duration::from_secs(1);
/// How many requests are under way together.
const CONCURRENCY: usize = 8;

/// Why a teardown is not complete.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server can't be reached, or refused something.
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    /// The kubeconfig or service account can't be read.
    #[error("the API server's address or credentials: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// Agents did not report in time. Their NodePolicies are left, so that they still tear down when they come back.
    #[error("not torn down within {timeout:?} on {}: {}", .nodes.len(), .nodes.join(", "))]
    Nodes {
        /// How long was waited.
        timeout: Duration,
        /// The nodes.
        nodes: Vec<String>,
    },
}

/// Tears down with the cluster's own or the user's credentials.
///
/// # Errors
/// What is left, and why.
pub async fn run(args: args::Teardown) -> Result<(), Error> {
    let client = Client::try_from(kube::Config::infer().await?)?;
    teardown(client, &args.namespace, args.timeout).await
}

/// Tears down.
///
/// # Errors
/// What is left, and why.
pub async fn teardown(client: Client, namespace: &str, timeout: Duration) -> Result<(), Error> {
    let policies = Api::<NodePolicy>::namespaced(client.clone(), namespace);
    let left = wait(&client, &policies, Instant::now() + timeout).await?;
    remove(&Api::<AddressGroup>::namespaced(client.clone(), namespace), &left).await?;
    let everywhere = Api::<PartialObjectMeta<NetworkPolicyStatus>>::all(client.clone());
    remove_namespaced::<NetworkPolicyStatus>(&client, &everywhere).await?;
    remove(&Api::<IPPool>::all(client.clone()), &BTreeSet::new()).await?;
    release(&Api::<Tier>::all(client)).await?;
    // Last of all: an agent that starts now would otherwise find groups without a policy that says teardown.
    remove(&policies, &left).await?;
    if left.is_empty() {
        info!("torn down");
        return Ok(());
    }
    Err(Error::Nodes { timeout, nodes: left.into_iter().collect() })
}

/// Asks every agent and waits for all; returns the nodes whose agents did not report.
async fn wait(client: &Client, policies: &Api<NodePolicy>, end: Instant) -> Result<BTreeSet<String>, Error> {
    let nodes = Api::<PartialObjectMeta<Node>>::all(client.clone());
    let mut told = BTreeSet::new();
    loop {
        // A node that is gone has no agent that could report.
        let alive: BTreeSet<String> =
            list(&nodes, &ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
        let all = list(policies, &ListParams::default()).await?;
        // Again in each round: an operator may have made one before it noticed, or begun to lead and reset it.
        stream::iter(all.iter().filter(|policy| !policy.spec.teardown))
            .map(|policy| ask(policies, policy.name_any()))
            .buffer_unordered(CONCURRENCY)
            .try_collect::<Vec<()>>()
            .await?;
        let left: BTreeSet<String> = all
            .iter()
            .filter(|policy| !torn_down(policy) && alive.contains(&policy.name_any()))
            .map(ResourceExt::name_any)
            .collect();
        for policy in all.iter().filter(|policy| torn_down(policy)) {
            if told.insert(policy.name_any()) {
                info!(node = policy.name_any(), "torn down");
            }
        }
        if left.is_empty() || Instant::now() >= end {
            return Ok(left);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn ask(policies: &Api<NodePolicy>, name: String) -> Result<(), Error> {
    let patch = Patch::Merge(json!({ "spec": { "teardown": true } }));
    let params = PatchParams { field_manager: Some(OPERATOR.into()), ..PatchParams::default() };
    match deadline(policies.patch(&name, &params, &patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        answer => Ok(answer.map(|_| info!(node = name, "asked to tear down"))?),
    }
}

/// Whether the agent says so of this generation: an earlier teardown may have been taken back in between.
fn torn_down(policy: &NodePolicy) -> bool {
    let mut conditions = policy.status.iter().flat_map(|status| &status.conditions);
    let of_now = |observed: Option<i64>| observed >= policy.metadata.generation;
    policy.spec.teardown
        && conditions.any(|found| found.reason == reason::TORN_DOWN && of_now(found.observed_generation))
}

async fn list<K>(api: &Api<K>, params: &ListParams) -> Result<Vec<K>, Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = params.clone().limit(500);
    let mut all = Vec::new();
    loop {
        let page = deadline(api.list(&params)).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// Takes the operator's hold off every tier: nobody would once it is gone.
async fn release(tiers: &Api<Tier>) -> Result<(), Error> {
    for tier in list(tiers, &ListParams::default()).await? {
        let before = tier.metadata.finalizers.as_deref().unwrap_or_default();
        let after: Vec<&String> = before.iter().filter(|name| *name != FINALIZER).collect();
        if after.len() == before.len() {
            continue;
        }
        let metadata = json!({ "finalizers": after, "resourceVersion": tier.metadata.resource_version });
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        let params = PatchParams { field_manager: Some(OPERATOR.into()), ..PatchParams::default() };
        match deadline(tiers.patch(&tier.name_any(), &params, &patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            answer => answer.map(drop)?,
        }
    }
    Ok(())
}

fn made_by_the_operator() -> ListParams {
    ListParams::default().labels(&format!("{MANAGED_BY}={OPERATOR}"))
}

/// Deletes what the operator made, but for these names.
async fn remove<K>(api: &Api<K>, but: &BTreeSet<String>) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut names: Vec<String> =
        list(api, &made_by_the_operator()).await?.iter().map(ResourceExt::name_any).collect();
    names.retain(|name| !but.contains(name));
    stream::iter(names.clone())
        .map(|name| delete(api, name))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    info!(kind = &*K::kind(&()), count = names.len(), "removed");
    Ok(())
}

/// As [`remove`], in every namespace.
async fn remove_namespaced<K>(client: &Client, everywhere: &Api<PartialObjectMeta<K>>) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug,
    PartialObjectMeta<K>: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let all = list(everywhere, &made_by_the_operator()).await?;
    stream::iter(&all)
        .map(|object| async {
            let api = Api::<K>::namespaced(client.clone(), &object.namespace().unwrap_or_default());
            delete(&api, object.name_any()).await
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    info!(kind = &*K::kind(&()), count = all.len(), "removed");
    Ok(())
}

async fn delete<K>(api: &Api<K>, name: String) -> Result<(), Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match deadline(api.delete(&name, &DeleteParams::default())).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => {
            warn!(name, %error, "can't be deleted");
            Err(error.into())
        }
        Ok(_) => Ok(()),
    }
}
