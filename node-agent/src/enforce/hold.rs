//! How long a NodePolicy waits for the address groups it names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use selvage_policy::compiled::GroupId;
use tokio::time::Instant;

/// The longest wait. Then the policy is applied, with the rules that name the missing groups closed.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Since when groups are missed. A group is waited for once, however many NodePolicies name it meanwhile, so that a
/// busy operator can't hold a node for ever.
#[derive(Debug, Default)]
pub struct Hold {
    since: BTreeMap<GroupId, Instant>,
}

impl Hold {
    /// Until when the policy must wait that misses these groups; None when it can be applied now.
    pub fn until(&mut self, missing: &BTreeSet<GroupId>, now: Instant) -> Option<Instant> {
        self.since.retain(|group, _| missing.contains(group));
        for group in missing {
            self.since.entry(*group).or_insert(now);
        }
        let last = *self.since.values().max()? + LONGEST;
        (now < last).then_some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(ids: &[u128]) -> BTreeSet<GroupId> {
        ids.iter().map(|id| GroupId(*id)).collect()
    }

    #[test]
    fn a_group_is_waited_for_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut hold = Hold::default();
        assert_eq!(hold.until(&groups(&[]), start), None);
        assert_eq!(hold.until(&groups(&[1]), start), Some(at(5)));
        assert_eq!(hold.until(&groups(&[1]), at(3)), Some(at(5)), "another policy, the same group");
        assert_eq!(hold.until(&groups(&[1, 2]), at(4)), Some(at(9)), "another group");
        assert_eq!(hold.until(&groups(&[1]), at(4)), Some(at(5)), "which then came");
        assert_eq!(hold.until(&groups(&[1]), at(5)), None);
        assert_eq!(hold.until(&groups(&[1]), at(6)), None, "it is not waited for again");
        assert_eq!(hold.until(&groups(&[]), at(7)), None);
        assert_eq!(hold.until(&groups(&[1]), at(8)), Some(at(13)), "unless it was there in between");
    }
}
