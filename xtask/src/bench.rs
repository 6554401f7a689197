//! Benchmarks as JSON lines, each beside its stored baseline.
//!
//! Most benchmarks are criterion's, which measures; this reads the medians it wrote. The others measure themselves, in
//! time or in memory, and print the same lines. A ratio above 1 is slower or larger than the baseline. The baseline was
//! taken on one machine and says little about another: what counts is both in one run, or the ratios among lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::command::output;

/// Medians by benchmark, one JSON object a line.
const BASELINE: &str = "docs/bench-baseline.jsonl";

/// What `cargo xtask bench` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Store what was measured as the new baseline
    #[arg(long)]
    store: bool,
}

/// What a benchmark came to.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    value: f64,
    /// `ns` or `bytes`.
    unit: String,
}

/// Runs every benchmark and prints what came of it.
///
/// # Errors
/// A benchmark that does not run, or results that can't be read.
pub fn run_all(root: &Path, args: &Args) -> Result<()> {
    let start = SystemTime::now();
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args([
        "bench",
        "--quiet",
        "--package",
        "selvage-policy",
        "--package",
        "selvage-nftables",
    ]);
    // The benchmarks alone: a library built for them takes other arguments.
    let printed = output(cargo.args(["--bench", "*", "--", "--quiet"]))?;
    let mut measured = medians(&target(root).join("criterion"), start)?;
    if measured.is_empty() {
        bail!("criterion wrote no results");
    }
    for line in printed.lines().filter(|line| line.starts_with('{')) {
        let (bench, value) = parse(line).with_context(|| format!("a benchmark printed {line}"))?;
        measured.insert(bench, value);
    }
    let baseline = baseline(&root.join(BASELINE))?;
    for (bench, measured) in &measured {
        let mut line = line(bench, measured);
        if let Some(before) = baseline.get(bench).filter(|before| before.unit == measured.unit) {
            line["baseline"] = json!(before.value);
            line["ratio"] = json!((measured.value / before.value * 1000.0).round() / 1000.0);
        }
        println!("{line}");
    }
    if args.store {
        let lines = measured.iter().map(|(bench, measured)| format!("{}\n", line(bench, measured)));
        fs::write(root.join(BASELINE), lines.collect::<String>()).context(BASELINE)?;
    }
    Ok(())
}

fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The medians below a folder of criterion's that were written after `start`.
fn medians(folder: &Path, start: SystemTime) -> Result<BTreeMap<String, Measured>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        let estimates = path.join("estimates.json");
        let fresh = fs::metadata(&estimates).and_then(|data| data.modified()).is_ok_and(|time| time >= start);
        if path.file_name().is_some_and(|name| name == "new") && fresh {
            let id = read(&path.join("benchmark.json"))?;
            let id = id["full_id"].as_str().context("a benchmark without an id")?.to_owned();
            let median = read(&estimates)?["median"]["point_estimate"].as_f64();
            let value = median.context("a benchmark without a median")?;
            found.insert(id, Measured { value, unit: "ns".into() });
        } else {
            found.extend(medians(&path, start)?);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn baseline(path: &Path) -> Result<BTreeMap<String, Measured>> {
    let Ok(text) = fs::read_to_string(path) else { return Ok(BTreeMap::new()) };
    text.lines().map(|line| parse(line).with_context(|| path.display().to_string())).collect()
}

fn line(bench: &str, Measured { value, unit }: &Measured) -> Value {
    json!({ "bench": bench, "value": value, "unit": unit })
}

fn parse(line: &str) -> Result<(String, Measured)> {
    let line: Value = serde_json::from_str(line)?;
    let bench = line["bench"].as_str().context("a line without a name")?.to_owned();
    let value = line["value"].as_f64().context("a line without a value")?;
    let unit = line["unit"].as_str().context("a line without a unit")?.to_owned();
    Ok((bench, Measured { value, unit }))
}
