//! The incremental compiler: changes of objects in, changes of node policies and groups out.

mod dirty;
mod flush;
mod groups;
mod lists;
mod network_sets;
mod pods;
mod policies;
mod profiles;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::compiled::{
    EndpointKey, GroupId, GroupKind, Member, NodePolicy, PolicyKey, Profile, ProfileId, Shared,
};
pub use crate::delta::{Delta, GroupDelta};
use crate::hash::HashMap;
use crate::index::addresses::Addresses;
use crate::index::slab::{Id, Slab};
use crate::index::{Endpoint, Index};
use crate::model::{Change, Pool};
use crate::tier::Tiers;
use dirty::Dirty;
pub(crate) use groups::Group;
use groups::{Groups, all_members};
use lists::Lists;
pub use network_sets::SetStatus;
pub(crate) use policies::Policy;
use profiles::Profiles;

/// The state of the cluster and what it means for every node.
///
/// What it gives depends on the objects it holds alone, never on the order in which they came, with one exception
/// that the semantics ask for: a pod whose address list turns empty keeps the addresses it had.
#[derive(Debug, Default)]
pub struct Engine {
    index: Index,
    addresses: Addresses,
    nodes: Slab<Node>,
    node_ids: HashMap<Arc<str>, Id<Node>>,
    tiers: Tiers,
    policies: Slab<Policy>,
    policy_ids: HashMap<PolicyKey, Id<Policy>>,
    policies_by_tier: HashMap<Arc<str>, BTreeSet<Id<Policy>>>,
    groups: Groups,
    lists: Lists,
    pools: BTreeMap<Arc<str>, Pool>,
    profiles: Profiles,
    /// The uid of the pod that had an address at the last flush, of addresses that changed hands since.
    handed_over: BTreeMap<IpAddr, Option<Arc<str>>>,
    dirty: Dirty,
}

/// A node that has an object or endpoints.
#[derive(Debug, Default)]
pub(crate) struct Node {
    name: Arc<str>,
    present: bool,
    blocks: Vec<IpNet>,
    endpoints: BTreeSet<Id<Endpoint>>,
    /// Its policy as the last flush left it.
    published: Option<Arc<NodePolicy>>,
    /// It is on the list of nodes to rebuild.
    dirty: bool,
}

/// Whether a policy is enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforcement {
    /// It is part of the policy of every node in its span.
    Enforced,
    /// The tier it names does not exist.
    MissingTier(Arc<str>),
}

/// What the engine knows of a policy, for its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyStatus {
    /// The uid of the object that was applied.
    pub uid: Arc<str>,
    /// Its generation.
    pub generation: i64,
    /// Whether it is enforced.
    pub enforcement: Enforcement,
    /// How many endpoints it selects, enforced or not.
    pub endpoints: usize,
    /// Nodes with at least one endpoint that it is enforced for, sorted; empty where it is not enforced.
    pub nodes: Vec<Arc<str>>,
}

/// A group as it stands after the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// What its members are.
    pub kind: GroupKind,
    /// Its members are pods: each is there because of the pod that has the address.
    pub of_pods: bool,
    /// All its members.
    pub members: BTreeSet<Member>,
    /// Nodes whose policy names it, sorted.
    pub span: Vec<Arc<str>>,
}

/// An endpoint as it stands after the last flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointState {
    /// The node it is bound to.
    pub node: Arc<str>,
    /// Which profile judges it.
    pub profile_id: ProfileId,
    /// That profile.
    pub profile: Shared<Profile>,
    /// Addresses that it owns.
    pub addresses: Vec<IpAddr>,
}

/// How much the engine holds: for metrics, and to see that every add has its remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pods.
    pub endpoints: usize,
    /// Namespaces that have an object, endpoints, or policies that name them.
    pub namespaces: usize,
    /// Nodes that have an object or endpoints.
    pub nodes: usize,
    /// Policies, enforced or not.
    pub policies: usize,
    /// Distinct choices of pods that policies select or name as peers.
    pub pod_sets: usize,
    /// Distinct address groups, in a span or not.
    pub groups: usize,
    /// Distinct profiles of endpoints.
    pub profiles: usize,
    /// Addresses that pods claim.
    pub addresses: usize,
    /// NetworkSets, EndpointSlices, nodes with an object, and pools.
    pub listed: usize,
    /// Distinct keys in the indices of labels and selectors.
    pub index_keys: usize,
}

