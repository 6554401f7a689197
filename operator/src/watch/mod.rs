//! Watches of the API server, as messages to the one task that owns the state.
//!
//! Lists are paged and most recent: they carry no resourceVersion, so no API server answers from a cache that is
//! older than the request. (Streaming lists of this client ask for "0 or newer", which may be older than what was
//! published.) Objects are reduced to what matters on arrival; nothing else of them is kept.

mod kind;
mod kinds;
mod ours;
mod relist;
mod retry;
mod seen;
mod update;

pub use kind::Kind;
pub use kinds::Watched;
pub use relist::Relist;
pub use seen::{Agent, Place, SeenNode, SeenPool, SeenSlice, SeenTier, Stood};
pub use update::{Context, Update};

use std::time::Duration;

use futures::{Stream, StreamExt};
use kube::api::Api;
use kube::core::ObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Client, Resource};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

use retry::{Pauses, Retry};

/// How many events are taken together when they come faster than they are worked on.
const CHUNK: usize = 512;
/// After how many seconds the API server ends a watch, which then goes on from where it was. A connection that was lost
/// without a word is noticed by then: [`crate::api::READ_TIMEOUT`] is a little more.
const WATCH_SECONDS: u32 = 60;
/// How often a kind that the API server does not serve is looked for.
const LOOK_FOR_IT: Duration = Duration::from_secs(15);

/// What a watch tells.
#[derive(Debug)]
pub struct Message {
    /// Of which kind.
    pub kind: Kind,
    /// What happened, in order.
    pub updates: Vec<Update>,
    /// The highest resourceVersion among these objects.
    pub version: Option<u64>,
    /// A list was completed that began after this many requests for a new one.
    pub listed: Option<u64>,
    /// How often the watch failed since the last message.
    pub errors: u64,
    /// How many objects could not be decoded; what was known of them stays.
    pub undecodable: u64,
    /// How many objects of the kind there are now.
    pub objects: usize,
}

/// Turns the events of one kind into messages.
struct Translator<W: Watched> {
    context: Context,
    relist: Relist<W::Key>,
    round: u64,
    /// The API server does not serve the kind, and that was said.
    absent: bool,
}

/// Watches a kind until the receiver is gone. Each change of `relist` starts a new list.
pub async fn watch<W: Watched>(
    client: Client,
    context: Context,
    relist: watch::Receiver<u64>,
    messages: mpsc::Sender<Message>,
) {
    let api: Api<W::Wire> = W::api(client, &context.namespace);
    let start = || {
        watcher(api.clone(), Config::default().timeout(WATCH_SECONDS).page_size(W::KIND.page()))
            .backoff(Retry::default())
    };
    run::<W, _>(start, context, relist, messages).await;
}

async fn run<W: Watched, S>(
    start: impl Fn() -> S,
    context: Context,
    mut relist: watch::Receiver<u64>,
    messages: mpsc::Sender<Message>,
) where
    S: Stream<Item = watcher::Result<Event<W::Wire>>> + Send,
{
    let mut translator = Translator::<W> { context, relist: Relist::default(), round: 0, absent: false };
    let mut pauses = Pauses::default();
    loop {
        translator.round = *relist.borrow_and_update();
        pauses.opened();
        let events = start().ready_chunks(CHUNK);
        let mut events = std::pin::pin!(events);
        loop {
            tokio::select! {
                changed = relist.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                chunk = events.next() => {
                    // A watcher's stream ends with its process alone; a new one is the way on in any case.
                    let Some(chunk) = chunk else { break };
                    let broken = chunk.iter().any(broken);
                    let absent = W::OPTIONAL && chunk.iter().any(absent);
                    let message =
                        if absent { translator.absent() } else { translator.message(chunk) };
                    if messages.send(message).await.is_err() {
                        return;
                    }
                    if absent {
                        let pause = tokio::time::timeout(LOOK_FOR_IT, relist.changed()).await;
                        if matches!(pause, Ok(Err(_))) {
                            return;
                        }
                    }
                    if broken {
                        tokio::time::sleep(pauses.after_broken()).await;
                    }
                    if broken || absent {
                        break;
                    }
                }
            }
        }
    }
}

