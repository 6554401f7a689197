//! `make test`: its stages, each a target of the Makefile, and how long each took.
//!
//! The clusters wait more than they work, and compilers and tests work: they run side by side. What the clusters print is
//! kept together and follows when all have ended.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What the others need, in this order; a failure ends the run.
const FIRST: [&str; 3] = ["fmt", "setup", "images"];
/// What runs beside [`REST`].
const BESIDE: &str = "cluster";
/// One after the other, whatever became of those before.
const REST: [&str; 5] = ["clippy", "generated", "doc", "deny", "tests"];
/// Tells the Makefile that the programs of this tree are built: another cargo would wait for the one that is building.
const BUILT: &str = "SELVAGE_PROGRAMS_BUILT";

/// What came before.
#[derive(clap::Args)]
pub struct Args {
    /// The seconds that it took to build this program and those of the test bed
    #[arg(long, default_value_t = 0)]
    built_in: u64,
}

/// How a stage ended.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    took: Duration,
    ok: bool,
}

/// The process groups of the stages that run; none once they were asked to end.
type Running = Arc<Mutex<Option<BTreeSet<i32>>>>;

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.ok { "ok" } else { "FAILED" };
        write!(f, "stage {:<10} {word:<7} {:7.1} s", self.name, self.took.as_secs_f64())
    }
}

/// Runs every stage.
///
/// # Errors
/// Where a stage failed, after the table of all; and on Ctrl-C, once what ran has ended.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let start = Instant::now();
    let running = Running::new(Mutex::new(Some(BTreeSet::new())));
    let asked = Arc::clone(&running);
    ctrlc::set_handler(move || end_all(&asked)).context("signal handler")?;
    let built = Duration::from_secs(args.built_in);
    let mut outcomes = vec![Outcome { name: "programs", took: built, ok: true }];
    let carry_out = |name, output: Option<&Path>| stage(root, name, output, &running);
    for name in FIRST {
        let outcome = carry_out(name, None)?;
        let ok = outcome.ok;
        outcomes.push(outcome);
        if !ok {
            return close(&outcomes, built + start.elapsed());
        }
    }
    let log = root.join("out/stages").join(format!("{BESIDE}.log"));
    println!("stage {BESIDE} begins beside the next ones; what it prints is in {} until then", log.display());
    let beside = thread::scope(|scope| {
        let beside = scope.spawn(|| carry_out(BESIDE, Some(&log)));
        let mut rest = Ok(());
        for name in REST {
            match carry_out(name, None) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => rest = Err(error),
            }
        }
        let beside = beside.join().map_err(|_| anyhow::anyhow!("the thread of {BESIDE} panicked"))?;
        rest.and(beside)
    });
    show(&log)?;
    outcomes.push(beside?);
    close(&outcomes, built + start.elapsed())
}

/// Runs one stage in a process group of its own, and waits for its end.
fn stage(root: &Path, name: &'static str, output: Option<&Path>, running: &Running) -> Result<Outcome> {
    let start = Instant::now();
    let mut make = Command::new("make");
    make.current_dir(root).args(["--no-print-directory", name]).env(BUILT, "1").stdin(Stdio::null());
    make.process_group(0);
    if let Some(path) = output {
        let file = create(path)?;
        make.stdout(file.try_clone()?).stderr(file);
    } else {
        println!("stage {name}");
    }
    let (mut child, group) = {
        let mut groups = lock(running);
        let Some(groups) = groups.as_mut() else { bail!("interrupted") };
        let child = make.spawn().context("make can't be started")?;
        let group = child.id().cast_signed();
        groups.insert(group);
        (child, group)
    };
    let status = child.wait().with_context(|| format!("waiting for {name}"))?;
    match lock(running).as_mut() {
        Some(groups) => groups.remove(&group),
        None => bail!("interrupted"),
    };
    let outcome = Outcome { name, took: start.elapsed(), ok: status.success() };
    println!("{outcome}");
    Ok(outcome)
}

/// Asks every stage to end, with all that it started, and lets none begin.
fn end_all(running: &Running) {
    for group in lock(running).take().into_iter().flatten() {
        // It may have ended by itself meanwhile.
        killpg(Pid::from_raw(group), Signal::SIGINT).ok();
    }
}

/// The table, and an error where not all is good.
fn close(outcomes: &[Outcome], all: Duration) -> Result<()> {
    println!("---");
    for outcome in outcomes {
        println!("{outcome}");
    }
    let seconds = all.as_secs();
    println!("in all {} min {} s", seconds / 60, seconds % 60);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.ok).map(|outcome| outcome.name).collect();
    if failed.is_empty() { Ok(()) } else { bail!("these stages failed: {}", failed.join(", ")) }
}

fn show(log: &Path) -> Result<()> {
    let context = || log.display().to_string();
    let mut text = File::open(log).with_context(context)?;
    let mut out = io::stdout().lock();
    io::copy(&mut text, &mut out).with_context(context)?;
    out.flush().context("standard output")
}

fn create(path: &Path) -> Result<File> {
    let folder = path.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    File::create(path).with_context(|| format!("writing {}", path.display()))
}

fn lock(running: &Running) -> MutexGuard<'_, Option<BTreeSet<i32>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}
