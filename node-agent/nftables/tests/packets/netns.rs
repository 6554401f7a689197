//! Network namespaces without names: each is held by a file descriptor, so that the kernel removes it, with its
//! interfaces, rules and connections, as soon as the test lets go, also when it panics or is killed.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns, unshare};

/// One network namespace.
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new, empty namespace with its loopback up.
    pub fn new() -> Self {
        let file = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("prerequisite missing: root, to make network namespaces");
            File::open("/proc/thread-self/ns/net")
                .expect("prerequisite missing: /proc with network namespaces")
        });
        let namespace = Self { file };
        namespace.ip(&["link set lo up".to_owned()]);
        namespace
    }

    /// Runs `f` on a thread inside the namespace; sockets opened there stay in it.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
            f()
        })
    }

    /// Runs lines of `ip` inside the namespace, stopping at the first that fails.
    pub fn ip(&self, lines: &[String]) {
        self.command("ip", &["-batch", "-"], &lines.join("\n"));
    }

    /// Loads nftables text inside the namespace: for tables that are not ours, as kube-proxy makes them.
    pub fn nft(&self, text: &str) {
        self.command("nft", &["-f", "-"], text);
    }

    /// Runs a program inside the namespace and gives what it printed.
    pub fn command(&self, program: &str, arguments: &[&str], input: &str) -> String {
        self.run(|| {
            let mut child = Command::new(program)
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("prerequisite missing: the program {program}: {error}"));
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(
                output.status.success(),
                "{program} {arguments:?} failed: {}\n{input}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        })
    }

    /// Sets a sysctl of the namespace, named by its path below /proc/sys/net.
    pub fn sysctl(&self, path: &str, value: &str) {
        let file = PathBuf::from("/proc/sys/net").join(path);
        self.run(|| std::fs::write(&file, value))
            .unwrap_or_else(|error| panic!("prerequisite missing: writable {}: {error}", file.display()));
    }

    /// A path by which other processes can open the namespace while it lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }
}

/// Entering a namespace changes the thread for good, so each such thing runs on a thread of its own.
fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(f).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
