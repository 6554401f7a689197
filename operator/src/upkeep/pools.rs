//! The IPPools that stand: which of them count, and the default ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use selvage_crds::IPPoolSpec;
use selvage_policy::model::{Change, Pool};

use super::Chore;
use crate::watch::SeenPool;

/// A network around all blocks that is larger than this says nothing: IPv4, IPv6.
const SHORTEST: (u8, u8) = (8, 32);

/// The pools that stand, and what nodes have of them.
pub struct Pools {
    /// Networks given by a flag; derived from the nodes' blocks where there are none.
    given: Vec<IpNet>,
    /// Whether there are default pools.
    defaults: bool,
    blocks: BTreeMap<Arc<str>, Vec<IpNet>>,
    standing: BTreeMap<Arc<str>, SeenPool>,
    /// What the engine was told.
    counted: BTreeMap<Arc<str>, Pool>,
}

impl Pools {
    /// Pools of a cluster with these pod networks, or with what the nodes' blocks say.
    pub fn new(given: Vec<IpNet>, defaults: bool) -> Self {
        Self { given, defaults, blocks: BTreeMap::new(), standing: BTreeMap::new(), counted: BTreeMap::new() }
    }

    /// A node's blocks; None where the node is gone. Whether that is news.
    pub fn node(&mut self, name: &Arc<str>, blocks: Option<&[IpNet]>) -> bool {
        if self.blocks.get(name).map(Vec::as_slice) == blocks {
            return false;
        }
        match blocks {
            Some(blocks) => self.blocks.insert(name.clone(), blocks.to_vec()),
            None => self.blocks.remove(name),
        };
        true
    }

    /// A pool as it stands; None where it is gone. Returns what that changes for the engine.
    pub fn stands(&mut self, name: &Arc<str>, seen: Option<SeenPool>) -> Vec<Change> {
        match seen {
            Some(seen) => self.standing.insert(name.clone(), seen),
            None => self.standing.remove(name),
        };
        let counted = self.count();
        let gone = self.counted.keys().filter(|name| !counted.contains_key(*name));
        let gone = gone.map(|name| Change::Pool(name.clone(), None));
        let new = counted.iter().filter(|(name, pool)| self.counted.get(*name) != Some(*pool));
        let new = new.map(|(name, pool)| Change::Pool(name.clone(), Some(pool.clone())));
        let changes = gone.chain(new).collect();
        self.counted = counted;
        changes
    }

    /// The pools that can be read and overlap no older one that counts.
    fn count(&self) -> BTreeMap<Arc<str>, Pool> {
        let mut by_age: Vec<_> = self.standing.iter().collect();
        by_age.sort_by_key(|(name, seen)| (seen.created, *name));
        let mut counted: BTreeMap<Arc<str>, Pool> = BTreeMap::new();
        for (name, seen) in by_age {
            let Some(pool) = &seen.read.value else { continue };
            if !counted.values().any(|older| overlap(&older.net, &pool.net)) {
                counted.insert(name.clone(), pool.clone());
            }
        }
        counted
    }

    /// A pool that stands.
    pub fn get(&self, name: &str) -> Option<&SeenPool> {
        self.standing.get(name)
    }

    /// The names of those that stand.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.standing.keys()
    }

    /// The pool that counts instead of this one.
    pub fn overlapped_by(&self, name: &str) -> Option<(&Arc<str>, &Pool)> {
        if self.counted.contains_key(name) {
            return None;
        }
        let net = self.standing.get(name)?.net()?;
        self.counted.iter().find(|(_, pool)| overlap(&pool.net, &net))
    }

    /// The blocks of nodes that lie in a network, by node.
    pub fn blocks_in(&self, net: &IpNet) -> impl Iterator<Item = (&Arc<str>, &IpNet)> {
        let all = self.blocks.iter().flat_map(|(node, blocks)| blocks.iter().map(move |block| (node, block)));
        all.filter(move |(_, block)| net.contains(*block))
    }

    /// What has to be done about the default pools.
    pub fn chores(&self) -> Vec<Chore> {
        if !self.defaults {
            return Vec::new();
        }
        let mut chores = Vec::new();
        let nets = |managed| {
            self.standing.values().filter(move |pool| pool.managed == managed).filter_map(SeenPool::net)
        };
        let mut wanted = BTreeSet::new();
        for net in self.networks() {
            if nets(false).any(|theirs| overlap(&theirs, &net)) {
                continue;
            }
            // A cluster that shrinks keeps its pool.
            let around = nets(true).find(|standing| self.given.is_empty() && standing.contains(&net));
            wanted.insert(around.unwrap_or(net));
        }
        for net in wanted.iter().filter(|net| !nets(true).any(|standing| standing == **net)) {
            let before = self
                .standing
                .values()
                .find(|pool| pool.managed && pool.net().is_some_and(|standing| overlap(&standing, net)));
            // Where somebody made pools, those are the cluster's.
            if before.is_none() && nets(false).any(|theirs| same_family(&theirs, net)) {
                continue;
            }
            let spec = before.map(|pool| pool.spec.clone()).unwrap_or_default();
            chores.push(Chore::CreatePool {
                name: pool_name(net),
                spec: IPPoolSpec { cidr: net.to_string(), ..spec },
            });
        }
        for (name, pool) in self.standing.iter().filter(|(_, pool)| pool.managed) {
            let Some(net) = pool.net() else { continue };
            let replaced = wanted.iter().any(|wanted| {
                *wanted != net && overlap(wanted, &net) && nets(true).any(|standing| standing == *wanted)
            });
            if replaced || nets(false).any(|theirs| overlap(&theirs, &net)) {
                chores.push(Chore::DeletePool { name: name.clone(), place: pool.place.clone() });
            }
        }
        chores
    }

    /// The pod networks: as given, or for each family the smallest network around all blocks, where there is one
    /// that is not much more than these.
    fn networks(&self) -> Vec<IpNet> {
        if !self.given.is_empty() {
            return self.given.clone();
        }
        let (v4, v6): (Vec<IpNet>, Vec<IpNet>) =
            self.blocks.values().flatten().partition(|net| matches!(net, IpNet::V4(_)));
        let of = |blocks: Vec<IpNet>, shortest: u8| match blocks.iter().copied().reduce(around) {
            Some(net) if net.prefix_len() < shortest => IpNet::aggregate(&blocks),
            net => net.into_iter().collect(),
        };
        of(v4, SHORTEST.0).into_iter().chain(of(v6, SHORTEST.1)).collect()
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn same_family(a: &IpNet, b: &IpNet) -> bool {
    matches!((a, b), (IpNet::V4(_), IpNet::V4(_)) | (IpNet::V6(_), IpNet::V6(_)))
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
mod tests;
