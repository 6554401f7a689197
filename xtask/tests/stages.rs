//! `cargo xtask stages`, over Makefiles that only print and wait.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const NAMES: [&str; 9] = ["fmt", "setup", "images", "cluster", "clippy", "generated", "doc", "deny", "tests"];

/// A tree with nothing but a Makefile.
struct Tree(PathBuf);

impl Tree {
    /// Each stage says its name, and does what is given for it.
    fn new(name: &str, recipes: &[(&str, &str)]) -> Self {
        let folder = std::env::temp_dir().join(format!("slv-stages-{name}-{}", std::process::id()));
        fs::create_dir_all(folder.join("xtask")).unwrap();
        let mut makefile = format!(".PHONY: {}\n", NAMES.join(" "));
        for name in NAMES {
            let recipe = recipes.iter().find(|(of, _)| *of == name).map_or("true", |(_, recipe)| recipe);
            makefile += &format!("{name}:\n\t@echo this is {name}; {recipe}\n");
        }
        fs::write(folder.join("Makefile"), makefile).unwrap();
        Self(folder)
    }

    fn start(&self) -> Child {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.args(["stages", "--built-in", "7"]).env("CARGO_MANIFEST_DIR", self.0.join("xtask"));
        // What the make above this test says to its own children.
        xtask.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
        xtask.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self) -> Output {
        self.start().wait_with_output().unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The names in the closing table with what it says of them.
fn table(text: &str) -> Vec<(String, String)> {
    let closing = text.rsplit_once("---\n").unwrap().1;
    let rows = closing.lines().filter_map(|line| line.strip_prefix("stage "));
    rows.map(|row| {
        let mut words = row.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    })
    .collect()
}

#[test]
fn every_stage_runs_and_is_in_the_closing_table() {
    let tree = Tree::new("good", &[("cluster", "sleep 1; echo the end of the clusters")]);
    let output = tree.run();
    let text = stdout(&output);
    assert!(output.status.success(), "{text}");
    let mut named: Vec<_> = table(&text).into_iter().map(|(name, word)| format!("{name} {word}")).collect();
    named.sort();
    let mut expected: Vec<_> = NAMES.iter().chain(&["programs"]).map(|name| format!("{name} ok")).collect();
    expected.sort();
    assert_eq!(named, expected);
    assert!(text.lines().last().unwrap().starts_with("in all 0 min "), "{text}");
    let together = "this is cluster\nthe end of the clusters\n";
    assert!(text.contains(together), "what the clusters print is not kept together: {text}");
    assert!(text.find("this is tests") < text.find(together), "{text}");
}

#[test]
fn a_stage_that_fails_hides_no_other() {
    for failing in ["cluster", "clippy", "tests"] {
        let tree = Tree::new(failing, &[(failing, "exit 3")]);
        let output = tree.run();
        let text = stdout(&output);
        assert!(!output.status.success(), "{text}");
        let rows = table(&text);
        assert_eq!(rows.len(), NAMES.len() + 1, "{text}");
        for (name, word) in rows {
            assert_eq!(word, if name == failing { "FAILED" } else { "ok" }, "{name} in {text}");
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("these stages failed: {failing}")), "{said}");
    }
}

#[test]
fn without_what_the_others_need_none_of_them_begins() {
    let tree = Tree::new("first", &[("setup", "exit 1")]);
    let output = tree.run();
    let text = stdout(&output);
    assert!(!output.status.success() && !text.contains("this is images"), "{text}");
    let rows = table(&text);
    assert_eq!(rows.last().unwrap(), &("setup".to_owned(), "FAILED".to_owned()));
}

#[test]
fn a_signal_ends_every_stage_with_what_it_started() {
    let wait = |name: &str| format!("echo $$$$ > {name}.pid; exec sleep 300");
    let (cluster, clippy) = (wait("cluster"), wait("clippy"));
    let tree = Tree::new("signal", &[("cluster", &cluster), ("clippy", &clippy)]);
    let xtask = tree.start();
    let sleeps = ["cluster", "clippy"].map(|name| pid_in(&tree.0.join(format!("{name}.pid"))));
    kill(Pid::from_raw(xtask.id().cast_signed()), Signal::SIGTERM).unwrap();
    let output = xtask.wait_with_output().unwrap();
    let text = stdout(&output);
    assert!(!output.status.success() && !text.contains("this is generated"), "{text}");
    for sleep in sleeps {
        assert!(kill(Pid::from_raw(sleep), None).is_err(), "process {sleep} is left");
    }
}

/// The number in a file that a stage writes.
fn pid_in(path: &Path) -> i32 {
    loop {
        if let Ok(pid) = fs::read_to_string(path).unwrap_or_default().trim().parse() {
            return pid;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
