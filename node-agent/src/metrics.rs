//! Figures for /metrics.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use selvage_policy::compiled::EndpointKey;

/// All figures of the agent.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    commits: Family<CommitLabels, Counter>,
    commit_seconds: Histogram,
    repairs: Counter,
    conntrack: Counter,
    watch_errors: Family<WatchLabels, Counter>,
    spoofed: Family<SpoofLabels, Counter>,
    spoofed_by_pod: Family<PodLabels, Counter>,
    bound: Gauge,
    unbound: Gauge,
    endpoints: Gauge,
    rules: Gauge,
    elements: Gauge,
    groups: Gauge,
}

/// Which watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum WatchKind {
    /// On the NodePolicy.
    NodePolicy,
    /// On address groups.
    AddressGroups,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    kind: WatchKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "these are the label's values")]
enum Outcome {
    ok,
    failed,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpoofLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PodLabels {
    namespace: String,
    pod: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabels {
    result: Outcome,
}

/// How much the kernel holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Endpoints with an address and a profile.
    pub endpoints: u32,
    /// Rules.
    pub rules: u32,
    /// Elements of sets and maps.
    pub elements: u32,
    /// Address groups.
    pub groups: u32,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let mut metrics = Self {
            registry: Registry::with_prefix("selvage_agent"),
            commits: Family::default(),
            commit_seconds: Histogram::new(buckets),
            repairs: Counter::default(),
            conntrack: Counter::default(),
            watch_errors: Family::default(),
            spoofed: Family::default(),
            spoofed_by_pod: Family::default(),
            bound: Gauge::default(),
            unbound: Gauge::default(),
            endpoints: Gauge::default(),
            rules: Gauge::default(),
            elements: Gauge::default(),
            groups: Gauge::default(),
        };
        let r = &mut metrics.registry;
        r.register("commits", "Plans committed to the kernel", metrics.commits.clone());
        r.register_with_unit(
            "commit",
            "Time from a plan's first transaction to its last answer",
            Unit::Seconds,
            metrics.commit_seconds.clone(),
        );
        r.register(
            "repairs",
            "Times the table was not what was committed, and was repaired",
            metrics.repairs.clone(),
        );
        r.register(
            "conntrack_deletions",
            "Connections forgotten because an address left its pod",
            metrics.conntrack.clone(),
        );
        r.register(
            "spoofed_packets",
            "Packets that were stopped at a pod's port because of what they claimed to be",
            metrics.spoofed.clone(),
        );
        r.register(
            "spoofed_packets_by_pod",
            "Packets in another's name, by the pod that sent them (empty: a port without a CNI result)",
            metrics.spoofed_by_pod.clone(),
        );
        r.register(
            "bound_ports",
            "Ports of pods that are held to the pod's own addresses",
            metrics.bound.clone(),
        );
        r.register(
            "unbound_endpoints",
            "Endpoints that stand and whose port is not known from a CNI result, so that a neighbour can pose as them",
            metrics.unbound.clone(),
        );
        r.register("watch_errors", "Failures of watches on the API server", metrics.watch_errors.clone());
        r.register("endpoints", "Endpoints that stand in the kernel", metrics.endpoints.clone());
        r.register("rules", "Rules in the kernel", metrics.rules.clone());
        r.register("elements", "Elements of sets and maps in the kernel", metrics.elements.clone());
        r.register("groups", "Address groups in the kernel", metrics.groups.clone());
        metrics
    }
}

impl Metrics {
    /// A plan was committed, or failed.
    pub fn commit(&self, took: Duration, ok: bool) {
        let result = if ok { Outcome::ok } else { Outcome::failed };
        self.commits.get_or_create(&CommitLabels { result }).inc();
        self.commit_seconds.observe(took.as_secs_f64());
    }

    /// The table had to be repaired.
    pub fn repair(&self) {
        self.repairs.inc();
    }

    /// Connections were forgotten.
    pub fn forgot(&self, connections: u64) {
        self.conntrack.inc_by(connections);
    }

    /// Packets were stopped for this reason.
    pub fn spoofed(&self, reason: &'static str, packets: u64) {
        self.spoofed.get_or_create(&SpoofLabels { reason }).inc_by(packets);
    }

    /// A pod sent packets in another's name; None: one behind a port without a CNI result.
    pub fn spoofed_by(&self, pod: Option<&EndpointKey>, packets: u64) {
        let name = |part: fn(&EndpointKey) -> &str| pod.map_or("", part).to_owned();
        let labels = PodLabels { namespace: name(|pod| &pod.namespace), pod: name(|pod| &pod.name) };
        self.spoofed_by_pod.get_or_create(&labels).inc_by(packets);
    }

    /// How many ports are held to their own addresses, and how many endpoints have none that is.
    pub fn bound(&self, ports: usize, unbound_endpoints: usize) {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.bound.set(count(ports));
        self.unbound.set(count(unbound_endpoints));
    }

    /// A watch failed.
    pub fn watch_error(&self, kind: WatchKind) {
        self.watch_errors.get_or_create(&WatchLabels { kind }).inc();
    }

    /// What the kernel holds now.
    pub fn sizes(&self, sizes: &Sizes) {
        self.endpoints.set(sizes.endpoints.into());
        self.rules.set(sizes.rules.into());
        self.elements.set(sizes.elements.into());
        self.groups.set(sizes.groups.into());
    }

    /// The OpenMetrics text.
    ///
    /// # Errors
    /// Where a metric can't be written as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
