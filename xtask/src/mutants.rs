//! Deliberate faults, one at a time, in a copy of the tree: the tests must notice each.
//!
//! The table of faults is in [`faults`]; what came of the last full run is in `docs/mutation.md`.

pub mod faults;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::output;
use faults::{FAULTS, Fault, Suite};

const TABLE: &str = "docs/mutation.md";
/// A fault can make a test go on for ever: that is noticed, too.
const TIME_LIMIT: &str = "900";
/// How many of the tests that notice a fault are named.
const NAMED: usize = 3;

/// What `cargo xtask mutants` takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only faults whose name contains one of these words
    words: Vec<String>,
    /// Write the table to docs/mutation.md
    #[arg(long, conflicts_with = "words")]
    store: bool,
}

/// A copy of the sources, gone with this value.
struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

/// What the tests said.
enum Outcome {
    Passed,
    /// Names of the tests that failed.
    Failed(Vec<String>),
    TimedOut,
    DoesNotCompile(String),
}

/// Tries every fault and prints what noticed it.
///
/// # Errors
/// Where a fault survives, does not apply, or does not compile, and where the tests fail without any.
pub fn run(root: &Path, args: &Args) -> Result<()> {
    let chosen: Vec<&Fault> = FAULTS.iter().filter(|fault| args.chooses(fault)).collect();
    if chosen.is_empty() {
        bail!("no fault has such a name");
    }
    let tree = Tree::copy(root)?;
    let mut rows = String::new();
    let mut survivors = Vec::new();
    let mut tested = None;
    for (index, fault) in chosen.iter().enumerate() {
        if tested != Some(fault.suite) {
            tree.must_pass(fault.suite)?;
            tested = Some(fault.suite);
        }
        eprintln!("{}/{}: {}", index + 1, chosen.len(), fault.name);
        let noticed = match tree.try_fault(fault)? {
            Outcome::Passed => {
                survivors.push(fault.name);
                "**nothing**".to_owned()
            }
            Outcome::Failed(tests) => named(&tests),
            Outcome::TimedOut => format!("a test that does not end within {TIME_LIMIT} s"),
            // A fault that the compiler refuses shows nothing of the tests.
            Outcome::DoesNotCompile(why) => {
                eprintln!("{why}");
                survivors.push(fault.name);
                "**the compiler: to be written anew**".to_owned()
            }
        };
        let row = format!("| {} | `{}` | {noticed} |", fault.name, fault.file);
        println!("{row}");
        writeln!(rows, "{row}")?;
    }
    if args.store {
        fs::write(root.join(TABLE), page(&rows)).context(TABLE)?;
    }
    match survivors.as_slice() {
        [] => Ok(()),
        survivors => bail!("not noticed by any test: {}", survivors.join("; ")),
    }
}

/// The page that holds the table.
fn page(rows: &str) -> String {
    let suites: String =
        [Suite::Policy, Suite::Ruleset].iter().map(|suite| format!("    {suite}\n")).collect();
    format!(
        "# Faults on purpose\n\n\
         Tests that never fail show nothing. `make mutants` puts one fault at a time into a copy of the compiler and the\n\
         renderer, and runs the tests of that half:\n\n{suites}\n\
         Each must fail. Golden rulesets are left out, because they notice every change of the text, wrong or not; the\n\
         tests below notice what the fault does to a packet, a profile or a group. The faults are the table in\n\
         `xtask/src/mutants/faults.rs`; this page is what the last full run printed (`cargo xtask mutants --store`).\n\n\
         | fault | in | noticed by |\n|---|---|---|\n{rows}"
    )
}

fn named(tests: &[String]) -> String {
    let mut text = tests.iter().take(NAMED).map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ");
    if tests.len() > NAMED {
        text.push_str(&format!(" and {} more", tests.len() - NAMED));
    }
    if text.is_empty() { "the test program itself, which ended early".to_owned() } else { text }
}

impl Args {
    fn chooses(&self, fault: &Fault) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| fault.name.contains(word.as_str()))
    }
}

impl Fault {
    /// The file's text with the fault in it.
    ///
    /// # Errors
    /// Where the old text is not there exactly once.
    pub fn apply(&self, text: &str) -> Result<String> {
        match text.matches(self.old).count() {
            1 => Ok(text.replacen(self.old, self.new, 1)),
            count => bail!("{:?}: {} has {count} times, not once:\n{}", self.name, self.file, self.old),
        }
    }
}

impl Tree {
    /// Copies every file that git knows or would take.
    ///
    /// The place is always the same, so that cargo builds into its folder again what the last run built there.
    fn copy(from: &Path) -> Result<Self> {
        let root = crate::cache().join("mutants-tree");
        let mut git = Command::new("git");
        git.current_dir(from).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = output(&mut git)?;
        if root.exists() {
            fs::remove_dir_all(&root).with_context(|| root.display().to_string())?;
        }
        let tree = Self { root, files: listed.split_terminator('\0').map(PathBuf::from).collect() };
        for file in &tree.files {
            let source = from.join(file);
            // Listed still, and deleted.
            if !source.is_file() {
                continue;
            }
            let target = tree.root.join(file);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(&source, &target).with_context(|| source.display().to_string())?;
        }
        Ok(tree)
    }

    /// What the tests say of a fault means nothing where they fail without one.
    fn must_pass(&self, suite: Suite) -> Result<()> {
        eprintln!("without a fault: {suite}");
        match self.test(suite)? {
            Outcome::Passed => Ok(()),
            Outcome::Failed(tests) => bail!("fails without any fault: {suite}: {}", tests.join(", ")),
            Outcome::TimedOut => bail!("takes more than {TIME_LIMIT} s without any fault: {suite}"),
            Outcome::DoesNotCompile(why) => bail!("does not compile without any fault: {suite}\n{why}"),
        }
    }

    fn try_fault(&self, fault: &Fault) -> Result<Outcome> {
        let path = self.root.join(fault.file);
        let right = fs::read_to_string(&path).with_context(|| fault.file.to_owned())?;
        fs::write(&path, fault.apply(&right)?)?;
        let outcome = self.test(fault.suite);
        fs::write(&path, right)?;
        outcome
    }

    fn test(&self, suite: Suite) -> Result<Outcome> {
        let built = self.cargo(suite).arg("--no-run").output().context("starting cargo")?;
        if !built.status.success() {
            return Ok(Outcome::DoesNotCompile(String::from_utf8_lossy(&built.stderr).into_owned()));
        }
        let run = self.cargo(suite).args(["--no-fail-fast", "--"]).args(suite.options()).output();
        let run = run.context("starting cargo")?;
        Ok(match run.status.code() {
            Some(0) => Outcome::Passed,
            Some(124) => Outcome::TimedOut,
            _ => Outcome::Failed(failed(&String::from_utf8_lossy(&run.stdout))),
        })
    }

    fn cargo(&self, suite: Suite) -> Command {
        let mut command = Command::new("timeout");
        command
            .current_dir(&self.root)
            .args(["--kill-after=10", TIME_LIMIT, "cargo", "test"])
            .args(suite.targets())
            .env("CARGO_TARGET_DIR", crate::cache().join("mutants"))
            .env("INSTA_UPDATE", "no")
            // That there is a counterexample is enough; nobody reads it.
            .env("PROPTEST_MAX_SHRINK_ITERS", "0");
        command
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What is left is replaced by the next run.
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// The tests that the test programs say failed.
fn failed(printed: &str) -> Vec<String> {
    let names = printed.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    names.map(str::to_owned).collect()
}
