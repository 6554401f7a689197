//! How far a version of a tier or pool has come, which are part of NodePolicies without a generation of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::node::{Node, Standing};

/// Which nodes have yet to say that they enforce a NodePolicy with that version in it.
///
/// Once a node did, that is settled until the next version: NodePolicies change with every pod. A node that is
/// concerned later than the version came has nothing to catch up with.
#[derive(Debug, Default)]
pub struct Progress {
    uid: Arc<str>,
    generation: i64,
    /// The generation of its NodePolicy that holds it; None where the NodePolicy is still to be written.
    waiting: BTreeMap<Arc<str>, Option<i64>>,
}

impl Progress {
    /// How it stands on the nodes concerned. `settled`: all of that version was said to stand before.
    pub fn look(
        &mut self,
        version: (&Arc<str>, i64),
        settled: bool,
        span: &BTreeSet<Arc<str>>,
        nodes: &BTreeMap<Arc<str>, Node>,
        unwritten: impl Fn(&Arc<str>) -> bool,
        now: Instant,
    ) -> Vec<(Arc<str>, Standing)> {
        let (uid, generation) = version;
        if (&self.uid, self.generation) != (uid, generation) {
            let waiting = span.iter().filter(|_| !settled).map(|name| (name.clone(), None)).collect();
            *self = Self { uid: uid.clone(), generation, waiting };
        }
        self.waiting.retain(|name, published| {
            if !span.contains(name) {
                return false;
            }
            let Some(node) = nodes.get(name) else { return true };
            if published.is_none() && !unwritten(name) {
                *published = node.published_generation();
            }
            !published.is_some_and(|generation| node.reached(generation))
        });
        let standing = |name: &Arc<str>| {
            let waits = self.waiting.contains_key(name);
            match nodes.get(name) {
                None => Standing::Pending,
                Some(node) => node.standing_of_all(!waits, now),
            }
        };
        span.iter().map(|name| (name.clone(), standing(name))).collect()
    }
}
