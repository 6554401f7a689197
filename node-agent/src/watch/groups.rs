//! The watch on the address groups of the node's bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use selvage_crds::AddressGroup;
use selvage_crds::bucket::Bucket;
use selvage_crds::codec::decode_slice;
use selvage_nftables::render::Groups;
use selvage_policy::compiled::GroupId;
use tokio::sync::watch;

use super::assembler::{Assembler, Place};
use crate::metrics::{Metrics, WatchKind};

/// How often groups that nobody needs any more are looked for.
const FORGET: Duration = Duration::from_secs(60);

/// What is known of address groups.
#[derive(Debug, Clone, Default)]
pub struct GroupView {
    /// A first list was completed.
    pub listed: bool,
    /// The groups that are complete.
    pub groups: Groups,
    /// Slices that could not be used, with the reason. What they said before still holds.
    pub unreadable: BTreeMap<String, String>,
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
        match event {
            None => return,
            Some(Ok(event)) => {
                health.works("address groups");
                reader.take(event, view);
            }
            Some(Err(error)) => {
                metrics.watch_error(WatchKind::AddressGroups);
                health.failed("address groups", &error);
            }
        }
    }
}

/// Everything that was read, and what of it the view does not show yet.
#[derive(Debug, Default)]
struct Reader {
    assembler: Assembler,
    changed: BTreeSet<GroupId>,
    unreadable: BTreeMap<String, String>,
    listing: bool,
}

impl Reader {
    fn take(
        &mut self,
        event: watcher::Event<DeserializeGuard<AddressGroup>>,
        view: &watch::Sender<GroupView>,
    ) {
        match event {
            watcher::Event::Init => {
                self.listing = true;
                self.assembler.begin_list();
                self.unreadable.clear();
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => self.apply(object),
            watcher::Event::InitDone => {
                self.listing = false;
                self.changed.append(&mut self.assembler.end_list());
                view.send_modify(|v| v.listed = true);
            }
            watcher::Event::Delete(object) => {
                let name = object.name_any();
                self.unreadable.remove(&name);
                if let Some(place) = Place::parse(&name)
                    && self.assembler.remove(place)
                {
                    self.changed.insert(place.group);
                }
            }
        }
        // A list in progress is shown at its end: the first view must be whole, and later ones lose nothing by it.
        if !self.listing {
            self.show(view);
        }
    }

    fn apply(&mut self, object: DeserializeGuard<AddressGroup>) {
        let name = object.name_any();
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

    fn show(&mut self, view: &watch::Sender<GroupView>) {
        let changed = std::mem::take(&mut self.changed);
        view.send_if_modified(|v| {
            for group in &changed {
                if let Some(known) = self.assembler.group(*group) {
                    v.groups.insert(*group, known.members.clone());
                }
            }
            let same = v.unreadable == self.unreadable;
            if !same {
                v.unreadable.clone_from(&self.unreadable);
            }
            !changed.is_empty() || !same
        });
    }

    fn forget(&mut self, in_use: &BTreeSet<GroupId>, view: &watch::Sender<GroupView>) {
        self.assembler.forget_unless(|group| in_use.contains(&group));
        view.send_if_modified(|v| {
            let before = v.groups.len();
            v.groups.retain(|group, _| self.assembler.group(*group).is_some());
            v.groups.len() != before
        });
    }
}

#[cfg(test)]
mod tests;
