//! What there is to say of an IPPool.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use selvage_crds::IPPoolStatus;
use selvage_crds::conditions::{Status, reason};
use selvage_crds::ip_pool::{Block, capacity};
use selvage_policy::engine::Engine;

use super::about::{About, Said};
use super::board::{Board, View};
use super::judge::{Judgement, judge, number, read, stands};
use super::ledger::Look;
use super::node::Standing;

/// How many blocks a status holds.
const MAX_BLOCKS: usize = 16_384;

impl Board {
    pub(super) fn look_at_pool(&mut self, name: &Arc<str>, view: View<'_>) -> Option<Look> {
        let about = About::Pool(name.clone());
        let pool = view.upkeep.pools.get(name)?;
        let (uid, generation) = (&pool.read.uid, pool.read.generation);
        let net = pool.net();
        let overlapped = view.upkeep.pools.overlapped_by(name);
        let masquerades =
            pool.read.value.as_ref().is_some_and(|pool| pool.nat_outgoing) && overlapped.is_none();
        let span = net.filter(|_| masquerades).map(|net| {
            let nodes = view.engine.nodes();
            let of = |node: &Arc<selvage_policy::compiled::NodePolicy>| {
                let from = node.masquerade.iter().flat_map(|masquerade| &masquerade.from);
                from.into_iter().any(|from| from.contains(&net) || net.contains(from))
            };
            nodes.iter().filter(|node| of(node)).map(|node| node.node.clone()).collect::<BTreeSet<_>>()
        });
        let (nodes, again) = match &span {
            Some(span) => self.progress(&about, (uid, generation), span, view),
            None => (Vec::new(), None),
        };
        let before = match self.ledger.standing(&about, uid).map(|stood| &stood.said) {
            Some(Said::Pool(status)) => status.clone(),
            _ => IPPoolStatus::default(),
        };
        let mut after = before.clone();
        let accepted: Judgement = match overlapped {
            Some((older, theirs)) => {
                let message = format!(
                    "spec.cidr: overlaps {} of the older pool {older}: the pool is not used",
                    theirs.net
                );
                (Status::False, reason::OVERLAP, message)
            }
            None => read(&pool.read.issues, net.is_some()),
        };
        let programmed = match stands(&nodes) {
            _ if overlapped.is_some() || net.is_none() => {
                (Status::False, reason::INVALID, "the pool is not used: see Accepted".into())
            }
            Some(judgement) => judgement,
            None if masquerades => (Status::True, reason::NO_NODES, "no node masquerades for it".into()),
            None => (Status::True, reason::NO_NODES, "nodes have nothing to do: natOutgoing is off".into()),
        };
        judge(&mut after.conditions, generation, accepted, programmed, view.time);
        after.observed_generation = Some(generation);
        if let Some(net) = net {
            after.capacity = capacity(&net);
            after.addresses_in_use =
                number(in_use(view.engine).iter().filter(|address| net.contains(*address)).count());
            let blocks = view.upkeep.pools.blocks_in(&net);
            let mut blocks: Vec<Block> = blocks
                .map(|(node, block)| Block { node: node.to_string(), cidr: block.to_string() })
                .collect();
            blocks.sort();
            after.block_count = number(blocks.len());
            blocks.truncate(MAX_BLOCKS);
            after.blocks = blocks;
        }
        let failing = nodes.iter().any(|(_, standing)| matches!(standing, Standing::Failed { .. }));
        let said = (after != before).then_some(Said::Pool(after));
        Some(Look { uid: uid.clone(), said, failing, held: false, again })
    }
}

fn in_use(engine: &Engine) -> BTreeSet<IpAddr> {
    let nodes = engine.nodes();
    let endpoints = nodes.iter().flat_map(|node| node.endpoints.values());
    endpoints.flat_map(|pod| pod.addresses.iter().copied()).collect()
}
