//! Selectors in one line of text, as our own kinds have them.

use selvage_policy::selector::{Chosen, Expression, Selector};

use super::{Issue, Reason};

/// What a peer's `namespaceSelector` says.
pub(super) enum NamespaceSelector {
    /// Namespaces.
    Namespaces(Selector),
    /// `global()`: the GlobalNetworkSets.
    Global,
}

/// Reads a selector; None where it is not set, which a blank one is not either, or can't be read.
pub(super) fn selector(
    path: &str,
    text: Option<&str>,
    chosen: Chosen,
    issues: &mut Vec<Issue>,
) -> Option<Selector> {
    let expression = parse(path, text, issues)?;
    if expression.names_global() {
        let why = "global() has a meaning as the whole of a peer's namespaceSelector alone";
        issues.push(Issue::new(path, Reason::InvalidSelector, why));
        return None;
    }
    Some(expression.lower(chosen))
}

/// Reads a peer's `namespaceSelector`, in which `global()` may stand, alone; None as [`selector`].
pub(super) fn namespace_selector(
    path: &str,
    text: Option<&str>,
    issues: &mut Vec<Issue>,
) -> Option<NamespaceSelector> {
    match parse(path, text, &mut Vec::new()) {
        Some(Expression::Global) => Some(NamespaceSelector::Global),
        _ => selector(path, text, Chosen::Namespaces, issues).map(NamespaceSelector::Namespaces),
    }
}

fn parse(path: &str, text: Option<&str>, issues: &mut Vec<Issue>) -> Option<Expression> {
    Expression::parse(text?).unwrap_or_else(|error| {
        issues.push(Issue::new(path, Reason::InvalidSelector, error.to_string()));
        None
    })
}
