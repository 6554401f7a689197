//! The table of deliberate faults fits the sources, whoever changed them last.
#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use xtask::mutants::faults::FAULTS;

#[test]
fn every_fault_applies_exactly_once_and_changes_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for fault in FAULTS {
        let text = fs::read_to_string(root.join(fault.file)).unwrap();
        let wrong = fault.apply(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(wrong, text, "{}", fault.name);
    }
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.name).collect();
    assert_eq!(names.len(), FAULTS.len());
}
