//! IPPools: the cluster's pod networks as facts, one of the operator's own for each that no user's pool covers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use selvage_crds::IPPoolStatus;
use selvage_crds::conditions::{self, Status, Wanted, reason};
use selvage_crds::ip_pool::{Block, capacity};
use selvage_policy::engine::Engine;

use super::pace::Pace;
use crate::watch::{Place, SeenPool};

/// Addresses in use change with every pod; what people read of it need not.
const PAUSE: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_secs(10);
/// How many blocks a status holds.
const MAX_BLOCKS: usize = 16_384;

/// One request about an IPPool.
#[derive(Debug, Clone, PartialEq)]
pub enum PoolWrite {
    /// Makes a pool of the operator's own.
    Create {
        /// Its name.
        name: Arc<str>,
        /// Its network.
        cidr: IpNet,
    },
    /// Deletes one of the operator's own that is no pod network any more.
    Delete {
        /// Its name.
        name: Arc<str>,
        /// Where it stands.
        place: Place,
    },
    /// Says what is known of a pool.
    Status {
        /// Its name.
        name: Arc<str>,
        /// Where it stands.
        place: Place,
        /// Its network, as it stands.
        cidr: String,
        /// What is known.
        status: Box<IPPoolStatus>,
    },
}

/// The pools that stand, and what they should say.
pub struct Pools {
    /// Networks given by a flag; derived from the nodes' blocks where there are none.
    given: Vec<IpNet>,
    blocks: BTreeMap<Arc<str>, Vec<IpNet>>,
    standing: BTreeMap<Arc<str>, SeenPool>,
    dirty: bool,
    not_before: Option<Instant>,
    queue: Vec<PoolWrite>,
    in_flight: BTreeSet<Arc<str>>,
    pace: Pace<Arc<str>>,
}

impl PoolWrite {
    /// The pool's name.
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Create { name, .. } | Self::Delete { name, .. } | Self::Status { name, .. } => name,
        }
    }
}

impl Pools {
    /// Pools of a cluster with these pod networks, or with what the nodes' blocks say.
    pub fn new(given: Vec<IpNet>) -> Self {
        Self {
            given,
            blocks: BTreeMap::new(),
            standing: BTreeMap::new(),
            dirty: true,
            not_before: None,
            queue: Vec::new(),
            in_flight: BTreeSet::new(),
            pace: Pace::default(),
        }
    }

    /// A node's blocks; None where the node is gone.
    pub fn node(&mut self, name: &Arc<str>, blocks: Option<&[IpNet]>) {
        match blocks {
            Some(blocks) => self.blocks.insert(name.clone(), blocks.to_vec()),
            None => self.blocks.remove(name),
        };
        self.dirty = true;
    }

    /// Pods came or went.
    pub fn touch(&mut self) {
        self.dirty = true;
    }

    /// A pool as it stands; None where it is gone.
    pub fn stands(&mut self, name: &Arc<str>, seen: Option<SeenPool>) {
        match seen {
            Some(seen) => self.standing.insert(name.clone(), seen),
            None => self.standing.remove(name),
        };
        self.dirty = true;
    }

    /// The next request; None while there is none, or it is too early.
    pub fn next(&mut self, engine: &Engine, now: Instant, time: &Time) -> Option<PoolWrite> {
        if self.dirty && self.in_flight.is_empty() && self.not_before.is_none_or(|at| at <= now) {
            self.dirty = false;
            self.queue = self.plan(&in_use(engine), time);
            // A pool that is made or goes is followed at once by what there is to say then.
            let facts = self.queue.iter().all(|write| matches!(write, PoolWrite::Status { .. }));
            self.not_before = facts.then(|| now + PAUSE);
        }
        let at = self.queue.iter().position(|write| self.pace.free(write.name(), now) <= now)?;
        let write = self.queue.remove(at);
        self.pace.written(write.name().clone(), now);
        self.in_flight.insert(write.name().clone());
        Some(write)
    }

    /// What became of a request: where the watch tells what stands, `done` is enough.
    pub fn written(&mut self, name: &Arc<str>, done: bool, now: Instant) {
        self.in_flight.remove(name);
        if !done {
            self.dirty = true;
            self.not_before = Some(now + RETRY);
        }
    }