impl Engine {
    /// An empty cluster: no object but the three tiers that always exist.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one change. Costs by what it affects; nothing is published before [`Engine::flush`].
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Namespace(name, namespace) => self.set_namespace(&name, namespace),
            Change::Node(name, node) => self.set_node(&name, node),
            Change::Pod(key, pod) => self.set_pod(&key, pod),
            Change::Tier(name, tier) => self.set_tier(&name, tier),
            Change::Policy(key, policy) => self.set_policy(key, policy),
            Change::ServiceAccount(key, account) => self.set_account(&key, account),
            Change::NetworkSet(key, set) => self.set_network_set(key, set),
            Change::Backends(key, backends) => self.set_backends(key, backends),
            Change::Pool(name, pool) => self.set_pool(name, pool),
        }
    }

    /// The policy of a node, as the last flush left it.
    pub fn node(&self, name: &str) -> Option<Arc<NodePolicy>> {
        self.nodes.get(*self.node_ids.get(name)?)?.published.clone()
    }

    /// The policies of all nodes, by name, as the last flush left them.
    pub fn nodes(&self) -> Vec<Arc<NodePolicy>> {
        let mut nodes: Vec<_> = self.nodes.iter().filter_map(|(_, node)| node.published.clone()).collect();
        nodes.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        nodes
    }

    /// A group in some node's span. Its members include changes that are not flushed yet.
    pub fn group(&self, id: GroupId) -> Option<GroupState> {
        let group = self.groups.get(id)?;
        let members = all_members(&self.index, group).collect();
        let (kind, of_pods) = (group.kind(), group.of_pods());
        Some(GroupState { kind, of_pods, members, span: self.names(group.span()) })
    }

    /// Every group in some node's span.
    pub fn groups(&self) -> BTreeSet<GroupId> {
        self.groups.iter().map(Group::id).collect()
    }

    /// A policy's status.
    pub fn policy(&self, key: &PolicyKey) -> Option<PolicyStatus> {
        let policy = self.policies.get(*self.policy_ids.get(key)?)?;
        let set = policy.subject.and_then(|set| self.index.sets.get(set));
        let enforced = self.tiers.get(&policy.placement.tier).is_some();
        Some(PolicyStatus {
            uid: policy.compiled.uid.clone(),
            generation: policy.compiled.generation,
            enforcement: match enforced {
                true => Enforcement::Enforced,
                false => Enforcement::MissingTier(policy.placement.tier.clone()),
            },
            endpoints: set.map_or(0, |set| set.members.len()),
            nodes: self.names(set.filter(|_| enforced).into_iter().flat_map(|set| set.nodes.keys())),
        })
    }

    /// Every policy that the engine holds, enforced or not, sorted.
    pub fn policies(&self) -> BTreeSet<PolicyKey> {
        self.policy_ids.keys().cloned().collect()
    }

    /// An endpoint. None before the flush that follows the pod's coming.
    pub fn endpoint(&self, key: &EndpointKey) -> Option<EndpointState> {
        let endpoint = self.index.endpoints.get(self.endpoint_id(key)?)?;
        let profile_id = endpoint.profile?;
        Some(EndpointState {
            node: self.nodes.get(endpoint.node)?.name.clone(),
            profile_id,
            profile: self.profiles.get(profile_id)?.clone(),
            addresses: endpoint.owned.iter().copied().collect(),
        })
    }

    /// The uid of the pod that has an address. Includes changes that are not flushed yet.
    pub fn owner(&self, address: IpAddr) -> Option<&Arc<str>> {
        self.index.endpoints.get(self.addresses.owner(address)?).map(|endpoint| &endpoint.uid)
    }

    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            endpoints: self.index.endpoints.len(),
            namespaces: self.index.namespaces.len(),
            nodes: self.nodes.len(),
            policies: self.policies.len(),
            pod_sets: self.index.sets.len(),
            groups: self.groups.len(),
            profiles: self.profiles.len(),
            addresses: self.addresses.len(),
            listed: self.lists.len() + self.pools.len(),
            index_keys: self.index.keys() + self.lists.index_keys(),
        }
    }

    fn names(&self, nodes: impl Iterator<Item = Id<Node>>) -> Vec<Arc<str>> {
        let mut names: Vec<_> = nodes.filter_map(|node| Some(self.nodes.get(node)?.name.clone())).collect();
        names.sort_unstable();
        names
    }
}
