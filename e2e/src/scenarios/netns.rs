//! Sockets of this program's own in a pod's network namespace, on the test bed.
//!
//! What happens within milliseconds, or over minutes, can't be seen through `kubectl exec`. A socket stays in the
//! namespace it was made in, whichever thread uses it.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use selvage_e2e::{Cluster, wait_for};
use serde_json::Value;

use crate::pods;
use crate::probe::Seen;

/// How long an attempt to connect waits: longer than the second after which TCP sends its first packet again.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Where libcni keeps its results.
const RESULTS: &str = "var/lib/cni/results";

/// A pod's network namespace.
#[derive(Debug, Clone)]
pub struct PodNet {
    file: Arc<File>,
    /// The pod's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
}

impl PodNet {
    /// The namespace of a pod that has its addresses.
    pub fn of(cluster: &Cluster, namespace: &str, pod: &str) -> anyhow::Result<Self> {
        let object = cluster.kubectl_json(&["get", "pod", "--namespace", namespace, pod])?;
        let uid = object["metadata"]["uid"].as_str().context("a pod without uid")?;
        let node = object["spec"]["nodeName"].as_str().context("a pod without node")?;
        let path = path(&node_root(cluster, node)?, uid)?
            .with_context(|| format!("libcni on {node} has no result for {namespace}/{pod}"))?;
        let file = File::open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { file: Arc::new(file), addresses: pods::addresses(cluster, namespace, pod)? })
    }

    /// A namespace by its file, of a pod whose addresses are not known yet.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self { file: Arc::new(file), addresses: Vec::new() })
    }

    /// The pod's address of a family.
    pub fn address(&self, ipv6: bool) -> anyhow::Result<IpAddr> {
        let found = self.addresses.iter().find(|address| address.is_ipv6() == ipv6).copied();
        found.context("the pod has no address of that family")
    }

    /// Does something in the namespace, on a thread of its own.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let in_there = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            work()
        };
        thread::scope(|scope| scope.spawn(in_there).join())
            .unwrap_or_else(|_| Err(io::Error::other("a thread in a pod's namespace panicked")))
    }

    /// Does something in the namespace, on a thread of its own that goes on.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> JoinHandle<io::Result<T>> {
        let file = Arc::clone(&self.file);
        thread::spawn(move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// A UDP socket for both families.
    pub fn udp(&self, port: u16) -> io::Result<UdpSocket> {
        self.run(|| UdpSocket::bind(("::", port)))
    }

    /// A TCP listener for both families.
    pub fn listen(&self, port: u16) -> io::Result<TcpListener> {
        self.run(|| TcpListener::bind(("::", port)))
    }

    /// One attempt to connect.
    pub fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.run(|| TcpStream::connect_timeout(&to, PATIENCE))
    }

    /// One attempt after the other until one succeeds.
    pub fn connect_within(&self, to: SocketAddr, seconds: u64) -> anyhow::Result<TcpStream> {
        let what = format!("a connection to {to}");
        Ok(wait_for(&what, seconds, || self.connect(to).map_err(|error| error.to_string()))?)
    }

    /// One attempt, and what came of it.
    pub fn attempt(&self, to: SocketAddr) -> anyhow::Result<Seen> {
        match self.connect(to) {
            Ok(_) => Ok(Seen::Answered),
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => Ok(Seen::TimedOut),
                io::ErrorKind::ConnectionRefused => Ok(Seen::Refused),
                _ => bail!("{to}: {error}"),
            },
        }
    }

    /// As [`PodNet::attempt`], again and again for `seconds` until it is as expected; what was seen last.
    pub fn attempt_until(&self, to: SocketAddr, expected: Seen, seconds: u64) -> anyhow::Result<Seen> {
        let start = Instant::now();
        loop {
            let seen = self.attempt(to)?;
            if seen == expected || start.elapsed() >= Duration::from_secs(seconds) {
                return Ok(seen);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// One attempt that must find nobody who answers.
    pub fn connect_in_vain(&self, to: SocketAddr) -> anyhow::Result<()> {
        match self.attempt(to)? {
            Seen::TimedOut => Ok(()),
            seen => bail!("{to}: {}, where silence was expected", seen.word()),
        }
    }
}

/// An address as a socket that serves both families wants it.
pub fn both_families(address: IpAddr, port: u16) -> SocketAddr {
    match address {
        IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), port),
        IpAddr::V6(_) => SocketAddr::new(address, port),
    }
}

/// A node's files, as seen from this host.
pub fn node_root(cluster: &Cluster, node: &str) -> anyhow::Result<PathBuf> {
    let machines = cluster.require_bed()?.status();
    let machine = machines.into_iter().find(|machine| machine.name == node);
    let pid = machine.and_then(|machine| machine.pid).with_context(|| format!("node {node} does not run"))?;
    Ok(PathBuf::from(format!("/proc/{pid}/root")))
}

/// The namespace file of the pod with that uid, if libcni has a result for it.
pub fn path(node_root: &Path, uid: &str) -> anyhow::Result<Option<PathBuf>> {
    let folder = node_root.join(RESULTS);
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        // A result may go, or be half written, while this reads.
        let Ok(text) = entry.and_then(|entry| fs::read(entry.path())) else { continue };
        let Ok(result) = serde_json::from_slice::<Value>(&text) else { continue };
        let args = result["cniArgs"].as_array().map(Vec::as_slice).unwrap_or_default();
        if !args.iter().any(|pair| pair[0] == "K8S_POD_UID" && pair[1] == *uid) {
            continue;
        }
        let interfaces = result["result"]["interfaces"].as_array().map(Vec::as_slice).unwrap_or_default();
        if result["ifName"] != "eth0" {
            continue;
        }
        let sandbox = interfaces.iter().find_map(|interface| interface["sandbox"].as_str());
        // /var/run is an absolute link, which would lead out of the node.
        let inside = sandbox.map(|path| path.replacen("/var/run/", "/run/", 1));
        return Ok(inside.map(|path| node_root.join(path.trim_start_matches('/'))));
    }
    Ok(None)
}
