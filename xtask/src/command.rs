//! Running other programs.

use std::ffi::OsStr;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs a program and returns its standard output; where it fails, the error holds what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("starting {program}"))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).with_context(|| format!("{program} printed no text"));
    }
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    bail!(
        "{program} {}: {}\n{}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    )
}
