//! What the operator counts, as Prometheus reads it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::watch::Kind;

/// Every metric. Cloning shares them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    /// Objects that the operator holds, by kind.
    pub objects: Family<KindLabel, Gauge>,
    /// Errors of watches, by kind.
    pub watch_errors: Family<KindLabel, Counter>,
    /// Objects that could not be decoded, by kind.
    pub undecodable: Family<KindLabel, Counter>,
    /// Writes, by kind and result.
    pub writes: Family<WriteLabel, Counter>,
    /// Seconds from a change's arrival to the NodePolicy or AddressGroup that it made.
    pub publish_seconds: Histogram,
    /// Seconds that a batch of changes took to compile.
    pub compile_seconds: Histogram,
    /// Objects that wait to be written, by queue.
    pub queued: Family<QueueLabel, Gauge>,
    /// Objects that are not written, because they are too large, were refused, or failed for a while.
    pub refused: Gauge,
    /// Objects that are written, but larger than they should be.
    pub over_budget: Gauge,
    /// 1 while this replica leads.
    pub leader: Gauge<i64, std::sync::atomic::AtomicI64>,
    /// 1 while this replica leads and publishes nothing, because teardown was asked for.
    pub torn_down: Gauge,
    /// Policies that are not enforced as written.
    pub policies_not_accepted: Gauge,
    /// Policies that do not stand on every node concerned.
    pub policies_not_programmed: Gauge,
    /// The highest resourceVersion seen, by kind.
    pub versions: Family<KindLabel, Gauge<f64, AtomicU64>>,
}

/// A kind of objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct KindLabel {
    kind: &'static str,
}

/// A kind of objects, and how writing one went.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabel {
    /// The object's kind.
    pub kind: &'static str,
    /// done, conflict, failed or refused.
    pub result: &'static str,
}

/// A queue of writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct QueueLabel {
    /// policy or status.
    pub queue: &'static str,
}

impl From<Kind> for KindLabel {
    fn from(kind: Kind) -> Self {
        Self { kind: kind.name() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        // From 1 ms to 32 s.
        let seconds = || Histogram::new((0..16).map(|n| 0.001 * f64::from(1 << n)));
        let mut metrics = Self {
            registry: Arc::default(),
            objects: Family::default(),
            watch_errors: Family::default(),
            undecodable: Family::default(),
            writes: Family::default(),
            publish_seconds: seconds(),
            compile_seconds: seconds(),
            queued: Family::default(),
            refused: Gauge::default(),
            over_budget: Gauge::default(),
            leader: Gauge::default(),
            torn_down: Gauge::default(),
            policies_not_accepted: Gauge::default(),
            policies_not_programmed: Gauge::default(),
            versions: Family::default(),
        };
        let mut registry = Registry::with_prefix("selvage_operator");
        let r = &mut registry;
        r.register("objects", "Objects held, by kind", metrics.objects.clone());
        r.register("watch_errors", "Errors of watches, by kind", metrics.watch_errors.clone());
        r.register("undecodable_objects", "Objects that could not be decoded", metrics.undecodable.clone());
        r.register("writes", "Writes to the API server, by kind and result", metrics.writes.clone());
        r.register("publish_seconds", "From a change to what it published", metrics.publish_seconds.clone());
        r.register("compile_seconds", "Compiling one batch of changes", metrics.compile_seconds.clone());
        r.register("queued_writes", "Objects that wait to be written", metrics.queued.clone());
        r.register(
            "refused_objects",
            "Objects too large, refused, or failing for a while",
            metrics.refused.clone(),
        );
        let budget = metrics.over_budget.clone();
        r.register("objects_over_budget", "Objects larger than they should be", budget);
        r.register("leader", "1 while this replica leads", metrics.leader.clone());
        let name = "torn_down";
        r.register(name, "1 while nothing is published because of a teardown", metrics.torn_down.clone());
        let name = "policies_not_accepted";
        r.register(name, "Policies not enforced as written", metrics.policies_not_accepted.clone());
        let name = "policies_not_programmed";
        r.register(name, "Policies not standing on every node", metrics.policies_not_programmed.clone());
        r.register("resource_version", "Highest resourceVersion seen, by kind", metrics.versions.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    /// All of it in OpenMetrics' text form.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_read() {
        let metrics = Metrics::default();
        metrics.leader.set(1);
        metrics.objects.get_or_create(&Kind::Pod.into()).set(7);
        metrics.writes.get_or_create(&WriteLabel { kind: "NodePolicy", result: "done" }).inc();
        let text = metrics.text();
        for line in [
            "selvage_operator_leader 1",
            "selvage_operator_objects{kind=\"Pod\"} 7",
            "selvage_operator_writes_total{kind=\"NodePolicy\",result=\"done\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }
}
