//! Sends writes, under the lease.

use std::time::Duration;

use kube::Client;
use kube::Resource;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use selvage_crds::conditions::reason;
use selvage_crds::{AddressGroup, NodePolicy};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::{debug, warn};

use super::plan::{Outcome, Refusal};
use super::{Action, Standing, Write};
use crate::api::{OPERATOR, deadline};
use crate::lease::Fence;
use crate::watch::{Place, SeenNode, SeenSlice};

/// Why this process must stop.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another replica leads; what it wrote came in the way of what this one wanted to write.
    #[error("{object}: the write met that of a newer leader, {holder:?}")]
    NewerLeader {
        /// The object.
        object: String,
        /// Who holds the lease.
        holder: String,
    },
    /// The object is older than the version of it that was to be replaced: the API server was restored from a backup.
    #[error("{object} is at version {now}, after {seen}: the API server's history went back")]
    WentBack {
        /// The object.
        object: String,
        /// The version that this process had seen.
        seen: u64,
        /// The one that stands.
        now: u64,
    },
}

/// Sends writes.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
    fence: Fence,
}

enum Sent {
    Done(Option<Place>),
    Conflict,
    Failed(Option<Duration>, String),
    Refused(String),
}

impl Writer {
    /// A writer into that system namespace.
    pub fn new(client: Client, namespace: &str, fence: Fence) -> Self {
        Self { client, namespace: namespace.to_owned(), fence }
    }

    /// Sends one write.
    ///
    /// # Errors
    /// When a conflict shows that another replica leads.
    pub async fn write(&self, write: Write) -> Result<Outcome, Error> {
        let object = write.item().to_string();
        let sent = match &write {
            Write::Node(name, action) => self.send::<NodePolicy>(name, action).await,
            Write::Slice(id, action) => self.send::<AddressGroup>(&id.to_string(), action).await,
        };
        match sent {
            Sent::Done(place) => Ok(Outcome::Done(place)),
            Sent::Failed(after, message) => Ok(Outcome::Failed { after, message }),
            Sent::Refused(message) => Ok(Outcome::Refused(Refusal { reason: reason::INVALID, message })),
            Sent::Conflict => self.conflict(&write, object).await,
        }
    }

    async fn conflict(&self, write: &Write, object: String) -> Result<Outcome, Error> {
        match deadline(self.fence.newer_holder()).await {
            Ok(None) => {}
            Ok(Some(holder)) => return Err(Error::NewerLeader { object, holder }),
            Err(error) => {
                warn!(object, %error, "conflict, and the lease can't be read");
                return Ok(Outcome::Failed { after: None, message: error.to_string() });
            }
        }
        debug!(object, "somebody else wrote the object; it is read again");
        let standing = match write {
            Write::Node(name, _) => {
                let found = self.look::<DeserializeGuard<NodePolicy>>(name).await;
                found.map(|found| Standing::Node(found.map(|object| Box::new(SeenNode::of(object)))))
            }
            Write::Slice(id, _) => {
                let found = self.look::<DeserializeGuard<AddressGroup>>(&id.to_string()).await;
                found.map(|found| Standing::Slice(found.map(SeenSlice::of)))
            }
        };
        Ok(match standing {
            Ok(standing) => match (write.replaces(), standing.version()) {
                (Some(seen), Some(now)) if now < seen => return Err(Error::WentBack { object, seen, now }),
                _ => Outcome::Conflict(standing),
            },
            Err(error) => {
                warn!(object, %error, "conflict, and the object can't be read");
                Outcome::Failed { after: None, message: error.to_string() }
            }
        })
    }

    async fn look<K>(&self, name: &str) -> kube::Result<Option<K>>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        deadline(api.get_opt(name)).await
    }

    async fn send<K>(&self, name: &str, action: &Action<K>) -> Sent
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
    {
        if !self.fence.holds() {
            debug!(name, "not written: the lease is not held now");
            return Sent::Failed(None, "the lease is not held".into());
        }
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        let answer = match action {
            Action::Create(object) => deadline(api.create(&params, object)).await.map(Some),
            Action::Replace(object) => deadline(api.replace(name, &params, object)).await.map(Some),
            Action::Delete { uid, version } => {
                let only = Preconditions { uid: Some(uid.clone()), resource_version: Some(version.clone()) };
                deadline(api.delete(name, &DeleteParams::default().preconditions(only))).await.map(|_| None)
            }
        };
        match answer {
            Ok(object) => Sent::Done(object.map(|object| Place::of(object.meta()))),
            Err(kube::Error::Api(status)) => match status.code {
                404 if matches!(action, Action::Delete { .. }) => Sent::Done(None),
                // A namespace that is being deleted answers 403 to a create; that is no conflict but passes.
                404 | 409 => Sent::Conflict,
                400 | 413 | 422 => Sent::Refused(status.message.clone()),
                _ => {
                    warn!(name, status.code, status.message, "write failed, and is tried again");
                    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                    Sent::Failed(
                        (seconds > 0).then(|| Duration::from_secs(seconds.into())),
                        status.message.clone(),
                    )
                }
            },
            Err(error) => {
                warn!(name, %error, "write failed, and is tried again");
                Sent::Failed(None, error.to_string())
            }
        }
    }
}
