//! The watch on the address groups of the node's bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use selvage_crds::AddressGroup;
use selvage_crds::bucket::Bucket;
use selvage_crds::codec::decode_slice;
use selvage_nftables::render::Groups;
use selvage_policy::compiled::GroupId;
use tokio::sync::watch;

use super::assembler::{Assembler, Place};
use super::owned::{HandedOver, Pods};
use crate::metrics::{Metrics, WatchKind};

/// How often groups that nobody needs any more are looked for.
const FORGET: Duration = Duration::from_secs(60);
/// Most events that are shown together, where so many have come already: a large group comes in hundreds of slices.
const TOGETHER: usize = 256;

/// What is known of address groups.
#[derive(Debug, Clone, Default)]
pub struct GroupView {
    /// A first list was completed.
    pub listed: bool,
    /// The groups that are complete.
    pub groups: Groups,
    /// What those of them that are made of pods say beside their members.
    pub pods: BTreeMap<GroupId, Arc<Pods>>,
    /// Addresses that changed hands.
    pub handed_over: HandedOver,
    /// Slices that could not be used, with the reason. What they said before still holds.
    pub unreadable: BTreeMap<String, String>,
    /// The highest resourceVersion of an object that was looked at.
    pub seen: Option<u64>,
    /// Groups of which something newer is known than `groups` has: slices are missing, or can't be read.
    pub pending: BTreeSet<GroupId>,
}

/// Watches address groups until the program ends. `in_use` are the groups that must not be forgotten.
pub async fn follow(
    client: Client,
    namespace: &str,
    node: &str,
    view: watch::Sender<GroupView>,
    in_use: watch::Receiver<BTreeSet<GroupId>>,
    metrics: Arc<Metrics>,
) {
    let api: Api<DeserializeGuard<AddressGroup>> = Api::namespaced(client, namespace);
    let config = super::config().labels(&Bucket::of_node(node).label());
    let start = || watcher(api.clone(), config.clone()).backoff(super::Retry::new(node));
    let events = super::events(node, start);
    run(events, &view, &in_use, &metrics).await;
}

/// Applies events to the view.
pub async fn run(
    events: impl Stream<Item = watcher::Result<watcher::Event<DeserializeGuard<AddressGroup>>>>,
    view: &watch::Sender<GroupView>,
    in_use: &watch::Receiver<BTreeSet<GroupId>>,
    metrics: &Metrics,
) {
    let mut events = std::pin::pin!(events);
    let mut reader = Reader::default();
    let mut health = super::Health::default();
    let mut forget = tokio::time::interval(FORGET);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = forget.tick() => {
                reader.forget(&in_use.borrow(), view);
                continue;
            }
        };
        let mut next = event;
        for _ in 0..TOGETHER {
            match next {
                None => {
                    reader.show(view);
                    return;
                }
                Some(Ok(event)) => {
                    health.works("address groups");
                    if matches!(event, watcher::Event::Init) {
                        reader.show(view);
                    }
                    reader.take(event);
                }
                Some(Err(error)) => {
                    metrics.watch_error(WatchKind::AddressGroups);
                    health.failed("address groups", &error);
                }
            }
            match events.next().now_or_never() {
                Some(more) => next = more,
                None => break,
            }
        }
        reader.show(view);
    }
}

/// Everything that was read, and what of it the view does not show yet.
#[derive(Debug, Default)]
struct Reader {
    assembler: Assembler,
    changed: BTreeSet<GroupId>,
    unreadable: BTreeMap<String, String>,
    pending: BTreeSet<GroupId>,
    seen: Option<u64>,
    listing: bool,
    listed: bool,
}

impl Reader {
    fn take(&mut self, event: watcher::Event<DeserializeGuard<AddressGroup>>) {
        match event {
            watcher::Event::Init => {
                self.listing = true;
                // Versions may begin again: a backup of the API server's store was restored.
                self.seen = None;
                self.assembler.begin_list();
                self.unreadable.clear();
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => self.apply(object),
            watcher::Event::InitDone => {
                self.listing = false;
                self.listed = true;
                self.changed.append(&mut self.assembler.end_list());
            }
            watcher::Event::Delete(object) => {
                let name = object.name_any();
                self.look(&object);
                self.unreadable.remove(&name);
                if let Some(place) = Place::parse(&name) {
                    if self.assembler.remove(place) {
                        self.changed.insert(place.group);
                    }
                    self.mark(place.group);
                }
            }
        }
    }

    /// Notes how new the object is. Versions of one kind of object rise in the order of a watch's events.
    fn look(&mut self, object: &DeserializeGuard<AddressGroup>) {
        let version = object.meta().resource_version.as_ref().and_then(|version| version.parse().ok());
        self.seen = self.seen.max(version);
    }

    fn mark(&mut self, group: GroupId) {
        match self.assembler.is_pending(group) {
            true => self.pending.insert(group),
            false => self.pending.remove(&group),
        };
    }

    fn apply(&mut self, object: DeserializeGuard<AddressGroup>) {
        let name = object.name_any();
        self.look(&object);
        let read = object.0.map_err(|e| e.error).and_then(|object| {
            let slice = decode_slice(&object.spec).map_err(|e| e.to_string())?;
            if slice.object_name() != name {
                return Err(format!("metadata.name: expected {}", slice.object_name()));
            }
            let group = slice.group;
            Ok((group, self.assembler.apply(slice).map_err(|e| e.to_string())?))
        });
        match read {
            Ok((group, changed)) => {
                self.unreadable.remove(&name);
                if changed {
                    self.changed.insert(group);
                }
                self.mark(group);
            }
            Err(error) => {
                tracing::error!(
                    slice = name,
                    error,
                    "unreadable address group slice; what it said before stays"
                );
                if let Some(place) = Place::parse(&name) {
                    self.assembler.listed(place);
                }
                self.unreadable.insert(name, error);
            }
        }
    }

    /// Shows what was read. A list in progress is shown at its end: the first view must be whole, and later ones lose
    /// nothing by it.
    fn show(&mut self, view: &watch::Sender<GroupView>) {
        if self.listing {
            return;
        }
        let changed = std::mem::take(&mut self.changed);
        let handed_over = self.assembler.take_handed_over();
        view.send_if_modified(|v| {
            for group in &changed {
                if let Some(known) = self.assembler.group(*group) {
                    v.groups.insert(*group, known.members.clone());
                    match &known.pods {
                        Some(pods) => v.pods.insert(*group, pods.clone()),
                        None => v.pods.remove(group),
                    };
                }
            }
            let same = v.unreadable == self.unreadable;
            if !same {
                v.unreadable.clone_from(&self.unreadable);
            }
            let none = handed_over.is_empty();
            v.handed_over.add(handed_over);
            let mut pending = self.pending.clone();
            pending.extend(self.unreadable.keys().filter_map(|name| Some(Place::parse(name)?.group)));
            let told = (v.listed, v.seen, &v.pending) == (self.listed, self.seen, &pending);
            (v.listed, v.seen, v.pending) = (self.listed, self.seen, pending);
            !changed.is_empty() || !same || !none || !told
        });
    }

    fn forget(&mut self, in_use: &BTreeSet<GroupId>, view: &watch::Sender<GroupView>) {
        self.assembler.forget_unless(|group| in_use.contains(&group));
        self.pending.retain(|group| self.assembler.is_pending(*group));
        view.send_if_modified(|v| {
            let before = v.groups.len();
            v.groups.retain(|group, _| self.assembler.group(*group).is_some());
            v.pods.retain(|group, _| self.assembler.group(*group).is_some());
            v.groups.len() != before
        });
    }
}

#[cfg(test)]
mod tests;
