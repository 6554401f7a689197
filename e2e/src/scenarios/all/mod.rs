//! Everything, on beds of its own: what `make test` runs.
//!
//! Scenarios wait more than they work, so that lanes run side by side, each a process with a bed of its own. Every line of
//! theirs is printed as it comes, with the lane before it; the closing lines tell of all.

mod lane;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::Context;
use clap::{Args, ValueEnum};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use selvage_e2e::{Backend, beds_that_fit, wait_for};

use crate::Outcome;
use crate::product::Images;
use lane::{LANES, Lane};

/// How many lanes run side by side at most: what two cores and 8 GiB of memory can bear beside compilers.
const AT_ONCE: usize = 3;

/// Which lanes are run.
#[derive(Debug, Args)]
pub struct Choice {
    /// How flannel moves packets between nodes.
    #[arg(long, value_enum, default_value = "both")]
    backend: Backends,
    /// One lane alone.
    #[arg(long, value_parser = LANES.map(|lane| lane.name))]
    lane: Option<String>,
    /// One lane in this process, whose outcomes go to its report.
    #[arg(long, hide = true)]
    here: Option<String>,
}

/// How flannel moves packets in the beds.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Backends {
    Vxlan,
    HostGw,
    Both,
}

impl Backends {
    fn has(self, backend: Backend) -> bool {
        match self {
            Self::Vxlan => backend == Backend::Vxlan,
            Self::HostGw => backend == Backend::HostGw,
            Self::Both => true,
        }
    }
}

/// Runs all scenarios; each bed is taken down whatever happens.
pub fn run(choice: &Choice, images: &Images) -> anyhow::Result<ExitCode> {
    if let Some(name) = &choice.here {
        let lane = LANES.iter().find(|lane| lane.name == name);
        return lane.with_context(|| format!("--here: there is no {name}"))?.run(images);
    }
    let chosen = LANES.iter().filter(|lane| {
        choice.backend.has(lane.backend) && choice.lane.as_ref().is_none_or(|name| name == lane.name)
    });
    // Asked now: a cargo that runs beside this links its programs anew, and a file that was replaced has no path.
    let program = env::current_exe()?;
    let waiting = Mutex::new(chosen);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> anyhow::Result<Vec<Outcome>> {
        let mut outcomes = Vec::new();
        while let Some(lane) = next() {
            outcomes.extend(apart(&program, lane)?);
        }
        Ok(outcomes)
    };
    // The tests of the bed itself bring one up beside these.
    let at_once = beds_that_fit(lane::NODES, 1)?.clamp(1, AT_ONCE);
    let ended: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    let mut outcomes = Vec::new();
    for end in ended {
        outcomes.extend(end.map_err(|_| anyhow::anyhow!("a lane's thread panicked"))??);
    }
    outcomes.sort_by_key(|outcome| LANES.iter().position(|lane| lane.name == outcome.place));
    Ok(crate::summary(&outcomes))
}

/// Runs a lane in a process of its own, for a process marks all that it starts as one bed's.
///
/// # Errors
/// On Ctrl-C, once the lane has taken its bed down.
fn apart(program: &Path, lane: &Lane) -> anyhow::Result<Vec<Outcome>> {
    let report = lane.report();
    match fs::remove_file(&report) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).with_context(|| report.display().to_string());
        }
        _ => {}
    }
    let start = Instant::now();
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1)).args(["--here", lane.name]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("a lane can't be started")?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ended = thread::scope(|scope| {
        scope.spawn(|| lines(stdout, |line| println!("{:<7} | {line}", lane.name)));
        scope.spawn(|| lines(stderr, |line| eprintln!("{:<7} | {line}", lane.name)));
        end(&mut child)
    })?;
    let read =
        fs::read(&report).map_err(anyhow::Error::from).and_then(|text| Ok(serde_json::from_slice(&text)?));
    let mut outcomes: Vec<Outcome> = read.unwrap_or_default();
    if outcomes.iter().all(|outcome| outcome.failed.is_none()) && !ended.success() {
        outcomes.push(Outcome::of(
            lane.name,
            "the lane",
            start,
            Err(anyhow::anyhow!("it ended with {ended}")),
        ));
    }
    Ok(outcomes)
}

/// Waits for a lane's end. Ctrl-C reaches it from a terminal by itself, but not what another program sends to this one.
fn end(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let ended = wait_for("a lane to end", u64::MAX, || match child.try_wait() {
        Ok(Some(status)) => Ok(Ok(status)),
        Ok(None) => Err(String::new()),
        Err(error) => Ok(Err(error)),
    });
    match ended {
        Ok(status) => Ok(status?),
        Err(interrupted) => {
            // Not waited for yet, so the pid is still its own.
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).ok();
            child.wait()?;
            Err(interrupted.into())
        }
    }
}

fn lines(source: Option<impl Read>, print: impl Fn(&str)) {
    let Some(source) = source else { return };
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    // What a lane printed before an error is still worth showing.
    while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        print(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        line.clear();
    }
}
