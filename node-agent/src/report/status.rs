//! From the report to NodePolicy.status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use selvage_crds::NodePolicyStatus;
use selvage_crds::codec::FORMAT;
use selvage_crds::conditions::{self, INTACT, PROGRAMMED, READY, Wanted};
use selvage_crds::node_policy::{AppliedGroups, Counts, LastError, MAX_NOT_PROGRAMMED, MAX_PENDING_GROUPS};

use super::{Report, Verdict};

/// Longest `lastError.message`, in characters.
const MAX_ERROR: usize = 4096;

/// The status that a report makes. `before` are the conditions written last, whose transition times go on while their
/// status does.
pub fn status(report: &Report, before: &[Condition], now: &Time) -> NodePolicyStatus {
    let mut list = before.to_vec();
    let intact = report.intact();
    for (kind, verdict) in [(INTACT, &intact), (PROGRAMMED, &report.programmed), (READY, &report.ready)] {
        conditions::set(&mut list, &wanted(kind, verdict, report.generation), now);
    }
    let total = report.not_programmed.len();
    NodePolicyStatus {
        conditions: list,
        observed_generation: report.generation,
        digest: report.digest.clone(),
        policy_set: report.policy_set.clone(),
        revision: report.revision,
        formats: vec![FORMAT],
        counts: Counts {
            endpoints: report.sizes.endpoints,
            rules: report.sizes.rules,
            elements: report.sizes.elements,
            groups: report.sizes.groups,
        },
        last_error: report.last_error.as_ref().map(|(message, time)| LastError {
            message: message.chars().take(MAX_ERROR).collect(),
            time: Time(*time),
        }),
        not_programmed: report.not_programmed.iter().take(MAX_NOT_PROGRAMMED).cloned().collect(),
        not_programmed_total: u32::try_from(total).unwrap_or(u32::MAX),
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        addresses: report.addresses.clone(),
        address_groups: Some(AppliedGroups {
            resource_version: report.applied_to.map(|version| version.to_string()),
            pending: report.pending.iter().take(MAX_PENDING_GROUPS).map(ToString::to_string).collect(),
            pending_total: u32::try_from(report.pending.len()).unwrap_or(u32::MAX),
        }),
    }
}

fn wanted<'a>(kind: &'static str, verdict: &'a Verdict, generation: Option<i64>) -> Wanted<'a> {
    Wanted {
        kind,
        status: verdict.holds.into(),
        reason: verdict.reason,
        message: &verdict.message,
        observed_generation: generation,
    }
}
