//! Sends statuses and Events, under the lease.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use kube::core::Request;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use selvage_crds::{AddressGroup, NetworkPolicyStatus, NetworkPolicyStatusSpec, NodePolicy};
use serde::Deserialize;
use serde_json::json;
use tracing::{debug, warn};

use super::about::About;
use super::ledger::{News, StatusWrite};
use crate::api::{MANAGED_BY, OPERATOR, deadline};
use crate::lease::Fence;
use crate::publish::{Item, Refusal};
use crate::watch::{Place, Stood};

/// The API server's limit of an Event's note, in bytes.
const MAX_NOTE: usize = 1024;

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// The object stands.
    Done(Box<Stood>),
    /// To be tried again.
    Again,
    /// The object or its namespace is gone or about to go, so its status is of no use.
    Gone,
}

/// What of an answer is read: a set may be large.
#[derive(Deserialize)]
struct Answer {
    metadata: ObjectMeta,
}

/// Sends statuses.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    namespace: String,
    fence: Fence,
    recorder: Recorder,
}

impl Writer {
    /// A writer; `namespace` is the system namespace, and `identity` names this replica in Events.
    pub fn new(client: Client, namespace: &str, identity: &str, fence: Fence) -> Self {
        let reporter = Reporter { controller: OPERATOR.into(), instance: Some(identity.to_owned()) };
        let namespace = namespace.to_owned();
        Self { recorder: Recorder::new(client.clone(), reporter), client, namespace, fence }
    }

    /// Writes a status, and makes the NetworkPolicyStatus where there is none.
    pub async fn status(&self, write: StatusWrite) -> Outcome {
        let StatusWrite { about, .. } = &write;
        match self.try_status(&write).await {
            Ok(Some(stood)) => {
                if let Some(news) = &write.event {
                    self.tell(&write, news).await;
                }
                Outcome::Done(Box::new(stood))
            }
            Ok(None) => Outcome::Again,
            Err(kube::Error::Api(status)) if is_going(&status, &write) => {
                debug!(%about, status.message, "the object or its namespace is gone");
                Outcome::Gone
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                debug!(%about, status.message, "status changed meanwhile, and is tried again");
                Outcome::Again
            }
            Err(error) => {
                warn!(%about, %error, "status could not be written, and is tried again");
                Outcome::Again
            }
        }
    }

    async fn try_status(&self, write: &StatusWrite) -> kube::Result<Option<Stood>> {
        let StatusWrite { about, uid, place, stale, said, .. } = write;
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        let place = match (about, place) {
            (_, Some(place)) => place.clone(),
            (About::Policy(_), None) => match self.create(write, stale.as_ref(), &params).await? {
                Some(place) => place,
                None => return Ok(None),
            },
            // A watch brings the place of an object together with the object.
            (_, None) => return Ok(None),
        };
        if !self.fence.holds() {
            return Ok(None);
        }
        let holder = about.holder();
        let json = said.json(about).map_err(kube::Error::SerdeError)?;
        let object = json!({
            "apiVersion": holder.api_version,
            "kind": holder.kind,
            "metadata": {
                "name": &**about.name(), "namespace": Some(about.namespace()).filter(|name| !name.is_empty()),
                "uid": place.uid, "resourceVersion": place.version,
            },
            "status": json,
        });
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        // The API server takes nothing but the status of it, so the rest of the object need not be known.
        let request = Request::new(holder.path(about.namespace()))
            .replace_subresource("status", about.name(), &params, body)
            .map_err(kube::Error::BuildRequest)?;
        let answer: Answer = deadline(self.client.request(request)).await?;
        let place = Place::of(&answer.metadata);
        Ok(Some(Stood { place, uid: uid.to_string(), said: said.clone() }))
    }

