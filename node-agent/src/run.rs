//! Starts everything and keeps it together: the program ends when it is told to, or when a part of it ended.

use std::collections::BTreeSet;
use std::sync::Arc;

use selvage_nftables::netlink::{self, Ownership};
use selvage_nftables::render::{Settings, UnknownPods};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::args::{self, RunArgs};
use crate::enforce::kernel::{KernelError, Netlink};
use crate::enforce::{Enforcer, Inputs, Outputs};
use crate::facts::{cni_dir, links};
use crate::metrics::Metrics;
use crate::report::{self, Report, StatusOf};
use crate::watch::{groups, policy};
use crate::{admin, watch as api};

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API server's address or the credentials can't be found.
    #[error("Kubernetes client: {0}")]
    Client(#[from] Box<kube::Error>),
    /// They can't be read.
    #[error("Kubernetes client: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The kernel can't be reached.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The admin port.
    #[error("--listen {0}: {1}")]
    Listen(std::net::SocketAddr, #[source] std::io::Error),
    /// Signals can't be waited for.
    #[error("signals: {0}")]
    Signals(#[source] std::io::Error),
    /// A part that must go on ended.
    #[error("{0} ended by itself")]
    Ended(&'static str),
}

/// Runs the agent until SIGTERM or SIGINT. The rules stay in the kernel.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: RunArgs) -> Result<(), RunError> {
    let config = kube::Config::infer().await?;
    let client = kube::Client::try_from(config).map_err(Box::new)?;
    let listener = admin::bind(args.listen).await.map_err(|e| RunError::Listen(args.listen, e))?;
    let ownership = match args.table_ownership {
        args::TableOwnership::Owned => Ownership::Owned,
        args::TableOwnership::Plain => Ownership::Plain,
    };
    let kernel = Netlink::open(&netlink::Settings { ownership, ..netlink::Settings::default() })?;
    let (changes, changes_seen) = mpsc::channel(16);
    kernel.subscribe(changes)?;

    let metrics = Arc::new(Metrics::default());
    let pod_interfaces: BTreeSet<Arc<str>> =
        args.pod_interfaces.iter().map(|name| Arc::from(&**name)).collect();
    let (policy, policy_seen) = watch::channel(policy::PolicyView::default());
    let (groups, groups_seen) = watch::channel(groups::GroupView::default());
    let (cni, mut cni_seen) = watch::channel(cni_dir::CniView::default());
    let (links, mut links_seen) = watch::channel(links::NodeLinks::default());
    let (report, report_seen) = watch::channel(Report::default());
    let (ready, ready_seen) = watch::channel(Err("starting".to_owned()));
    let (in_use, in_use_seen) = watch::channel(BTreeSet::new());
    tracing::info!(node = args.node_name, interfaces = ?pod_interfaces, version = env!("CARGO_PKG_VERSION"), "starting");

    let facts_of_cni = cni_dir::follow(args.cni_results_dir.clone(), cni);
    let facts_of_links = links::follow(pod_interfaces.clone(), links);
    let watch_policy =
        api::policy::follow(client.clone(), &args.namespace, &args.node_name, policy, metrics.clone());
    let watch_groups = api::groups::follow(
        client.clone(),
        &args.namespace,
        &args.node_name,
        groups,
        in_use_seen,
        metrics.clone(),
    );
    let write_report = report::write(
        StatusOf::new(client, &args.namespace, &args.node_name),
        report_seen,
        policy_seen.clone(),
    );
    let enforce = async {
        // The node's own facts are local and quick: the first ruleset waits for them, so that it is the right one.
        let known = cni_seen.changed().await.is_ok() && links_seen.changed().await.is_ok();
        if !known {
            return;
        }
        let inputs = Inputs {
            policy: policy_seen,
            groups: groups_seen,
            cni: cni_seen,
            links: links_seen,
            changes: changes_seen,
        };
        let outputs = Outputs { report, ready, in_use, metrics: metrics.clone() };
        Enforcer::new(kernel, settings(&args), pod_interfaces, inputs, outputs).run().await;
    };

    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop; the rules stay"),
        _ = interrupt.recv() => tracing::info!("interrupted; the rules stay"),
        () = facts_of_cni => return Err(RunError::Ended("reading CNI results")),
        () = facts_of_links => return Err(RunError::Ended("following the node's network")),
        () = watch_policy => return Err(RunError::Ended("watching the NodePolicy")),
        () = watch_groups => return Err(RunError::Ended("watching address groups")),
        () = write_report => return Err(RunError::Ended("writing the status")),
        () = enforce => return Err(RunError::Ended("enforcing")),
        result = admin::serve(listener, ready_seen, metrics.clone()) => {
            result.map_err(|e| RunError::Listen(args.listen, e))?;
            return Err(RunError::Ended("the admin port"));
        }
    }
    Ok(())
}

fn settings(args: &RunArgs) -> Settings {
    let unknown_pods = match args.unknown_pods {
        args::UnknownPods::Closed => UnknownPods::Closed,
        args::UnknownPods::Open => UnknownPods::Open,
    };
    Settings { unknown_pods, count_allowed: args.count_allowed, ..Settings::default() }
}
