//! Samples in processes of their own, and the lines that come of them.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use selvage_policy::engine::Engine;
use selvage_policy::model::Change;

use crate::{Scale, Scenario};

/// How often each cluster is compiled.
const SAMPLES: usize = 3;

/// How many changes of one kind are timed in each sample.
const TURNS: u32 = 101;

/// Objects that are made at once, before they are applied.
const LOT: usize = 1_000;

/// The argument that asks for one sample, before the places of a scenario and a scale.
const SAMPLE: &str = "--sample";

/// A cluster that stands, and what was measured on the way.
pub struct Run {
    engine: Engine,
    seen: Vec<Seen>,
}

struct Seen {
    what: String,
    unit: &'static str,
    value: u128,
}

impl Run {
    /// A cluster from nothing: the time that the engine takes for all objects and one flush, and the memory that it then holds
    /// and held at most.
    pub fn compile(mut objects: impl Iterator<Item = Change>) -> Self {
        let before = memory("VmRSS:");
        let mut engine = Engine::new();
        let mut spent = Duration::ZERO;
        loop {
            let lot: Vec<Change> = objects.by_ref().take(LOT).collect();
            if lot.is_empty() {
                break;
            }
            let start = Instant::now();
            lot.into_iter().for_each(|change| engine.apply(change));
            spent += start.elapsed();
        }
        let start = Instant::now();
        let delta = engine.flush();
        spent += start.elapsed();
        let most = memory("VmHWM:");
        drop(black_box(delta));
        let held = memory("VmRSS:");
        let bytes =
            |what: &str, value: u128| Seen { what: what.into(), unit: "bytes", value: value - before };
        let time = Seen { what: "compile".into(), unit: "ns", value: spent.as_nanos() };
        let seen = vec![time, bytes("resident", held), bytes("resident at most", most)];
        Self { engine, seen }
    }

    /// More objects, which are not measured.
    pub fn grow(&mut self, objects: impl IntoIterator<Item = Change>) {
        objects.into_iter().for_each(|change| self.engine.apply(change));
        self.engine.flush();
    }

    /// One change and a flush, the median of many; `of` makes each, by its number.
    pub fn change(&mut self, what: &str, of: impl Fn(u32) -> Change) {
        let mut turns: Vec<u128> = (1..=TURNS)
            .map(|turn| {
                let change = of(turn);
                let start = Instant::now();
                self.engine.apply(change);
                let delta = self.engine.flush();
                let spent = start.elapsed();
                assert!(!black_box(delta).is_empty(), "{what}: nothing changed");
                spent.as_nanos()
            })
            .collect();
        self.seen.push(Seen { what: what.into(), unit: "ns", value: median(&mut turns) });
    }
}

/// As the process that was asked for one sample, or as the one that asks.
pub fn main(scenarios: &[Scenario], scales: &[Scale]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [sample, scenario, scale] = &arguments[..]
        && sample == SAMPLE
    {
        let place = |text: &str| text.parse::<usize>().unwrap_or(usize::MAX);
        let (Some((_, run)), Some(scale)) = (scenarios.get(place(scenario)), scales.get(place(scale))) else {
            return ExitCode::FAILURE;
        };
        let run = run(*scale);
        for Seen { what, unit, value } in &run.seen {
            println!("{value}\t{unit}\t{what}");
        }
        // The kernel takes it all back at once.
        std::mem::forget(run.engine);
        return ExitCode::SUCCESS;
    }
    // What cargo and criterion's benchmarks know has no meaning here.
    let words: Vec<String> = arguments.into_iter().filter(|word| !word.starts_with('-')).collect();
    let mut failed = false;
    for (place, (name, _)) in scenarios.iter().enumerate() {
        for (scale_place, scale) in scales.iter().enumerate() {
            let name = format!("{name}/{}", scale.name);
            if words.is_empty() || words.iter().any(|word| name.contains(word)) {
                failed |= !samples(&name, place, scale_place);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Takes all samples of one cluster and prints their medians; false where one failed.
fn samples(name: &str, scenario: usize, scale: usize) -> bool {
    let mut seen: BTreeMap<(String, String), Vec<u128>> = BTreeMap::new();
    for _ in 0..SAMPLES {
        let Ok(program) = std::env::current_exe() else { return false };
        let mut sample = Command::new(program);
        let Ok(output) = sample.args([SAMPLE, &scenario.to_string(), &scale.to_string()]).output() else {
            return false;
        };
        if !output.status.success() {
            eprintln!("{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
            return false;
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut parts = line.splitn(3, '\t');
            if let (Some(Ok(value)), Some(unit), Some(what)) =
                (parts.next().map(str::parse), parts.next(), parts.next())
            {
                seen.entry((what.into(), unit.into())).or_default().push(value);
            }
        }
    }
    for ((what, unit), values) in &mut seen {
        let value = median(values);
        println!(r#"{{"bench":"{name}/{what}","unit":"{unit}","value":{value}}}"#);
    }
    true
}

fn median(values: &mut [u128]) -> u128 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// What the kernel says of this process's memory, in bytes.
fn memory(field: &str) -> u128 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse().ok());
    1024 * kibibytes.unwrap_or(0)
}
