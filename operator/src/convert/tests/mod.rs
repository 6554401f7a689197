//! What objects mean, row by row. The headings quoted are those of the semantics document.

mod cluster_policy;
mod network_policy;
mod objects;
mod others;
mod ours;
mod random;

use super::{Issue, Reason};

#[test]
fn an_issue_names_its_field_what_is_wrong_and_the_reason() {
    let issue = Issue::new("spec.selector", Reason::InvalidSelector, "column 3: expected ==");
    assert_eq!(issue.to_string(), "spec.selector: column 3: expected == (InvalidSelector)");
}

/// Whoever reads a reason in a condition finds it in the table.
#[test]
fn every_reason_is_explained() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/troubleshooting.md");
    let page = std::fs::read_to_string(page).unwrap();
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/convert/mod.rs");
    let source = std::fs::read_to_string(here).unwrap();
    let named: Vec<&str> =
        source.split("Self::").filter_map(|part| part.split_once(" => \"")?.1.split('"').next()).collect();
    assert!(
        named.contains(&Reason::InvalidCIDR.as_str()) && named.contains(&Reason::HostBitsMasked.as_str())
    );
    for reason in named {
        assert!(page.contains(&format!("| `{reason}` |")), "{reason} is not in docs/troubleshooting.md");
    }
}
