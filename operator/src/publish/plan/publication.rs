//! What conditions depend on.

use std::collections::BTreeMap;
use std::sync::Arc;

use selvage_policy::compiled::GroupId;

use super::{Planner, Refusal};
use crate::publish::Item;
use crate::status::Publication;

impl Publication for Planner {
    fn refused(&self) -> &BTreeMap<Item, Refusal> {
        &self.refused
    }

    fn node_waits(&self, name: &Arc<str>) -> bool {
        self.rounds.holds(&Item::Node(name.clone()))
    }

    fn group_waits(&self, id: GroupId) -> bool {
        self.groups
            .get(&id)
            .is_some_and(|group| group.slices().any(|slice| self.rounds.holds(&Item::Slice(slice))))
    }
}
