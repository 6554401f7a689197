//! Kubernetes label selectors.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use selvage_policy::selector::Selector;

use super::{Issue, Reason};

/// What to do with a value that no label can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// It is read literally: `In` finds nothing by it and `NotIn` leaves nothing out. The API server lets old
    /// NetworkPolicies keep such values.
    Literal,
    /// The selector can't be read.
    Checked,
}

/// Reads a label selector; an empty one is every object.
pub(super) fn selector(path: &str, given: &LabelSelector, values: Values) -> Result<Selector, Issue> {
    let mut terms = Vec::new();
    for (key, value) in given.match_labels.iter().flatten() {
        let path = format!("{path}.matchLabels");
        check(&path, key, [value], values)?;
        terms.push(Selector::equals(key.as_str(), value.as_str()));
    }
    for (index, requirement) in given.match_expressions.iter().flatten().enumerate() {
        terms.push(term(&format!("{path}.matchExpressions[{index}]"), requirement, values)?);
    }
    Ok(Selector::all_of(terms))
}

fn term(path: &str, requirement: &LabelSelectorRequirement, checked: Values) -> Result<Selector, Issue> {
    check(&format!("{path}.key"), &requirement.key, [], checked)?;
    let key: Arc<str> = requirement.key.as_str().into();
    let given = requirement.values.iter().flatten();
    let values: BTreeSet<Arc<str>> = given.clone().map(|value| value.as_str().into()).collect();
    let wants_values = match requirement.operator.as_str() {
        "In" | "NotIn" => true,
        "Exists" | "DoesNotExist" => false,
        other => return Err(unreadable(&format!("{path}.operator"), &format!("{other:?} is no operator"))),
    };
    let values_path = format!("{path}.values");
    if wants_values == values.is_empty() {
        let wanted = if wants_values { "needs values" } else { "takes no values" };
        return Err(unreadable(&values_path, &format!("{} {wanted}", requirement.operator)));
    }
    check(&values_path, &requirement.key, given, checked)?;
    Ok(match requirement.operator.as_str() {
        "In" => Selector::within(key, values),
        "NotIn" => Selector::without(key, values),
        "Exists" => Selector::exists(key),
        _ => Selector::absent(key),
    })
}

/// Refuses what can't be a label's key: the labels that Selvage gives have such keys, and nobody but our own selectors
/// may ask for them.
fn check<'a>(
    path: &str,
    key: &str,
    values: impl IntoIterator<Item = &'a String>,
    checked: Values,
) -> Result<(), Issue> {
    if !is_key(key) {
        return Err(unreadable(path, &format!("{key:?} can't be a label's key")));
    }
    let wrong = |value: &&String| !(value.is_empty() || is_name(value));
    match values.into_iter().find(wrong).filter(|_| checked == Values::Checked) {
        Some(value) => Err(unreadable(path, &format!("{value:?} can't be a label's value"))),
        None => Ok(()),
    }
}

/// A qualified name: a name, and before it, with a slash, a DNS subdomain (RFC 1123) or nothing.
fn is_key(key: &str) -> bool {
    let Some((prefix, name)) = key.split_once('/') else { return is_name(key) };
    let part = |part: &str| {
        let inner = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
    };
    prefix.len() <= 253 && prefix.split('.').all(part) && is_name(name)
}

/// The name in a label's key, or its value: letters and digits at both ends, and `-`, `_` and `.` between them.
fn is_name(text: &str) -> bool {
    let alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && alphanumeric(bytes.first())
        && alphanumeric(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn unreadable(path: &str, why: &str) -> Issue {
    Issue::new(path, Reason::InvalidSelector, format!("{why}: the selector can't be read"))
}
