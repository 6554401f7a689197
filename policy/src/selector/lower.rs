//! From what was written to the canonical [`Selector`], for what is chosen.

use std::sync::Arc;

use super::{Expression, Selector};
use crate::model::given;

/// What a selector of our own kinds chooses: it decides which labels are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// Pods, and the NetworkSets that the same text chooses.
    PodsAndSets,
    /// Namespaces.
    Namespaces,
    /// Service accounts.
    ServiceAccounts,
    /// Nodes.
    Nodes,
}

/// Under which names the labels that are given can be asked for.
const PREFIXES: [&str; 2] = ["projectcalico.org/", "selvage.io/"];

impl Expression {
    /// The canonical form. `global()` in it chooses nothing: the caller refuses it where it has no meaning.
    pub fn lower(&self, chosen: Chosen) -> Selector {
        let key = |label: &Arc<str>| chosen.key(label);
        match self {
            Self::All => Selector::All,
            Self::Global => Selector::nothing(),
            Self::Has(label) => Selector::exists(key(label)),
            Self::Equals(label, value) => Selector::equals(key(label), value.clone()),
            Self::Differs(label, value) => Selector::without(key(label), [value.clone()]),
            Self::In(label, values) => Selector::within(key(label), values.iter().cloned()),
            Self::NotIn(label, values) => Selector::without(key(label), values.iter().cloned()),
            Self::Text(label, test, text) => Selector::text(key(label), *test, text.clone()),
            Self::Not(inner) => inner.lower(chosen).negate(),
            Self::And(parts) => Selector::all_of(parts.iter().map(|part| part.lower(chosen))),
            Self::Or(parts) => Selector::any_of(parts.iter().map(|part| part.lower(chosen))),
        }
    }
}

impl Chosen {
    /// The key that a label is asked under.
    fn key(self, label: &Arc<str>) -> Arc<str> {
        let name = PREFIXES.iter().find_map(|prefix| label.strip_prefix(prefix));
        let given = match (self, name) {
            (Self::PodsAndSets, Some("namespace")) => given::NAMESPACE,
            (Self::PodsAndSets, Some("serviceaccount")) => given::SERVICE_ACCOUNT,
            (Self::PodsAndSets, Some("orchestrator")) => given::ORCHESTRATOR,
            (Self::Namespaces | Self::ServiceAccounts, Some("name")) => given::NAME,
            _ => return label.clone(),
        };
        given.into()
    }
}
