//! Kubernetes label selectors.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use selvage_policy::selector::Selector;

use super::{Issue, Reason};

/// Reads a label selector; an empty one is every object.
///
/// A value that no label can have is read literally: `In` finds nothing by it and `NotIn` leaves nothing out.
pub(super) fn selector(path: &str, given: &LabelSelector) -> Result<Selector, Issue> {
    let mut terms = Vec::new();
    for (key, value) in given.match_labels.iter().flatten() {
        if key.is_empty() {
            return Err(unreadable(&format!("{path}.matchLabels"), "a key is empty"));
        }
        terms.push(Selector::equals(key.as_str(), value.as_str()));
    }
    for (index, requirement) in given.match_expressions.iter().flatten().enumerate() {
        terms.push(term(&format!("{path}.matchExpressions[{index}]"), requirement)?);
    }
    Ok(Selector::all_of(terms))
}

fn term(path: &str, requirement: &LabelSelectorRequirement) -> Result<Selector, Issue> {
    if requirement.key.is_empty() {
        return Err(unreadable(&format!("{path}.key"), "the key is empty"));
    }
    let key: Arc<str> = requirement.key.as_str().into();
    let values: BTreeSet<Arc<str>> =
        requirement.values.iter().flatten().map(|value| value.as_str().into()).collect();
    let wants_values = match requirement.operator.as_str() {
        "In" | "NotIn" => true,
        "Exists" | "DoesNotExist" => false,
        other => return Err(unreadable(&format!("{path}.operator"), &format!("{other:?} is no operator"))),
    };
    if wants_values == values.is_empty() {
        let wanted = if wants_values { "needs values" } else { "takes no values" };
        return Err(unreadable(&format!("{path}.values"), &format!("{} {wanted}", requirement.operator)));
    }
    Ok(match requirement.operator.as_str() {
        "In" => Selector::within(key, values),
        "NotIn" => Selector::without(key, values),
        "Exists" => Selector::exists(key),
        _ => Selector::absent(key),
    })
}

fn unreadable(path: &str, why: &str) -> Issue {
    Issue::new(path, Reason::InvalidSelector, format!("{why}: the selector can't be read"))
}
