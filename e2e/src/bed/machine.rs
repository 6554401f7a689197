//! Machines, as seen from outside: made, asked and ended.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::layout::Layout;
use super::protocol::{Component, ComponentState, Reply, Request};
use crate::command::{command, run, wait_for};
use crate::error::{At, Error, Result};
use crate::process;

/// Every cgroup v1 controller, and the two trees without one, in which the kubelet wants its root.
const CGROUPS: &str = "/sys/fs/cgroup";

/// One machine of a bed: the control plane, or a node.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(super) layout: Layout,
    pub(super) name: String,
}

impl Machine {
    pub(super) fn new(layout: &Layout, name: &str) -> Self {
        Self { layout: layout.clone(), name: name.to_owned() }
    }

    /// Starts the machine's process 1 and waits until it answers.
    pub(super) fn start(&self) -> Result<()> {
        run(&mut command(self.layout.program(), ["machine", "start", &self.layout.name, &self.name]))?;
        wait_for(&format!("machine {}", self.name), 10, || {
            if self.pid().is_none() {
                return Err(format!("it ended; see {}", self.log("").display()));
            }
            self.components().map_err(|error| error.to_string())
        })
        .map(drop)
    }

    /// Kills the machine, as a power cut does; what it had on disk stays.
    pub(super) fn kill(&self) -> Result<()> {
        process::kill_recorded(&self.layout.pid_file(&self.name))?;
        self.remove_cgroups()
    }

    /// The pid of process 1, as seen from here, if the machine runs.
    pub(super) fn pid(&self) -> Option<u32> {
        process::recorded(&self.layout.pid_file(&self.name))
    }

    /// A command inside all of the machine's namespaces.
    pub(super) fn command(&self, words: &[impl AsRef<str>]) -> Result<Command> {
        self.enter(&["-m", "-u", "-n", "-p"], words)
    }

    /// A command of the host in the machine's network namespace alone.
    pub(super) fn network_command(&self, words: &[impl AsRef<str>]) -> Result<Command> {
        self.enter(&["-n"], words)
    }

    fn enter(&self, namespaces: &[&str], words: &[impl AsRef<str>]) -> Result<Command> {
        let pid = self.pid().ok_or_else(|| Error::other(format!("machine {} is not running", self.name)))?;
        let mut enter = command("nsenter", ["--target", &pid.to_string()]);
        enter.args(namespaces).arg("--").args(words.iter().map(AsRef::as_ref));
        Ok(enter)
    }

    /// The log of a component; of the machine itself with an empty name.
    pub(super) fn log(&self, component: &str) -> PathBuf {
        let separator = if component.is_empty() { "" } else { "." };
        self.layout.logs().join(format!("{}{separator}{component}.log", self.name))
    }

    pub(super) fn start_component(
        &self,
        name: &str,
        program: impl Into<PathBuf>,
        args: Vec<String>,
    ) -> Result<()> {
        let component =
            Component { name: name.to_owned(), program: program.into(), args, log: self.log(name) };
        self.ask(&Request::Start(component)).map(drop)
    }

    pub(super) fn stop_component(&self, name: &str, grace: u64) -> Result<()> {
        self.ask(&Request::Stop { name: name.to_owned(), grace }).map(drop)
    }

    pub(super) fn start_component_again(&self, name: &str) -> Result<()> {
        self.ask(&Request::StartAgain { name: name.to_owned() }).map(drop)
    }

    pub(super) fn components(&self) -> Result<Vec<ComponentState>> {
        match self.ask(&Request::List)? {
            Reply::List(list) => Ok(list),
            _ => Err(Error::other("the machine did not list its components")),
        }
    }

    /// Fails when one of the components has ended.
    pub(super) fn check_components(&self) -> Result<()> {
        let ended = self.components()?.into_iter().find_map(|state| state.ended.map(|how| (state.name, how)));
        match ended {
            Some((name, how)) => Err(Error::other(format!("{name} of {} ended: {how}", self.name))),
            None => Ok(()),
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply> {
        let socket = self.layout.socket(&self.name);
        let talk = || -> std::io::Result<String> {
            let mut stream = UnixStream::connect(&socket)?;
            writeln!(stream, "{}", serde_json::to_string(request)?)?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok(line)
        };
        let line = talk().at(&socket)?;
        match serde_json::from_str(&line) {
            Ok(Reply::Refused(why)) => Err(Error::other(format!("{}: {why}", self.name))),
            Ok(reply) => Ok(reply),
            Err(error) => Err(Error::other(format!("{}: unreadable reply: {error}", self.name))),
        }
    }

    /// Makes the cgroup of a node's pods in every controller.
    pub(super) fn make_cgroups(&self) -> Result<()> {
        for tree in cgroup_trees()? {
            let group = tree.join(self.layout.cgroup(&self.name));
            fs::create_dir_all(&group).at(&group)?;
            // A new cpuset is empty, and nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(all) = fs::read(tree.join(file)) {
                    fs::write(group.join(file), all).at(group.join(file))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove_cgroups(&self) -> Result<()> {
        for tree in cgroup_trees()? {
            let group = tree.join(self.layout.cgroup(&self.name));
            // The dead processes leave their cgroups one by one.
            wait_for(&format!("{} to be empty", group.display()), 20, || {
                remove_cgroup(&group).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }
}

fn remove_cgroup(group: &Path) -> std::io::Result<()> {
    if !group.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn cgroup_trees() -> Result<Vec<PathBuf>> {
    if !Path::new(CGROUPS).join("cpuset").is_dir() {
        return Err(Error::other(format!(
            "{CGROUPS} has no cpuset folder: the test bed needs the cgroup v1 hierarchy of a machine of our kind"
        )));
    }
    let mut trees = Vec::new();
    for entry in fs::read_dir(CGROUPS).at(CGROUPS)? {
        let entry = entry.at(CGROUPS)?;
        // `cpu,cpuacct` has links to it under both names.
        if entry.file_type().at(CGROUPS)?.is_dir() {
            trees.push(entry.path());
        }
    }
    Ok(trees)
}
