//! Sends statuses and Events, under the lease.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::core::DeserializeGuard;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use selvage_crds::conditions::{ACCEPTED, find};
use selvage_crds::{
    AddressGroup, IPPool, IPPoolSpec, NetworkPolicyStatus, NetworkPolicyStatusSpec, NodePolicy,
};
use selvage_policy::compiled::PolicyKey;
use tracing::{debug, warn};

use super::{PoolWrite, StatusWrite};
use crate::api::{MANAGED_BY, OPERATOR, deadline};
use crate::lease::Fence;
use crate::publish::{Item, Refusal};
use crate::watch::{Place, SeenStatus};

/// The API server's limit of an Event's note, in bytes.
const MAX_NOTE: usize = 1024;

/// What became of a write.
#[derive(Debug)]
pub enum Outcome {
    /// The object stands.
    Done(SeenStatus),
    /// To be tried again; with what stands, where that is known.
    Again,
    /// The policy's namespace or the policy is gone, so its status is of no use.
    Gone,
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

    /// Writes a NetworkPolicyStatus, and makes it where there is none.
    pub async fn status(&self, write: StatusWrite) -> Outcome {
        let StatusWrite { key, .. } = &write;
        match self.try_status(&write).await {
            Ok(Some(seen)) => {
                if let Some(note) = &write.event {
                    self.tell(&write, note).await;
                }
                Outcome::Done(seen)
            }
            Ok(None) => Outcome::Again,
            Err(kube::Error::Api(status)) if status.code == 404 && write.place.is_none() => {
                debug!(policy = %key, "the namespace is gone");
                Outcome::Gone
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                debug!(policy = %key, status.message, "status changed meanwhile, and is tried again");
                Outcome::Again
            }
            Err(error) => {
                warn!(policy = %key, %error, "status could not be written, and is tried again");
                Outcome::Again
            }
        }
    }

    async fn try_status(&self, write: &StatusWrite) -> kube::Result<Option<SeenStatus>> {
        let StatusWrite { key, policy_uid, place, stale, status, .. } = write;
        let api = Api::<NetworkPolicyStatus>::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        if let Some(stale) = stale {
            if !self.fence.holds() {
                return Ok(None);
            }
            let only = Preconditions { uid: Some(stale.uid.clone()), resource_version: None };
            match deadline(api.delete(&key.name, &DeleteParams::default().preconditions(only))).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let mut object = NetworkPolicyStatus {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                labels: Some([(MANAGED_BY.to_owned(), OPERATOR.to_owned())].into()),
                owner_references: Some(vec![OwnerReference {
                    api_version: "networking.k8s.io/v1".into(),
                    kind: "NetworkPolicy".into(),
                    name: key.name.to_string(),
                    uid: policy_uid.to_string(),
                    controller: Some(true),
                    block_owner_deletion: None,
                }]),
                ..ObjectMeta::default()
            },
            spec: NetworkPolicyStatusSpec { uid: policy_uid.to_string() },
            status: None,
        };
        let place = match place {
            Some(place) => place.clone(),
            None => {
                if !self.fence.holds() {
                    return Ok(None);
                }
                Place::of(&deadline(api.create(&params, &object)).await?.metadata)
            }
        };
        if !self.fence.holds() {
            return Ok(None);
        }
        object.metadata.uid = Some(place.uid);
        object.metadata.resource_version = Some(place.version);
        object.status = Some(status.clone());
        let written = deadline(api.replace_status(&key.name, &params, &object)).await?;
        Ok(Some(SeenStatus::of(DeserializeGuard(Ok(written)))))
    }

    /// Tells by an Event that a policy is not accepted.
    async fn tell(&self, write: &StatusWrite, message: &str) {
        let reason = find(&write.status.conditions, ACCEPTED).map(|condition| condition.reason.clone());
        let event = warning(reason.unwrap_or_default(), "Accept", message);
        self.send(&event, &reference(&write.key, &write.policy_uid)).await;
    }

    /// Tells by an Event that an object is not published.
    pub async fn refused(&self, item: &Item, refusal: &Refusal) {
        let event = warning(refusal.reason.to_owned(), "Publish", &refusal.message);
        let (kind, name) = match item {
            Item::Node(name) => (NodePolicy::kind(&()), name.to_string()),
            Item::Slice(id) => (AddressGroup::kind(&()), id.to_string()),
        };
        let reference = ObjectReference {
            api_version: Some(NodePolicy::api_version(&()).into()),
            kind: Some(kind.into()),
            namespace: Some(self.namespace.clone()),
            name: Some(name),
            ..ObjectReference::default()
        };
        self.send(&event, &reference).await;
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

    /// Sends one request about an IPPool; whether it was done.
    pub async fn pool(&self, write: PoolWrite) -> bool {
        if !self.fence.holds() {
            return false;
        }
        let api = Api::<IPPool>::all(self.client.clone());
        let params = PostParams { field_manager: Some(OPERATOR.into()), ..PostParams::default() };
        let name = write.name().clone();
        let answer = match write {
            PoolWrite::Create { cidr, .. } => {
                let mut pool =
                    IPPool::new(&name, IPPoolSpec { cidr: cidr.to_string(), ..IPPoolSpec::default() });
                pool.metadata.labels = Some([(MANAGED_BY.to_owned(), OPERATOR.to_owned())].into());
                deadline(api.create(&params, &pool)).await.map(|_| ())
            }
            PoolWrite::Delete { place, .. } => {
                let only = Preconditions { uid: Some(place.uid), resource_version: None };
                deadline(api.delete(&name, &DeleteParams::default().preconditions(only))).await.map(|_| ())
            }
            PoolWrite::Status { place, cidr, status, .. } => {
                let mut pool = IPPool::new(&name, IPPoolSpec { cidr, ..IPPoolSpec::default() });
                pool.metadata.uid = Some(place.uid);
                pool.metadata.resource_version = Some(place.version);
                pool.status = Some(*status);
                deadline(api.replace_status(&name, &params, &pool)).await.map(|_| ())
            }
        };
        if let Err(error) = &answer {
            warn!(pool = &*name, %error, "pool could not be written, and is tried again");
        }
        answer.is_ok()
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

fn reference(key: &PolicyKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("networking.k8s.io/v1".into()),
        kind: Some("NetworkPolicy".into()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}
