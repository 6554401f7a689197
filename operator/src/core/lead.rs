//! From winning the lease to publishing.

use std::collections::BTreeMap;
use std::time::Instant;

use selvage_crds::Basis;
use tracing::info;

use super::Core;
use crate::watch::Kind;

/// How far this replica is from publishing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Somebody else leads, or nobody yet; the index is kept warm.
    Standby,
    /// It leads, and waits for lists that began after that (or for the first): round by kind.
    Waiting(BTreeMap<Kind, u64>),
    /// It leads, and its lists of inputs are not older than anything that stands: round by kind.
    CatchingUp(BTreeMap<Kind, u64>),
    /// It publishes.
    Leading,
}

impl Core {
    /// This replica leads now. What the last leader wrote at the end may not have come by the watches yet.
    pub(super) fn won(&mut self) {
        self.metrics.leader.set(1);
        let written = |kind: &Kind| !Kind::INPUTS.contains(kind) || matches!(kind, Kind::Tier | Kind::IPPool);
        let round = |kind: &Kind| (*kind, if written(kind) { self.relist(*kind) } else { 0 });
        self.role = Role::Waiting(Kind::ALL.iter().map(round).collect());
    }

    fn relist(&self, kind: Kind) -> u64 {
        let Some(sender) = self.inputs.relist.get(&kind) else { return 0 };
        let round = sender.borrow().saturating_add(1);
        sender.send_replace(round);
        round
    }

    /// Goes on towards publishing, as far as the lists allow.
    pub(super) fn proceed(&mut self) {
        let reached = |rounds: &BTreeMap<Kind, u64>| {
            rounds.iter().all(|(kind, round)| self.listed.get(kind).is_some_and(|listed| listed >= round))
        };
        match &self.role {
            Role::Waiting(rounds) if reached(rounds) => {
                let mut rounds = BTreeMap::new();
                for (name, wanted) in self.planner.standing_basis() {
                    let Some(kind) = Kind::input(&name) else { continue };
                    let have = self.versions.get(&kind).copied().unwrap_or_default();
                    if have < wanted {
                        // The highest version may be that of a deletion, which no list shows. A list that begins
                        // now is newer than anything that was published before.
                        info!(%kind, have, wanted, "what stands is based on newer objects: listing again");
                        rounds.insert(kind, self.relist(kind));
                        if wanted < u64::MAX {
                            self.versions.insert(kind, wanted);
                        }
                    }
                }
                self.role = Role::CatchingUp(rounds);
                self.proceed();
            }
            Role::CatchingUp(rounds) if reached(rounds) => {
                self.compile();
                self.role = Role::Leading;
                self.planner.lead(&self.engine, Instant::now());
                self.board.lead(Instant::now());
                self.touch_tiers(self.upkeep.tiers.names().cloned().collect::<Vec<_>>());
                self.touch_pools();
                info!(
                    nodes = self.engine.nodes().len(),
                    groups = self.engine.groups().len(),
                    "publishing from here on"
                );
            }
            _ => {}
        }
    }

    pub(super) fn basis(&self) -> Basis {
        let of = |kind: &Kind| Some((kind.name().to_owned(), self.versions.get(kind)?.to_string()));
        Kind::INPUTS.iter().filter_map(of).collect()
    }
}
