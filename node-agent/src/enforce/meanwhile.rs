//! Addresses that changed hands while no agent ran, as far as the table of the one before can tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use selvage_nftables::model::Ruleset;
use selvage_nftables::render::owners;

use crate::watch::groups::GroupView;

/// What the table holds of a group of pods, and the group neither as a member nor as a former one: its pod ended. And
/// what came to the group with an address that another pod had not long before.
pub(super) fn handed_over(standing: &Ruleset, groups: &GroupView) -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    for (id, pods) in &groups.pods {
        let (Some(before), Some(members)) = (owners::of_group(standing, *id), groups.groups.get(id)) else {
            continue;
        };
        let after: BTreeSet<IpAddr> = members.iter().map(|member| member.address()).collect();
        all.extend(
            before.iter().filter(|address| !after.contains(address) && !pods.former.contains(address)),
        );
        all.extend(pods.heirs.iter().filter(|address| !before.contains(address)));
    }
    all
}
