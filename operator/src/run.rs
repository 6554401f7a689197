//! `run`: everything put together.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Client;
use selvage_crds::{
    AddressGroup, ClusterNetworkPolicy, GlobalNetworkPolicy, GlobalNetworkSet, IPPool, NetworkPolicyStatus,
    NetworkSet, NodePolicy, SelvageNetworkPolicy, Tier,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::info;

use crate::api::READ_TIMEOUT;
use crate::core::{Core, Inputs, Writers};
use crate::lease::{Elector, Terms, identity};
use crate::metrics::Metrics;
use crate::upkeep::Pools;
use crate::watch::{Context, Kind, Message, Watched};
use crate::{admin, args, core, lease, publish, status, upkeep, watch as watches};

/// Messages that may wait: beyond it the watches wait, and the API server with them.
const BACKLOG: usize = 256;

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the API server: no kubeconfig and no service account.
    #[error("the API server's address or credentials: {0}")]
    Client(#[from] kube::Error),
    /// The kubeconfig or service account can't be read.
    #[error("the API server's address or credentials: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// The admin port can't be served.
    #[error("admin port {address}: {error}")]
    Admin {
        /// Where it should be.
        address: std::net::SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Signals can't be received.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The lease was lost. Another replica leads, so this one starts again as a standby.
    #[error(transparent)]
    Lease(#[from] lease::Error),
    /// The state's task ended.
    #[error(transparent)]
    Core(#[from] core::Error),
}

struct Watches {
    client: Client,
    context: Context,
    messages: mpsc::Sender<Message>,
    relist: BTreeMap<Kind, watch::Sender<u64>>,
    tasks: JoinSet<()>,
}

impl Watches {
    fn start<W: Watched>(mut self) -> Self {
        let (sender, receiver) = watch::channel(0);
        self.relist.insert(W::KIND, sender);
        let (client, context) = (self.client.clone(), self.context.clone());
        self.tasks.spawn(watches::watch::<W>(client, context, receiver, self.messages.clone()));
        self
    }
}

/// Runs the operator until a signal, or until it must not go on.
///
/// # Errors
/// Why it ended, where that was not a signal.
pub async fn run(args: args::Run) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let mut config = kube::Config::infer().await?;
    config.read_timeout = Some(READ_TIMEOUT);
    let client = Client::try_from(config)?;
    let metrics = Metrics::default();
    let (missing, ready) = watch::channel(Kind::ALL.to_vec());
    let refused = |error| Error::Admin { address: args.listen, error };
    let listener = TcpListener::bind(args.listen).await.map_err(refused)?;
    let admin = axum::serve(listener, admin::router(metrics.clone(), ready));
    let (stop, stopped) = watch::channel(false);
    let operator = Operator { identity: identity(), terms: Terms::default(), metrics, missing };
    info!(identity = operator.identity, namespace = args.namespace, listen = %args.listen, "operator starts");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.send_replace(true);
        // The receiver goes with the process; until then the sender must stay.
        stop.closed().await;
    });
    let result = tokio::select! {
        result = operator.run(client, &args, stopped) => result,
        result = admin.into_future() => result.map_err(refused),
    };
    info!("operator ends");
    result
}

/// One replica.
pub struct Operator {
    /// A name that no other replica has.
    pub identity: String,
    /// The times of the election.
    pub terms: Terms,
    /// What is counted.
    pub metrics: Metrics,
    /// Told which lists are not complete.
    pub missing: watch::Sender<Vec<Kind>>,
}

impl Operator {
    /// Works until `stop` is true, then lets the writes under way end and hands the lease over.
    ///
    /// # Errors
    /// When this process must not go on.
    pub async fn run(
        self,
        client: Client,
        args: &args::Run,
        stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let Self { identity, terms, metrics, missing } = self;
        let (mut elector, fence) =
            Elector::new(client.clone(), &args.namespace, &args.lease_name, identity.clone(), terms);
        let (messages, receiver) = mpsc::channel(BACKLOG);
        let context = Context { namespace: Arc::from(args.namespace.as_str()) };
        let (relist, tasks) = (BTreeMap::new(), JoinSet::new());
        let Watches { relist, tasks: _watching, .. } =
            Watches { client: client.clone(), context, messages, relist, tasks }
                .start::<Namespace>()
                .start::<Node>()
                .start::<Pod>()
                .start::<ServiceAccount>()
                .start::<EndpointSlice>()
                .start::<NetworkPolicy>()
                .start::<ClusterNetworkPolicy>()
                .start::<GlobalNetworkPolicy>()
                .start::<SelvageNetworkPolicy>()
                .start::<Tier>()
                .start::<NetworkSet>()
                .start::<GlobalNetworkSet>()
                .start::<IPPool>()
                .start::<NodePolicy>()
                .start::<AddressGroup>()
                .start::<NetworkPolicyStatus>();
        let core = Core::new(
            &args.namespace,
            Pools::new(args.pod_cidrs.clone(), args.create_default_pools),
            Inputs { messages: receiver, relist, fence: fence.clone(), missing },
            Writers {
                publisher: publish::Writer::new(client.clone(), &args.namespace, fence.clone()),
                reporter: status::Writer::new(client.clone(), &args.namespace, &identity, fence.clone()),
                keeper: upkeep::Writer::new(client, fence),
            },
            metrics,
        );
        tokio::select! {
            error = elector.run() => return Err(error.into()),
            result = core.run(stop) => result?,
        }
        elector.release().await;
        Ok(())
    }
}
