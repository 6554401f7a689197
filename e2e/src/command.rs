//! Running other programs, with their output in the error, and without leaving them behind on Ctrl-C.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The environment variable that marks every process of a bed, with the bed's name.
pub(crate) const MARK: &str = "SELVAGE_BED_MARK";

static BED: OnceLock<String> = OnceLock::new();
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static SHIELDED: AtomicBool = AtomicBool::new(false);
const POLL: Duration = Duration::from_millis(15);

/// What a program printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Whether it ended with 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// Makes every wait of this process end with [`Error::Interrupted`] from now on.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// Runs a clean-up, which is not interrupted: a second Ctrl-C must not leave half of it undone.
pub(crate) fn uninterrupted<T>(clean: impl FnOnce() -> T) -> T {
    SHIELDED.store(true, Ordering::SeqCst);
    let result = clean();
    SHIELDED.store(false, Ordering::SeqCst);
    result
}

pub(crate) fn check_interrupted() -> Result<()> {
    let interrupted = INTERRUPTED.load(Ordering::SeqCst) && !SHIELDED.load(Ordering::SeqCst);
    if interrupted { Err(Error::Interrupted) } else { Ok(()) }
}

/// Marks every process that is started from now on as one of bed `name`, so that a later `down` finds those
/// that this process leaves behind when it is killed.
pub(crate) fn mark(name: &str) {
    // Only the first counts: a process brings up one bed.
    BED.set(name.to_owned()).ok();
}

/// A command from its words.
pub(crate) fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    if let Some(bed) = BED.get() {
        command.env(MARK, bed);
    }
    command
}

/// Runs a command to its end and returns what it printed, whatever its status.
pub fn output(command: &mut Command, input: Option<&[u8]>) -> Result<Output> {
    check_interrupted()?;
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| cannot_start(command, source))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A program that does not read all of its input is judged by its status.
            scope.spawn(move || stdin.write_all(input).ok());
        }
        let stdout = scope.spawn(move || read(stdout));
        let stderr = scope.spawn(move || read(stderr));
        let status = wait(&mut child, command)?;
        Ok(Output {
            status,
            stdout: stdout.join().unwrap_or_default(),
            stderr: stderr.join().unwrap_or_default(),
        })
    })
}

/// Runs a command and returns its standard output; another status than 0 is an error that holds its output.
pub fn run(command: &mut Command) -> Result<String> {
    checked(command, None)
}

/// As [`run`], with something to read on standard input.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<String> {
    checked(command, Some(input))
}

/// Runs a command that reads a file and prints to this process' own output.
pub(crate) fn run_from_file(command: &mut Command, input: File) -> Result<()> {
    check_interrupted()?;
    command.stdin(input);
    let mut child = command.spawn().map_err(|source| cannot_start(command, source))?;
    let status = wait(&mut child, command)?;
    if status.success() { Ok(()) } else { Err(failed(command, status, String::new())) }
}

/// Runs a command on this process' own input and output, and returns its exit status.
pub fn run_here(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|source| cannot_start(command, source))
}

/// Asks again and again until `ready` returns a value; its error is what was seen last.
///
/// # Errors
/// [`Error::TimedOut`] after `seconds`, [`Error::Interrupted`] after [`interrupt`].
pub fn wait_for<T>(what: &str, seconds: u64, ready: impl FnMut() -> Result<T, String>) -> Result<T> {
    wait_while(what, seconds, || Ok(()), ready)
}

/// As [`wait_for`], but there is no more to wait for when `healthy` fails.
pub(crate) fn wait_while<T>(
    what: &str,
    seconds: u64,
    mut healthy: impl FnMut() -> Result<()>,
    mut ready: impl FnMut() -> Result<T, String>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        check_interrupted()?;
        healthy()?;
        match ready() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= Duration::from_secs(seconds) => {
                return Err(Error::TimedOut { what: what.to_owned(), seconds, last });
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn checked(command: &mut Command, input: Option<&[u8]>) -> Result<String> {
    let output = output(command, input)?;
    if output.success() {
        return Ok(output.stdout);
    }
    let text = format!("{}\n{}", output.stdout.trim_end(), output.stderr.trim_end());
    Err(failed(command, output.status, tail(text.trim(), 40)))
}

fn wait(child: &mut std::process::Child, command: &Command) -> Result<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(source) => return Err(cannot_start(command, source)),
        }
        if let Err(error) = check_interrupted() {
            // It may have ended by itself in between: both errors say just that.
            child.kill().ok();
            child.wait().ok();
            return Err(error);
        }
        thread::sleep(POLL);
    }
}

fn read(source: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut source) = source {
        // What was read before an error is still worth showing.
        source.read_to_end(&mut bytes).ok();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn cannot_start(command: &Command, source: std::io::Error) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source }
}

fn failed(command: &Command, status: ExitStatus, output: String) -> Error {
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let command = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Error::Failed { command, status: status.to_string(), output }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}
