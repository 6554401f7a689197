//! An enforcing loop over a kernel, with every view in the test's hands.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod netns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use selvage_nftables::fake::Fake;
use selvage_nftables::model::{Name, Ruleset, TableFamily};
use selvage_nftables::netlink::{Change, Counts, Standing, Table};
use selvage_nftables::render::owners::{self, Owner};
use selvage_nftables::render::{Groups, LocalFacts, Settings, render};
use selvage_nftables::transaction::Transaction;
use selvage_node_agent::admin::Readiness;
use selvage_node_agent::enforce::kernel::{Kernel, KernelError};
use selvage_node_agent::enforce::{Enforcer, Inputs, Outputs};
use selvage_node_agent::facts::cni::Attachment;
use selvage_node_agent::facts::cni_dir::CniView;
use selvage_node_agent::facts::links::NodeLinks;
use selvage_node_agent::metrics::Metrics;
use selvage_node_agent::report::Report;
use selvage_node_agent::watch::groups::GroupView;
use selvage_node_agent::watch::policy::{Observed, PolicyView, Unreadable};
use selvage_policy::compiled::{
    Action, AddressTerm, Endpoint, EndpointKey, GroupId, Member, NodePolicy, Policy, PolicyKey, PolicyKind,
    Profile, ProfileId, Rule, TierStep,
};
use tokio::sync::{mpsc, watch};

/// What the stand-in for the kernel holds and was asked.
#[derive(Debug, Default)]
pub struct State {
    pub fake: Fake,
    /// The table of the bridge family.
    pub bridge: Fake,
    /// Every transaction that was committed to the `inet` table.
    pub committed: Vec<Transaction>,
    /// The table after each.
    pub history: Vec<Option<Ruleset>>,
    /// How often the `inet` table was read.
    pub reads: usize,
    pub forgotten: Vec<BTreeSet<IpAddr>>,
    /// What the rules of the bridge family's table have counted.
    pub counted: HashMap<(Name, Arc<str>), Counts>,
    /// How many commits are refused from now on.
    pub refuse: usize,
    /// Reading is refused.
    pub refuse_to_read: bool,
    /// The next forgetting of connections is refused.
    pub refuse_to_forget: bool,
    /// The next commit panics.
    pub die: bool,
    /// How the table relates to this agent.
    pub standing: Option<Standing>,
}

/// A kernel that the test shares with the loop.
#[derive(Debug, Clone, Default)]
pub struct Shared(pub Arc<Mutex<State>>);

impl Kernel for Shared {
    fn commit(&mut self, family: TableFamily, transaction: &Transaction) -> Result<(), KernelError> {
        let mut state = self.0.lock().unwrap();
        assert!(!state.die, "the test lets this call die");
        if state.refuse > 0 {
            state.refuse -= 1;
            return Err(KernelError::Other("refused by the test".to_owned()));
        }
        if family == TableFamily::Bridge {
            return state.bridge.apply(transaction).map_err(|e| KernelError::Other(e.to_string()));
        }
        state.fake.apply(transaction).map_err(|e| KernelError::Other(e.to_string()))?;
        state.committed.push(transaction.clone());
        let table = state.fake.table.clone();
        state.history.push(table);
        state.standing = None;
        Ok(())
    }

    fn read(&mut self, family: TableFamily) -> Result<Option<Table>, KernelError> {
        let mut state = self.0.lock().unwrap();
        state.reads += usize::from(family == TableFamily::Inet);
        if state.refuse_to_read {
            return Err(KernelError::Other("refused to read".to_owned()));
        }
        let (standing, table) = match family {
            TableFamily::Inet => (state.standing.unwrap_or(Standing::Ours), state.fake.table.clone()),
            TableFamily::Bridge => (Standing::Ours, state.bridge.table.clone()),
        };
        Ok(table.map(|ruleset| Table { standing, dormant: false, ruleset, unreadable: Vec::new() }))
    }

    fn counters(&mut self, family: TableFamily) -> Result<HashMap<(Name, Arc<str>), Counts>, KernelError> {
        let state = self.0.lock().unwrap();
        Ok(if family == TableFamily::Bridge { state.counted.clone() } else { HashMap::new() })
    }

