//! Which policies use an object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Policies that use an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyUses {
    /// How many.
    pub count: u32,
    /// The first of them, as `Kind name` or `Kind namespace/name`, at most ten.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_POLICIES), inner(length(max = 512)))]
    pub names: Vec<String>,
}

/// How many policies [`PolicyUses::names`] names at most.
pub const MAX_POLICIES: usize = 10;

impl PolicyUses {
    /// All of them counted, and the first [`MAX_POLICIES`] named.
    pub fn new(policies: impl IntoIterator<Item = String>) -> Self {
        let mut uses = Self::default();
        for policy in policies {
            uses.count = uses.count.saturating_add(1);
            if uses.names.len() < MAX_POLICIES {
                uses.names.push(policy);
            }
        }
        uses
    }
}