    /// When [`Pools::next`] may give something that it does not give now.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let plan = self.dirty.then(|| self.not_before.unwrap_or(now));
        let queued = self.queue.iter().map(|write| self.pace.free(write.name(), now)).min();
        plan.into_iter().chain(queued).min().filter(|_| self.in_flight.is_empty())
    }

    fn plan(&self, in_use: &BTreeSet<IpAddr>, time: &Time) -> Vec<PoolWrite> {
        let mut writes = Vec::new();
        let wanted = self.networks();
        for (name, pool) in self.standing.iter().filter(|(_, pool)| pool.managed) {
            if !wanted.iter().any(|net| pool.cidr == net.to_string()) {
                writes.push(PoolWrite::Delete { name: name.clone(), place: pool.place.clone() });
            }
        }
        for net in &wanted {
            // A pool of its own that is about to go counts too: the next plan makes the new one.
            let covered = self.networks_of_standing().any(|(_, other)| overlap(&other, net));
            if !covered {
                writes.push(PoolWrite::Create { name: pool_name(net), cidr: *net });
            }
        }
        for (name, pool) in &self.standing {
            if let Some(status) = self.status(name, pool, in_use, time)
                && !writes.iter().any(|write| write.name() == name)
            {
                let (name, place, cidr) = (name.clone(), pool.place.clone(), pool.cidr.clone());
                writes.push(PoolWrite::Status { name, place, cidr, status: Box::new(status) });
            }
        }
        writes
    }

    fn networks_of_standing(&self) -> impl Iterator<Item = (&Arc<str>, IpNet)> {
        self.standing.iter().filter_map(|(name, pool)| Some((name, pool.cidr.parse().ok()?)))
    }

    /// The pod networks: as given, or for each family the smallest network around all blocks.
    fn networks(&self) -> Vec<IpNet> {
        if !self.given.is_empty() {
            return self.given.clone();
        }
        let blocks = || self.blocks.values().flatten();
        let v4 = blocks().filter(|net| matches!(net, IpNet::V4(_))).copied().reduce(around);
        let v6 = blocks().filter(|net| matches!(net, IpNet::V6(_))).copied().reduce(around);
        v4.into_iter().chain(v6).collect()
    }

    fn status(
        &self,
        name: &Arc<str>,
        pool: &SeenPool,
        in_use: &BTreeSet<IpAddr>,
        time: &Time,
    ) -> Option<IPPoolStatus> {
        let net: IpNet = pool.cidr.parse().ok()?;
        let mut status = pool.status.clone();
        let older = self.networks_of_standing().find(|(other, theirs)| {
            let before = self.standing.get(*other).map(|seen| (seen.created, *other));
            *other != name && overlap(theirs, &net) && before < Some((pool.created, name))
        });
        let (accepted, reason, message) = match older {
            Some((other, theirs)) => {
                (Status::False, reason::INVALID, format!("overlaps {theirs} of the older pool {other}"))
            }
            None => (Status::True, reason::ACCEPTED, "no older pool overlaps it".to_owned()),
        };
        let observed_generation = Some(pool.place.generation);
        let kind = conditions::ACCEPTED;
        let wanted = Wanted { kind, status: accepted, reason, message: &message, observed_generation };
        conditions::set(&mut status.conditions, &wanted, time);
        status.observed_generation = observed_generation;
        status.capacity = capacity(&net);
        let within = in_use.iter().filter(|address| net.contains(*address)).count();
        status.addresses_in_use = u32::try_from(within).unwrap_or(u32::MAX);
        let mut blocks: Vec<Block> = self
            .blocks
            .iter()
            .flat_map(|(node, blocks)| blocks.iter().map(move |block| (node, block)))
            .filter(|(_, block)| net.contains(*block))
            .map(|(node, block)| Block { node: node.to_string(), cidr: block.to_string() })
            .collect();
        blocks.sort();
        status.block_count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        blocks.truncate(MAX_BLOCKS);
        status.blocks = blocks;
        (status != pool.status).then_some(status)
    }
}