impl<W: Watched> Translator<W> {
    /// The API server does not serve the kind: there is no such object, and none is waited for. Objects that are known
    /// all the same stay: with the kind the API server deletes its objects one by one, so this is something else.
    fn absent(&mut self) -> Message {
        if !std::mem::replace(&mut self.absent, true) {
            let every = LOOK_FOR_IT.as_secs();
            match self.relist.len() {
                0 => {
                    info!(kind = %W::KIND, every, "the API server does not serve the kind; it is looked for")
                }
                kept => warn!(
                    kind = %W::KIND,
                    kept,
                    "the API server does not serve the kind any more, without having deleted its objects: what was \
                     known of them stays in force"
                ),
            }
        }
        Message { listed: Some(self.round), objects: self.relist.len(), ..Message::empty(W::KIND) }
    }

    fn message(&mut self, events: Vec<watcher::Result<Event<W::Wire>>>) -> Message {
        let mut message = Message::empty(W::KIND);
        for event in events {
            match event {
                Ok(event) => self.event(event, &mut message),
                Err(error) => {
                    warn!(kind = %W::KIND, %error, "watch failed, and is tried again");
                    message.errors += 1;
                }
            }
        }
        message.objects = self.relist.len();
        message
    }

    fn event(&mut self, event: Event<W::Wire>, message: &mut Message) {
        match event {
            Event::Init => self.relist.init(),
            Event::InitApply(object) => {
                if let Some(key) = noted::<W>(object.meta(), message) {
                    self.relist.listed(key.clone());
                    self.applied(key, object, message);
                }
            }
            Event::Apply(object) => {
                if let Some(key) = noted::<W>(object.meta(), message) {
                    self.relist.applied(key.clone());
                    self.applied(key, object, message);
                }
            }
            Event::Delete(object) => {
                if let Some(key) = noted::<W>(object.meta(), message) {
                    self.relist.deleted(&key);
                    self.gone(key, message);
                }
            }
            Event::InitDone => {
                for key in self.relist.done() {
                    self.gone(key, message);
                }
                if std::mem::take(&mut self.absent) {
                    info!(kind = %W::KIND, "the API server serves the kind now");
                }
                debug!(kind = %W::KIND, round = self.round, "list complete");
                message.listed = Some(self.round);
            }
        }
    }

    fn applied(&self, key: W::Key, object: W::Wire, message: &mut Message) {
        let name = object.meta().name.clone().unwrap_or_default();
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        if let Err(error) = W::told(&self.context, key, Some(object), &mut message.updates) {
            warn!(kind = %W::KIND, namespace, name, error, "object can't be decoded; what was known of it stays");
            message.undecodable += 1;
        }
    }

    fn gone(&self, key: W::Key, message: &mut Message) {
        // Nothing has to be decoded for it.
        if let Err(error) = W::told(&self.context, key, None, &mut message.updates) {
            debug!(kind = %W::KIND, error, "deleted");
        }
    }
}

impl Message {
    fn empty(kind: Kind) -> Self {
        Self { kind, updates: Vec::new(), version: None, listed: None, errors: 0, undecodable: 0, objects: 0 }
    }
}

/// Whether the API server says that it does not serve the kind.
fn absent<K>(event: &watcher::Result<K>) -> bool {
    let (Err(watcher::Error::InitialListFailed(error)) | Err(watcher::Error::WatchStartFailed(error))) =
        event
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the watch must not go on from where it was.
///
/// One that is refused as too old can't (the watcher lists anew by itself where an event says so, but would ask for ever
/// where the request is refused). And one that broke, or found no API server that works, may have been on a history that
/// is gone: an API server that was restored from a backup, which all of them must be away for, lets a watch go on from a
/// version that it has not reached yet, and tells nothing of what happens before it does.
fn broken<K>(event: &watcher::Result<K>) -> bool {
    match event {
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) => {
            status.code == 410 || status.code >= 500
        }
        Err(watcher::Error::WatchStartFailed(_) | watcher::Error::WatchFailed(_)) => true,
        _ => false,
    }
}

/// The object's key; its resourceVersion is noted.
fn noted<W: Watched>(metadata: &ObjectMeta, message: &mut Message) -> Option<W::Key> {
    message.version = message.version.max(version(metadata));
    W::key(metadata)
}

/// An object's resourceVersion as a number: since Kubernetes 1.35 the API promises that these can be compared.
fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests;
