//! The ends of logs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::tail;

/// The last lines of every file below a folder.
pub(super) fn tails(folder: &Path, lines: usize) -> String {
    let mut text = String::new();
    for log in files(folder) {
        let content = fs::read(&log).unwrap_or_default();
        let end = tail(String::from_utf8_lossy(&content).trim_end(), lines);
        if !end.is_empty() {
            text.push_str(&format!("--- {}\n{end}\n", log.display()));
        }
    }
    text
}

/// Files by name; links, of which the kubelet makes some to the same logs, are not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    found.sort();
    found
}