    /// Makes a NetworkPolicyStatus.
    async fn create(
        &self,
        write: &StatusWrite,
        stale: Option<&Place>,
        params: &PostParams,
    ) -> kube::Result<Option<Place>> {
        let StatusWrite { about, uid, .. } = write;
        let api = Api::<NetworkPolicyStatus>::namespaced(self.client.clone(), about.namespace());
        if !self.fence.holds() {
            return Ok(None);
        }
        if let Some(stale) = stale {
            let only = Preconditions { uid: Some(stale.uid.clone()), resource_version: None };
            match deadline(api.delete(about.name(), &DeleteParams::default().preconditions(only))).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let owner = about.resource();
        let object = NetworkPolicyStatus {
            metadata: ObjectMeta {
                name: Some(about.name().to_string()),
                namespace: Some(about.namespace().to_owned()),
                labels: Some([(MANAGED_BY.to_owned(), OPERATOR.to_owned())].into()),
                owner_references: Some(vec![OwnerReference {
                    api_version: owner.api_version.into(),
                    kind: owner.kind.into(),
                    name: about.name().to_string(),
                    uid: uid.to_string(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]),
                ..ObjectMeta::default()
            },
            spec: NetworkPolicyStatusSpec { uid: uid.to_string() },
            status: None,
        };
        if !self.fence.holds() {
            return Ok(None);
        }
        Ok(Some(Place::of(&deadline(api.create(params, &object)).await?.metadata)))
    }

    /// Tells by an Event what somebody must act on.
    async fn tell(&self, write: &StatusWrite, news: &News) {
        let about = &write.about;
        let resource = about.resource();
        let reference = ObjectReference {
            api_version: Some(resource.api_version.into()),
            kind: Some(resource.kind.into()),
            namespace: Some(about.namespace().to_owned()).filter(|namespace| !namespace.is_empty()),
            name: Some(about.name().to_string()),
            uid: Some(write.uid.to_string()),
            ..ObjectReference::default()
        };
        self.send(&warning(news.reason.clone(), "Accept", &news.message), &reference).await;
    }

    /// Tells by an Event that an object is not published.
    pub async fn refused(&self, item: &Item, refusal: &Refusal) {
        let event = warning(refusal.reason.to_owned(), "Publish", &refusal.message);
        self.send(&event, &self.reference(item)).await;
    }

    /// Tells by an Event what a node's agent reports.
    pub async fn reported(&self, node: &Arc<str>, news: &News) {
        let event = warning(news.reason.clone(), "Enforce", &news.message);
        self.send(&event, &self.reference(&Item::Node(node.clone()))).await;
    }

    fn reference(&self, item: &Item) -> ObjectReference {
        let (kind, name) = match item {
            Item::Node(name) => (NodePolicy::kind(&()), name.to_string()),
            Item::Slice(id) => (AddressGroup::kind(&()), id.to_string()),
        };
        ObjectReference {
            api_version: Some(NodePolicy::api_version(&()).into()),
            kind: Some(kind.into()),
            namespace: Some(self.namespace.clone()),
            name: Some(name),
            ..ObjectReference::default()
        }
    }

    /// Events are a courtesy: one that can't be sent is only logged.
    async fn send(&self, event: &Event, about: &ObjectReference) {
        if !self.fence.holds() {
            return;
        }
        if let Err(error) = deadline(self.recorder.publish(event, about)).await {
            warn!(object = about.name, %error, "event could not be sent");
        }
    }
}

/// Whether an answer says that the object or its namespace goes: a namespace that is being deleted takes nothing new.
fn is_going(status: &kube::core::Status, write: &StatusWrite) -> bool {
    let terminating = || {
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    };
    match status.code {
        404 => write.place.is_none(),
        403 => terminating(),
        _ => false,
    }
}

fn warning(reason: String, action: &str, message: &str) -> Event {
    let mut note = message.to_owned();
    while note.len() > MAX_NOTE {
        note.pop();
    }
    let action = action.to_owned();
    Event { type_: EventType::Warning, reason, note: Some(note), action, secondary: None }
}