    fn forget(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<usize, KernelError> {
        let mut state = self.0.lock().unwrap();
        if std::mem::take(&mut state.refuse_to_forget) {
            return Err(KernelError::Other("refused to forget".to_owned()));
        }
        state.forgotten.push(addresses.clone());
        Ok(addresses.len())
    }
}

/// The loop and everything it looks at. `kernel` is the test's share of an in-memory kernel.
pub struct Bench<K = Shared> {
    pub kernel: Shared,
    of: PhantomData<K>,
    pub policy: watch::Sender<PolicyView>,
    pub groups: watch::Sender<GroupView>,
    pub cni: watch::Sender<CniView>,
    pub links: watch::Sender<NodeLinks>,
    pub changes: mpsc::Sender<Change>,
    pub report: watch::Receiver<Report>,
    pub ready: watch::Receiver<Readiness>,
    pub metrics: Arc<Metrics>,
    task: tokio::task::JoinHandle<()>,
}

impl<K> Drop for Bench<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn interfaces() -> BTreeSet<Arc<str>> {
    [Arc::from("cni0")].into()
}

impl Bench {
    pub fn start(kernel: Shared) -> Self {
        let (changes, heard) = mpsc::channel(4);
        let mut bench = Self::over(kernel.clone(), Settings::default(), changes, heard);
        bench.kernel = kernel;
        bench
    }

    /// A loop that has enforced this policy, with these groups known.
    pub async fn enforcing(policy: &NodePolicy, groups: &[(GroupId, &[&str])]) -> Self {
        let bench = Self::start(Shared::default());
        bench.know(groups);
        bench.publish(1, policy);
        bench.settle().await;
        assert_eq!(bench.table().as_ref(), Some(&wanted(policy, groups)));
        bench
    }

    /// Lets the loop do all it can do without waiting for anything.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    pub fn bridge(&self) -> Option<Ruleset> {
        self.kernel.0.lock().unwrap().bridge.table.clone()
    }

    pub fn table(&self) -> Option<Ruleset> {
        self.kernel.0.lock().unwrap().fake.table.clone()
    }

    pub fn state<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.kernel.0.lock().unwrap())
    }
}

impl<K: Kernel> Bench<K> {
    pub fn over(
        kernel: K,
        settings: Settings,
        changes: mpsc::Sender<Change>,
        heard: mpsc::Receiver<Change>,
    ) -> Self {
        let (policy, policy_seen) = watch::channel(PolicyView::default());
        let (groups, groups_seen) = watch::channel(GroupView::default());
        let (cni, cni_seen) = watch::channel(CniView::default());
        let links = NodeLinks { br_netfilter: true, interfaces: interfaces(), ..NodeLinks::default() };
        let (links, links_seen) = watch::channel(links);
        let (report, report_seen) = watch::channel(Report::default());
        let (ready, ready_seen) = watch::channel(Err("starting".to_owned()));
        let metrics = Arc::new(Metrics::default());
        let inputs = Inputs {
            policy: policy_seen,
            groups: groups_seen,
            cni: cni_seen,
            links: links_seen,
            changes: heard,
        };
        let in_use = watch::channel(BTreeSet::new()).0;
        let outputs = Outputs { report, ready, in_use, metrics: metrics.clone() };
        let task = tokio::spawn(Enforcer::new(kernel, settings, interfaces(), inputs, outputs).run());
        let (report, ready, of, kernel) = (report_seen, ready_seen, PhantomData, Shared::default());
        Self { kernel, of, policy, groups, cni, links, changes, report, ready, metrics, task }
    }

    /// Waits until the loop ends by itself.
    pub async fn ended(mut self) {
        (&mut self.task).await.unwrap();
    }