fn in_use(engine: &Engine) -> BTreeSet<IpAddr> {
    let nodes = engine.nodes();
    nodes
        .iter()
        .flat_map(|node| node.endpoints.values())
        .flat_map(|pod| pod.addresses.iter().copied())
        .collect()
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The smallest network around two of one family.
fn around(a: IpNet, b: IpNet) -> IpNet {
    match (a, b) {
        (IpNet::V4(a), IpNet::V4(b)) => {
            let same = (a.network().to_bits() ^ b.network().to_bits()).leading_zeros();
            let length = u8::try_from(same).unwrap_or(32).min(a.prefix_len()).min(b.prefix_len());
            Ipv4Net::new(a.network(), length).map_or(IpNet::V4(a), |net| net.trunc().into())
        }
        (IpNet::V6(a), IpNet::V6(b)) => {
            let same = (a.network().to_bits() ^ b.network().to_bits()).leading_zeros();
            let length = u8::try_from(same).unwrap_or(128).min(a.prefix_len()).min(b.prefix_len());
            Ipv6Net::new(a.network(), length).map_or(IpNet::V6(a), |net| net.trunc().into())
        }
        _ => a,
    }
}

/// A pool's name: its network, in letters that a name may have.
fn pool_name(net: &IpNet) -> Arc<str> {
    format!("pods-{net}").replace(['.', ':', '/'], "-").into()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use rstest::rstest;

    use super::*;

    fn time() -> Time {
        Time(Timestamp::from_second(1_800_000_000).unwrap())
    }

    fn pools(given: &[&str], blocks: &[&str]) -> Pools {
        let mut pools = Pools::new(given.iter().map(|net| net.parse().unwrap()).collect());
        for (number, block) in blocks.iter().enumerate() {
            pools.node(&format!("n{number}").into(), Some(&[block.parse().unwrap()]));
        }
        pools
    }

    fn stands(pools: &mut Pools, name: &str, cidr: &str, managed: bool, created: i64) {
        let status = IPPoolStatus::default();
        let seen = SeenPool { place: Place::default(), managed, created, cidr: cidr.into(), status };
        pools.stands(&name.into(), Some(seen));
    }

    /// What would be written: `+net`, `-name`, `name Accepted`.
    fn plan(pools: &Pools) -> Vec<String> {
        let said = |write| match write {
            PoolWrite::Create { cidr, .. } => format!("+{cidr}"),
            PoolWrite::Delete { name, .. } => format!("-{name}"),
            PoolWrite::Status { name, status, .. } => {
                format!("{name} {}", status.conditions.first().unwrap().status)
            }
        };
        pools.plan(&BTreeSet::new(), &time()).into_iter().map(said).collect()
    }

    #[rstest]
    #[case::the_smallest_around(&[], &["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24"], &["+10.244.0.0/22"])]
    #[case::one_block(&[], &["10.244.3.0/24"], &["+10.244.3.0/24"])]
    #[case::both_families(&[], &["10.244.0.0/24", "fd00::/64", "fd00:0:0:3::/64"], &["+10.244.0.0/24", "+fd00::/62"])]
    #[case::far_apart(&[], &["10.0.0.0/24", "192.168.0.0/24"], &["+0.0.0.0/0"])]
    #[case::given(&["10.244.0.0/16", "fd00::/56"], &["10.244.0.0/24"], &["+10.244.0.0/16", "+fd00::/56"])]
    #[case::no_nodes(&[], &[], &[])]
    fn networks(#[case] given: &[&str], #[case] blocks: &[&str], #[case] planned: &[&str]) {
        assert_eq!(plan(&pools(given, blocks)), planned);
    }

    #[test]
    fn a_users_pool_is_enough() {
        let mut pools = pools(&[], &["10.244.0.0/24", "10.244.1.0/24"]);
        stands(&mut pools, "mine", "10.244.0.0/16", false, 1);
        assert_eq!(plan(&pools), ["mine True"]);
    }

    #[test]
    fn a_pool_of_its_own_grows_by_another() {
        let mut pools = pools(&[], &["10.244.0.0/24"]);
        stands(&mut pools, "pods-10-244-0-0-24", "10.244.0.0/24", true, 1);
        assert_eq!(plan(&pools), ["pods-10-244-0-0-24 True"]);
        pools.node(&"n9".into(), Some(&["10.244.1.0/24".parse().unwrap()]));
        assert_eq!(plan(&pools), ["-pods-10-244-0-0-24"]);
        pools.stands(&"pods-10-244-0-0-24".into(), None);
        assert_eq!(plan(&pools), ["+10.244.0.0/23"]);
    }

    #[test]
    fn of_two_that_overlap_the_younger_is_refused() {
        let mut pools = pools(&["10.0.0.0/8"], &[]);
        stands(&mut pools, "a", "10.1.0.0/16", false, 2);
        stands(&mut pools, "b", "10.0.0.0/8", false, 1);
        stands(&mut pools, "c", "172.16.0.0/12", false, 3);
        assert_eq!(plan(&pools), ["a False", "b True", "c True"]);
    }
}
