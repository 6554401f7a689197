//! The election against the API server.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::api::deadline;

use super::decide::{Record, Seen, Step, Terms, decide};

/// How an election ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lease could not be renewed in time, so that somebody else may hold it soon.
    #[error("the lease was not renewed within {0:?}")]
    NotRenewed(Duration),
    /// Somebody else holds the lease that this process held.
    #[error("the lease is held by {0:?} now")]
    TakenOver(String),
    /// What the API server holds is older than what this process has seen: it was restored from a backup.
    #[error("the lease is at version {now}, after {seen}: the API server's history went back")]
    WentBack {
        /// The highest resourceVersion of the lease that was seen.
        seen: u64,
        /// The lower one that was seen after it.
        now: u64,
    },
}

/// Why a round came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("version {now} after {seen}")]
    WentBack { seen: u64, now: u64 },
}

/// Takes part in the election until the lease is lost or released.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    me: String,
    terms: Terms,
    seen: Option<Seen>,
    /// The highest version of the lease that was seen. Each of its writes has a higher one than those before.
    highest: u64,
    held: watch::Sender<Option<Instant>>,
}

/// Tells whether this process holds the lease, for everything that writes.
#[derive(Clone)]
pub struct Fence {
    api: Api<Lease>,
    name: Arc<str>,
    me: Arc<str>,
    held: watch::Receiver<Option<Instant>>,
}

/// A name that no other replica has, also where two run on one host or a process restarts as the same pid.
pub fn identity() -> String {
    let pod = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    let host = pod.or_else(|_| std::fs::read_to_string("/proc/sys/kernel/hostname"));
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{}_{}-{nanos:x}", host.unwrap_or_default().trim(), std::process::id())
}

impl Elector {
    /// An elector for the Lease of that name, and the fence that goes with it.
    pub fn new(client: Client, namespace: &str, name: &str, me: String, terms: Terms) -> (Self, Fence) {
        let api = Api::<Lease>::namespaced(client, namespace);
        let (held, receiver) = watch::channel(None);
        let fence = Fence { api: api.clone(), name: name.into(), me: me.as_str().into(), held: receiver };
        (Self { api, name: name.into(), me, terms, seen: None, highest: 0, held }, fence)
    }

    /// Waits for the lease, holds it, and returns once it is lost. Dropped while holding, it stops renewing;
    /// [`Self::release`] hands over at once.
    pub async fn run(&mut self) -> Error {
        loop {
            let pause = match self.round().await {
                Ok(pause) => pause,
                Err(Failure::WentBack { seen, now }) => return self.lost(Error::WentBack { seen, now }),
                Err(Failure::Api(error)) => {
                    warn!(lease = self.name, %error, "the lease could not be read or written");
                    self.terms.retry
                }
            };
            let held = *self.held.borrow();
            if let Some(until) = held {
                if let Some(seen) = self.seen.as_ref().filter(|seen| seen.record.holder != self.me) {
                    return self.lost(Error::TakenOver(seen.record.holder.clone()));
                }
                if until <= Instant::now() {
                    return self.lost(Error::NotRenewed(self.terms.renew_within));
                }
                tokio::time::sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Gives the lease back, so that a standby need not wait for it to run out.
    pub async fn release(&mut self) {
        let held = self.held.send_replace(None).is_some();
        let Some(seen) = self.seen.as_ref().filter(|seen| held && seen.record.holder == self.me) else {
            return;
        };
        let lease = self.lease(Some(&seen.record), "", Duration::from_secs(1));
        match self.replace(&lease).await {
            Ok(_) => info!(lease = self.name, "lease released"),
            Err(error) => warn!(lease = self.name, %error, "the lease could not be released"),
        }
    }

    fn lost(&self, why: Error) -> Error {
        self.held.send_replace(None);
        why
    }

    /// One look at the lease and one step; returns the pause before the next.
    async fn round(&mut self) -> Result<Duration, Failure> {
        // Only what the API server says now counts: after a conflict or a lost answer, ours may be out of date.
        let found = deadline(self.api.get_opt(&self.name)).await?;
        self.note(found.as_ref())?;
        let record = self.seen.as_ref().map(|seen| seen.record.clone());
        let started = Instant::now();
        let step = decide(&self.me, self.seen.as_ref(), started, &self.terms);
        debug!(lease = self.name, ?step, "election");
        let written = match step {
            Step::Wait(pause) => return Ok(pause),
            // Held by this name, but not known to be held: the answer to a take-over was lost. It counts from now.
            Step::Renew | Step::Take => {
                self.replace(&self.lease(record.as_ref(), &self.me, self.terms.duration)).await
            }
            Step::Create => {
                let lease = self.lease(None, &self.me, self.terms.duration);
                deadline(self.api.create(&PostParams::default(), &lease)).await
            }
        };
        match written {
            Ok(lease) => {
                self.note(Some(&lease))?;
                // From before the request was sent: the others count from when they saw it, which is later.
                let until = started + self.terms.renew_within;
                if self.held.send_replace(Some(until)).is_none() {
                    info!(lease = self.name, identity = self.me, "this replica leads now");
                }
                Ok(self.terms.retry)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(self.terms.retry / 4),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, lease: &Lease) -> kube::Result<Lease> {
        deadline(self.api.replace(&self.name, &PostParams::default(), lease)).await
    }

    fn note(&mut self, found: Option<&Lease>) -> Result<(), Failure> {
        let record = found.map(record);
        if let Some(now) = record.as_ref().and_then(|record| record.version.parse().ok()) {
            let seen = self.highest;
            if now < seen {
                return Err(Failure::WentBack { seen, now });
            }
            self.highest = now;
        }
        let unchanged = self.seen.as_ref().map(|seen| &seen.record) == record.as_ref();
        if !unchanged {
            self.seen = record.map(|record| Seen { record, since: Instant::now() });
        }
        Ok(())
    }

    fn lease(&self, from: Option<&Record>, holder: &str, duration: Duration) -> Lease {
        let now = MicroTime(Timestamp::now());
        let taken = !holder.is_empty() && from.is_none_or(|record| record.holder != holder);
        let transitions = from.map_or(0, |record| record.transitions);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                resource_version: from.map(|record| record.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                acquire_time: taken.then(|| now.clone()),
                holder_identity: Some(holder.into()),
                lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
                lease_transitions: Some(if taken { transitions.saturating_add(1) } else { transitions }),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }
}

impl Fence {
    /// Whether this process may write now.
    pub fn holds(&self) -> bool {
        self.held.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this process holds the lease; never returns where it is never won.
    pub async fn won(&mut self) {
        if self.held.wait_for(Option::is_some).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Asks the API server who holds the lease: None when it is this process, else the other's name.
    ///
    /// # Errors
    /// When the API server can't be asked.
    pub async fn newer_holder(&self) -> kube::Result<Option<String>> {
        let lease = self.api.get_opt(&self.name).await?;
        let holder = lease.map(|lease| record(&lease).holder).unwrap_or_default();
        Ok((*holder != *self.me).then_some(holder))
    }
}

fn record(lease: &Lease) -> Record {
    let empty = LeaseSpec::default();
    let spec = lease.spec.as_ref().unwrap_or(&empty);
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        duration: seconds.map_or(Terms::default().duration, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.resource_version().unwrap_or_default(),
    }
}
