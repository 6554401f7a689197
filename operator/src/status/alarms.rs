//! What an agent reports of its node that somebody must act on.

use selvage_crds::conditions::{INTACT, PROGRAMMED, find, reason};
use selvage_crds::node_policy::NodePolicyStatus;

use super::ledger::News;

/// Reasons that do not pass by waiting. A group that has not arrived yet is none of them.
const ALARMING: [&str; 5] = [
    reason::CHANGED_BY_OTHERS,
    reason::KERNEL_REFUSED,
    reason::NODE_NOT_FIT,
    reason::UNREADABLE,
    reason::UNKNOWN_FORMAT,
];

/// What one report says of that sort that the one before did not.
pub(super) fn alarms(before: Option<&NodePolicyStatus>, after: Option<&NodePolicyStatus>) -> Vec<News> {
    let alarm = |status: &NodePolicyStatus, kind| {
        let condition = find(&status.conditions, kind)?;
        let alarming = condition.status == "False" && ALARMING.contains(&&*condition.reason);
        alarming.then(|| News { reason: condition.reason.clone(), message: condition.message.clone() })
    };
    let new = |kind| {
        let now = alarm(after?, kind)?;
        (before.and_then(|before| alarm(before, kind)).as_ref() != Some(&now)).then_some(now)
    };
    [INTACT, PROGRAMMED].into_iter().filter_map(new).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use selvage_crds::conditions::{Status, Wanted, set};

    use super::*;

    fn report(kind: &'static str, status: Status, reason: &'static str, message: &str) -> NodePolicyStatus {
        let mut report = NodePolicyStatus::default();
        let wanted = Wanted { kind, status, reason, message, observed_generation: Some(1) };
        set(&mut report.conditions, &wanted, &Time(Timestamp::UNIX_EPOCH));
        report
    }

    #[test]
    fn each_is_told_once() {
        let intact = report(INTACT, Status::True, reason::INTACT, "");
        let first = report(INTACT, Status::False, reason::CHANGED_BY_OTHERS, "chain to_pod");
        let second = report(INTACT, Status::False, reason::CHANGED_BY_OTHERS, "the table is gone");
        let told = |before, after| -> Vec<String> {
            alarms(before, after)
                .into_iter()
                .map(|news| format!("{}: {}", news.reason, news.message))
                .collect()
        };
        assert_eq!(told(Some(&intact), Some(&first)), ["ChangedByOthers: chain to_pod"]);
        assert_eq!(told(None, Some(&first)), ["ChangedByOthers: chain to_pod"]);
        assert_eq!(told(Some(&first), Some(&second)), ["ChangedByOthers: the table is gone"]);
        for (before, after) in [(&first, &first), (&first, &intact), (&intact, &intact)] {
            assert_eq!(told(Some(before), Some(after)), [""; 0]);
        }
        assert_eq!(told(Some(&first), None), [""; 0]);
    }

    #[test]
    fn what_passes_by_waiting_is_not_told() {
        for (status, reason, count) in [
            (Status::False, reason::PARTIALLY_PROGRAMMED, 0),
            (Status::False, reason::KERNEL_REFUSED, 1),
            (Status::False, reason::UNKNOWN_FORMAT, 1),
            (Status::True, reason::PROGRAMMED, 0),
        ] {
            assert_eq!(alarms(None, Some(&report(PROGRAMMED, status, reason, "x"))).len(), count, "{reason}");
        }
    }
}