    /// Ends the loop as a killed agent ends; its kernel connection is closed then.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub fn publish(&self, generation: i64, policy: &NodePolicy) {
        self.observe(generation, false, Ok(Arc::new(policy.clone())));
    }

    pub fn observe(&self, generation: i64, teardown: bool, policy: Result<Arc<NodePolicy>, Unreadable>) {
        let digest = match &policy {
            Ok(policy) => selvage_crds::digest::node_policy(policy),
            Err(_) => "f".repeat(32),
        };
        let policy_set = match &policy {
            Ok(policy) => selvage_crds::digest::policy_set(policy),
            Err(_) => "f".repeat(16),
        };
        let uid = "uid".to_owned();
        let observed = Observed { uid, generation, teardown, digest, policy_set, policy, status: None };
        self.policy.send_replace(PolicyView {
            listed: true,
            observed: Some(Arc::new(observed)),
            present: true,
            lists: 1,
        });
    }

    pub fn know(&self, groups: &[(GroupId, &[&str])]) {
        self.groups.send_modify(|view| {
            view.listed = true;
            view.groups = members(groups);
        });
    }

    pub fn reason(&self) -> &'static str {
        self.report.borrow().programmed.reason
    }

    /// The value of a metric without labels.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("{name} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no metric {name} in:\n{text}")).parse().unwrap()
    }
}

pub fn members(groups: &[(GroupId, &[&str])]) -> Groups {
    let set = |list: &[&str]| list.iter().map(|net| Member::Net(net.parse().unwrap())).collect();
    groups.iter().map(|(id, list)| (*id, set(list))).collect()
}

/// What the table must hold, with the addresses that the API tells.
pub fn wanted(policy: &NodePolicy, groups: &[(GroupId, &[&str])]) -> Ruleset {
    let addresses = policy.endpoints.iter().filter(|(_, e)| !e.addresses.is_empty());
    let facts = LocalFacts {
        pod_interfaces: interfaces(),
        addresses: addresses.map(|(key, e)| (key.clone(), e.addresses.iter().copied().collect())).collect(),
    };
    let mut ruleset = render(policy, &members(groups), &facts, &Settings::default()).ruleset;
    owners::record(&mut ruleset, &owners_in(policy));
    ruleset
}

/// Who owns the addresses that the API tells.
pub fn owners_in(policy: &NodePolicy) -> BTreeMap<IpAddr, Owner> {
    let each = policy.endpoints.values();
    each.flat_map(|e| e.addresses.iter().map(|address| (*address, Owner::of(&e.uid)))).collect()
}

pub fn pod(name: &str) -> EndpointKey {
    EndpointKey { namespace: "shop".into(), name: name.into() }
}

/// What the CNI plugin told of a pod.
pub fn attachment(name: &str, uid: Option<&str>, address: &str) -> Attachment {
    Attachment {
        pod: pod(name),
        uid: uid.map(Into::into),
        addresses: vec![address.parse().unwrap()],
        host_interfaces: vec!["cni0".into()],
        mac: None,
        written: SystemTime::UNIX_EPOCH,
    }
}

/// A node whose pods (name, uid, address) allow ingress from the groups alone.
pub fn node_policy(pods: &[(&str, &str, &str)], groups: &[GroupId]) -> NodePolicy {
    let key = PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: "web".into() };
    let rule = Rule {
        index: 0,
        action: Action::Allow,
        family: None,
        services: Vec::new(),
        source: vec![AddressTerm { negated: false, nets: Vec::new(), groups: groups.to_vec() }],
        destination: Vec::new(),
    };
    let step = TierStep { tier: "default".into(), default_action: Action::Deny, policies: vec![key.clone()] };
    let profile = Profile { ingress: vec![step], ..Profile::default() };
    let policy = Policy { uid: "p1".into(), generation: 1, ingress: vec![rule], egress: Vec::new() };
    let endpoint = |uid: &str, address: &str| Endpoint {
        uid: uid.into(),
        profile: ProfileId(1),
        addresses: if address.is_empty() { Vec::new() } else { vec![address.parse().unwrap()] },
    };
    NodePolicy {
        masquerade: None,
        node: "node-1".into(),
        endpoints: pods.iter().map(|(name, uid, address)| (pod(name), endpoint(uid, address))).collect(),
        profiles: [(ProfileId(1), profile.into())].into(),
        policies: [(key, Arc::new(policy))].into(),
        groups: groups.iter().copied().collect(),
    }
}
