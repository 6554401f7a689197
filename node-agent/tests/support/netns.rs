//! Network namespaces of the tests' own.

use std::fs::File;
use std::future::Future;
use std::process::Command;

use nix::sched::{CloneFlags, setns};

/// A network namespace, removed with the test.
pub struct Netns(String);

impl Netns {
    /// Makes `slv-<name>-<pid>`. Needs root and iproute2, and says so.
    pub fn new(name: &str) -> Self {
        let name = format!("slv-{name}-{}", std::process::id());
        let netns = Self(name.clone());
        run("ip", &["netns", "add", &name]);
        netns.ip(&["link", "set", "lo", "up"]);
        netns
    }

    /// Runs `ip` inside.
    pub fn ip(&self, args: &[&str]) -> String {
        let mut all = vec!["-n", &*self.0];
        all.extend(args);
        run("ip", &all)
    }

    /// Runs a program inside.
    pub fn exec(&self, program: &str, args: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &*self.0, program];
        all.extend(args);
        run("ip", &all)
    }

    /// Runs a test on a thread inside, with a runtime of its own.
    pub fn block_on<F: Future<Output = ()>>(&self, test: impl FnOnce() -> F + Send) {
        let path = format!("/run/netns/{}", self.0);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(&path).expect("the namespace's file");
                setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace (needs root)");
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(test());
                runtime.shutdown_background();
            });
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed (Debian package iproute2 or nftables): {e}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {stderr} (these tests need root)");
    stdout.into_owned()
}
