//! Does chores, under the lease.

use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use selvage_crds::{IPPool, Tier};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::Chore;
use crate::api::{MANAGED_BY, OPERATOR, deadline};
use crate::lease::Fence;
use crate::watch::Place;

/// Does chores.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    fence: Fence,
}

impl Writer {
    /// A writer.
    pub fn new(client: Client, fence: Fence) -> Self {
        Self { client, fence }
    }

    /// Does one; whether it was done.
    pub async fn work(&self, chore: Chore) -> bool {
        if !self.fence.holds() {
            return false;
        }
        match self.try_to(&chore).await {
            Ok(()) => {
                info!(?chore, "done");
                true
            }
            // What was seen is out of date; a watch tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => true,
            Err(error) => {
                warn!(?chore, %error, "could not be done, and is tried again");
                false
            }
        }
    }

    async fn try_to(&self, chore: &Chore) -> kube::Result<()> {
        let tiers = Api::<Tier>::all(self.client.clone());
        let pools = Api::<IPPool>::all(self.client.clone());
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        let labels = Some([(MANAGED_BY.to_owned(), OPERATOR.to_owned())].into());
        match chore {
            Chore::CreateTier { name, spec } => {
                let mut tier = Tier::new(name, spec.clone());
                tier.metadata.labels = labels;
                deadline(tiers.create(&params, &tier)).await.map(drop)
            }
            Chore::CorrectTier { name, place, spec } => {
                let body = json!({ "spec": spec });
                patch(&tiers, name, place, body).await
            }
            Chore::Hold { name, place, finalizers } => {
                let body = json!({ "metadata": { "finalizers": finalizers } });
                patch(&tiers, name, place, body).await
            }
            Chore::CreatePool { name, spec } => {
                let mut pool = IPPool::new(name, spec.clone());
                pool.metadata.labels = labels;
                deadline(pools.create(&params, &pool)).await.map(drop)
            }
            Chore::DeletePool { name, place } => {
                let only = Preconditions { uid: Some(place.uid.clone()), resource_version: None };
                deadline(pools.delete(name, &DeleteParams::default().preconditions(only))).await.map(drop)
            }
        }
    }
}

/// Changes a tier, if it is still as it was seen.
async fn patch(tiers: &Api<Tier>, name: &str, place: &Place, mut body: Value) -> kube::Result<()> {
    let Place { version, uid, .. } = place;
    if let Some(body) = body.as_object_mut() {
        let metadata = body.entry("metadata").or_insert_with(|| json!({}));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("resourceVersion".into(), json!(version));
            metadata.insert("uid".into(), json!(uid));
        }
    }
    let params = PatchParams { field_manager: Some(OPERATOR.into()), ..PatchParams::default() };
    deadline(tiers.patch(name, &params, &Patch::Merge(body))).await.map(drop)
}
