//! One item as a request, where what stands is not what should.

use std::sync::Arc;
use std::time::Instant;

use kube::api::ObjectMeta;
use selvage_crds::bucket::GROUP_LABEL;
use selvage_crds::{AddressGroup, Basis, NodePolicy, codec, digest};
use selvage_policy::engine::Engine;

use super::{Planner, Refusal, Sent};
use crate::api::{MANAGED_BY, OPERATOR};
use crate::publish::{Action, Item, SliceId, Write};
use crate::watch::{Place, SeenSlice};

/// A request and what stands after it; None where all is as it should be.
type Rendered = Result<Option<(Write, Option<Sent>)>, Refusal>;

impl Planner {
    /// The NodePolicy of a node.
    pub(super) fn render_node(&mut self, name: &Arc<str>, engine: &Engine, basis: &Basis) -> Rendered {
        let standing = self.nodes.get(name);
        let Some(policy) = engine.node(name) else {
            self.over_budget.remove(&Item::Node(name.clone()));
            return Ok(standing.map(|standing| {
                let Place { uid, version, .. } = standing.place.clone();
                (Write::Node(name.clone(), Action::Delete { uid, version }), None)
            }));
        };
        let digest = digest::node_policy(&policy);
        if standing.is_some_and(|standing| standing.digest.as_ref() == Some(&digest) && !standing.teardown) {
            return Ok(None);
        }
        let spec = codec::encode_node_policy(&policy, basis.clone(), false)
            .map_err(|error| Refusal { reason: error.reason(), message: error.to_string() })?;
        let object = Box::new(NodePolicy {
            metadata: self.metadata(name, standing.map(|s| &s.place)),
            spec,
            status: None,
        });
        let replaces = standing.is_some();
        let size = fits(&object)?;
        let item = Item::Node(name.clone());
        if size <= codec::SIZE_BUDGET {
            self.over_budget.remove(&item);
        } else if self.over_budget.insert(item) {
            tracing::warn!(
                node = &**name,
                size,
                budget = codec::SIZE_BUDGET,
                "NodePolicy is over its budget"
            );
        }
        let action = if replaces { Action::Replace(object) } else { Action::Create(object) };
        let sent = Sent::Node { digest, basis: basis.clone() };
        Ok(Some((Write::Node(name.clone(), action), Some(sent))))
    }

    /// A slice.
    pub(super) fn render_slice(&self, id: SliceId, engine: &Engine, basis: &Basis, now: Instant) -> Rendered {
        let standing = self.slices.get(&id);
        let group = self.groups.get(&id.group);
        let wanted = group.and_then(|group| Some((group.slice(id, engine)?, group.buckets())));
        let Some((slice, buckets)) = wanted else {
            let due = self.retired.get(&id).is_some_and(|at| *at <= now);
            return Ok(standing.filter(|_| due).map(|standing| {
                let Place { uid, version, .. } = standing.place.clone();
                (Write::Slice(id, Action::Delete { uid, version }), None)
            }));
        };
        let digest = digest::whole_slice(&slice);
        if standing.is_some_and(|standing| {
            standing.labelled && standing.digest.as_ref() == Some(&digest) && standing.buckets == buckets
        }) {
            return Ok(None);
        }
        let spec = codec::encode_slice(&slice, basis.clone())
            .map_err(|error| Refusal { reason: error.reason(), message: error.to_string() })?;
        let mut metadata = self.metadata(&id.to_string(), standing.map(|standing| &standing.place));
        let labels = metadata.labels.get_or_insert_default();
        labels.insert(GROUP_LABEL.into(), id.group.to_string());
        labels.extend(buckets.iter().map(|bucket| (bucket.label(), String::new())));
        let object = Box::new(AddressGroup { metadata, spec });
        fits(&object)?;
        let action = if standing.is_some() { Action::Replace(object) } else { Action::Create(object) };
        let sent = SeenSlice {
            place: Place::default(),
            labelled: true,
            buckets,
            digest: Some(digest),
            pods: None,
            count: slice.count,
            basis: basis.clone(),
        };
        Ok(Some((Write::Slice(id, action), Some(Sent::Slice(Box::new(sent))))))
    }

    fn metadata(&self, name: &str, place: Option<&Place>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.to_string()),
            labels: Some([(MANAGED_BY.to_owned(), OPERATOR.to_owned())].into()),
            resource_version: place.map(|place| place.version.clone()),
            uid: place.map(|place| place.uid.clone()),
            ..ObjectMeta::default()
        }
    }
}

/// The object's size in bytes, where it can be written.
fn fits(object: &impl serde::Serialize) -> Result<usize, Refusal> {
    let refusal = |message| Refusal { reason: selvage_crds::conditions::reason::TOO_LARGE, message };
    let size = codec::size(object).map_err(|error| refusal(error.to_string()))?;
    if size > codec::SIZE_LIMIT {
        return Err(refusal(format!(
            "{size} bytes are more than the {} that are written",
            codec::SIZE_LIMIT
        )));
    }
    Ok(size)
}
