//! Fields that a newer version of the API has and this one does not know.

use selvage_crds::cluster_network_policy::Other;

use crate::convert::{Issue, Reason};

/// Refuses an entry with a field that is not known here: what it says can't be enforced.
pub(super) fn known(path: &str, other: &Other) -> Result<(), Issue> {
    match other.iter().find(|(_, value)| !value.is_null()) {
        Some((field, _)) => {
            Err(Issue::new(format!("{path}.{field}"), Reason::Unsupported, "the field is not known here"))
        }
        None => Ok(()),
    }
}
