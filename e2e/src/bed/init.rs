//! Process 1 of a machine: its mounts, its components, and the way from this machine to the API server.
//!
//! A machine is a network, mount, UTS and pid namespace that live exactly as long as this process: the kernel
//! ends everything in a pid namespace with its process 1, and the other namespaces, with their mounts and
//! interfaces, go with the last process in them. So nothing has to be undone one by one, whenever the bed dies.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname, setsid};

use super::layout::{CONTROL_PLANE, Layout, underlay};
use super::mounts;
use super::protocol::{Component, ComponentState, Reply, Request};
use crate::command::MARK;
use crate::error::{At, Error, Result};
use crate::process;

/// The components by name.
type Table = Arc<Mutex<BTreeMap<String, Running>>>;

struct Running {
    component: Component,
    pid: Pid,
    ended: Option<String>,
}

/// Makes a machine and leaves its process 1 behind. Must be called in a process of one thread.
pub(crate) fn start(layout: &Layout, machine: &str) -> Result<()> {
    let program = std::env::current_exe().at("/proc/self/exe")?;
    let log = layout.logs().join(format!("{machine}.log"));
    let log = OpenOptions::new().create(true).append(true).open(&log).at(&log)?;
    let mut init = Command::new(program);
    init.args(["machine", "init", &layout.name, machine]).env(MARK, &layout.name);
    init.stdout(log.try_clone().at("log")?).stderr(log).stdin(Stdio::null());
    if machine == CONTROL_PLANE {
        // Bound here, so that it listens in this network namespace; accepted from in the machine's.
        let listener = TcpListener::bind("127.0.0.1:0").at("127.0.0.1")?;
        let port = listener.local_addr().at("127.0.0.1")?.port();
        fs::write(layout.port_file(), port.to_string()).at(layout.port_file())?;
        init.stdin(OwnedFd::from(listener));
    }
    unshare_into(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID)?;
    let mut child = init.spawn().at("/proc/self/exe")?;
    process::record(&layout.pid_file(machine), child.id()).map_err(|error| match child.try_wait() {
        Ok(Some(status)) => Error::other(format!("process 1 of {machine} ended at once: {status}")),
        _ => error,
    })
}

/// Process 1: prepares the machine, then answers and reaps until it is killed.
pub(crate) fn init(layout: &Layout, machine: &str) -> Result<()> {
    // Here and not in its parent, which still needs the host's /proc.
    unshare_into(CloneFlags::CLONE_NEWNS)?;
    setsid().map_err(|errno| Error::other(format!("setsid: {errno}")))?;
    sethostname(machine).map_err(|errno| Error::other(format!("sethostname: {errno}")))?;
    if machine == CONTROL_PLANE {
        mounts::control_plane()?;
        let gate = io::stdin().as_fd().try_clone_to_owned().at("stdin")?;
        thread::spawn(move || gate_keeper(&TcpListener::from(gate)));
    } else {
        mounts::node(layout, machine)?;
    }
    let table = Table::default();
    let socket = layout.socket(machine);
    // Left by an earlier life of this machine.
    fs::remove_file(&socket).ok();
    let listener = UnixListener::bind(&socket).at(&socket)?;
    let answering = Arc::clone(&table);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let table = Arc::clone(&answering);
            thread::spawn(move || answer(stream, &table));
        }
    });
    reap(&table)
}

fn unshare_into(namespaces: CloneFlags) -> Result<()> {
    unshare(namespaces).map_err(|errno| Error::other(format!("unshare: {errno} (root is needed)")))
}

fn reap(table: &Table) -> ! {
    loop {
        let status = match waitpid(None, None) {
            Ok(status) => status,
            Err(Errno::EINTR) => continue,
            Err(_) => {
                // No children yet.
                thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        let (pid, how) = match status {
            WaitStatus::Exited(pid, code) => (pid, format!("exit status {code}")),
            WaitStatus::Signaled(pid, signal, _) => (pid, signal.to_string()),
            _ => continue,
        };
        // Components are entered under the same lock in which they are started: none is missed.
        if let Some(running) = lock(table).values_mut().find(|running| running.pid == pid) {
            running.ended = Some(how);
        }
    }
}

fn answer(stream: UnixStream, table: &Table) {
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    let reply = match stream.read_line(&mut line).map(|_| serde_json::from_str(&line)) {
        Ok(Ok(Request::Start(component))) => start_component(component, table),
        Ok(Ok(Request::StartAgain { name })) => {
            let known = lock(table).get(&name).map(|running| running.component.clone());
            known.map_or_else(|| unknown(&name), |component| start_component(component, table))
        }
        Ok(Ok(Request::Stop { name, grace })) => stop_component(&name, grace, table),
        Ok(Ok(Request::List)) => Reply::List(list(table)),
        Ok(Err(error)) => Reply::Refused(error.to_string()),
        Err(error) => Reply::Refused(error.to_string()),
    };
    if let Ok(reply) = serde_json::to_string(&reply) {
        // Who asked may have gone away.
        writeln!(stream.into_inner(), "{reply}").ok();
    }
}

fn unknown(name: &str) -> Reply {
    Reply::Refused(format!("there is no component {name}"))
}

fn start_component(component: Component, table: &Table) -> Reply {
    let mut table = lock(table);
    if table.get(&component.name).is_some_and(|running| running.ended.is_none()) {
        return Reply::Refused(format!("{} is running already", component.name));
    }
    let spawn = || -> io::Result<u32> {
        let log = OpenOptions::new().create(true).append(true).open(&component.log)?;
        let mut command = Command::new(&component.program);
        command.args(&component.args).process_group(0).stdin(Stdio::null());
        Ok(command.stdout(log.try_clone()?).stderr(log).spawn()?.id())
    };
    match spawn() {
        Ok(pid) => {
            let pid = Pid::from_raw(pid.cast_signed());
            table.insert(component.name.clone(), Running { component, pid, ended: None });
            Reply::Done
        }
        Err(error) => Reply::Refused(format!("{}: {error}", component.program.display())),
    }
}

fn stop_component(name: &str, grace: u64, table: &Table) -> Reply {
    let start = Instant::now();
    loop {
        {
            let table = lock(table);
            let Some(running) = table.get(name) else {
                return unknown(name);
            };
            if running.ended.is_some() {
                return Reply::Done;
            }
            let late = start.elapsed() >= Duration::from_secs(grace);
            // Not reaped yet, so the pid is still its own. Asking twice does no harm.
            kill(running.pid, if late { Signal::SIGKILL } else { Signal::SIGTERM }).ok();
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn list(table: &Table) -> Vec<ComponentState> {
    let state = |(name, running): (&String, &Running)| ComponentState {
        name: name.clone(),
        ended: running.ended.clone(),
    };
    lock(table).iter().map(state).collect()
}

/// Takes connections that were made to this machine's loopback to the API server, so that clients need no
/// interface, route or namespace to reach it.
fn gate_keeper(listener: &TcpListener) {
    let server = (underlay(CONTROL_PLANE).0, 6443);
    for client in listener.incoming().flatten() {
        thread::spawn(move || -> io::Result<()> {
            let server = TcpStream::connect(server)?;
            let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
            thread::spawn(move || carry(from_client, to_server));
            carry(server, client);
            Ok(())
        });
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    // A connection that breaks is over, whichever side broke it.
    io::copy(&mut from, &mut to).ok();
    to.shutdown(Shutdown::Write).ok();
    from.shutdown(Shutdown::Read).ok();
}

fn lock<T>(table: &Mutex<T>) -> MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}
