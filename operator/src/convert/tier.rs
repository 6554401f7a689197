//! selvage.io Tier.

use std::sync::Arc;

use selvage_crds::Tier;
use selvage_policy::compiled::Action;
use selvage_policy::model::{self, Order};

use super::result::Read;
use super::{Issue, Reason};

/// Reads a Tier; None for an object without name, which no API server hands out.
pub fn tier(object: &Tier) -> Option<(Arc<str>, Read<model::Tier>)> {
    let name = object.metadata.name.as_deref()?.into();
    let mut issues = Vec::new();
    let default_action = match object.spec.default_action.as_deref() {
        None | Some("Deny") => Action::Deny,
        Some("Pass") => Action::Pass,
        Some(other) => {
            let message = format!("{other:?} is neither Deny nor Pass: it is read as Deny");
            issues.push(Issue::new("spec.defaultAction", Reason::InvalidAction, message));
            Action::Deny
        }
    };
    let tier = model::Tier { order: object.spec.order.and_then(Order::new), default_action };
    Some((name, Read::new(&object.metadata, Some(tier), issues)))
}
