//! Where a bed keeps its files, and what it is called.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cache;
use crate::error::{At, Error, Result};

/// The folder of all beds. Every node sees its own `/var/lib`, in which this one is bound again.
pub(super) const BEDS: &str = "/var/lib/selvage-bed";
/// The machine of the control plane.
pub const CONTROL_PLANE: &str = "cp";

/// The pod networks, IPv4 and IPv6: every node gets a /24 and a /64.
pub const POD_NETWORKS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
/// The networks of Services, IPv4 and IPv6.
pub const SERVICE_NETWORKS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];

/// How flannel moves packets between nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// In UDP datagrams.
    Vxlan,
    /// By routes to the other nodes.
    HostGw,
}

/// What a bed consists of; kept in its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The bed's name: lower case letters, digits and dashes, at most 20.
    pub name: String,
    /// How many nodes: n1, n2, ...
    pub nodes: u8,
    /// How flannel moves packets.
    pub backend: Backend,
}

/// A bed's names and folders.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) name: String,
}

impl Backend {
    /// Its name in flannel's configuration.
    pub fn flannel_name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::HostGw => "host-gw",
        }
    }
}

impl Spec {
    /// The nodes' names.
    pub fn node_names(&self) -> Vec<String> {
        (1..=self.nodes).map(|number| format!("n{number}")).collect()
    }

    /// Checks what the names and addresses rely on.
    pub(crate) fn check(&self) -> Result<()> {
        if !(1..=9).contains(&self.nodes) {
            return Err(Error::other(format!("--nodes: {} is not between 1 and 9", self.nodes)));
        }
        Layout::new(&self.name).map(drop)
    }
}

/// A machine's addresses in the underlay: .1 and ::1 for the control plane, .13 and ::13 for node n3.
pub(crate) fn underlay(machine: &str) -> (Ipv4Addr, Ipv6Addr) {
    let number = machine.strip_prefix('n').and_then(|number| number.parse::<u8>().ok());
    let (v4, v6) = match number {
        Some(number) => (10_u8.saturating_add(number), 0x10 + u16::from(number)),
        None => (1, 1),
    };
    (Ipv4Addr::new(172, 31, 250, v4), Ipv6Addr::new(0xfd00, 0x172, 0x31, 0x250, 0, 0, 0, v6))
}

impl Layout {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 20 || !name.chars().all(allowed) {
            let wanted = "a bed's name has 1 to 20 lower case letters, digits and dashes";
            return Err(Error::other(format!("{name:?}: {wanted}")));
        }
        Ok(Self { name: name.to_owned() })
    }

    /// The beds that have a folder.
    pub(crate) fn existing() -> Result<Vec<String>> {
        let mut names = Vec::new();
        let Ok(entries) = fs::read_dir(BEDS) else { return Ok(names) };
        for entry in entries {
            let entry = entry.at(BEDS)?;
            if entry.path().is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    pub(crate) fn root(&self) -> PathBuf {
        Path::new(BEDS).join(&self.name)
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.root().join("spec.json")
    }

    /// The programs that the bed was made with, as JSON.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root().join("tools.json")
    }

    /// A copy of selvage-bed, for process 1 of each machine: the original may be built again meanwhile.
    pub(crate) fn program(&self) -> PathBuf {
        self.root().join("selvage-bed")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.root().join("pki")
    }

    /// A kubeconfig: `admin` reaches the API server from this machine, the others from inside the bed.
    pub(crate) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.root().join(format!("{user}.kubeconfig"))
    }

    /// What a machine keeps when it is stopped.
    pub(crate) fn machine(&self, machine: &str) -> PathBuf {
        self.root().join("machines").join(machine)
    }

    pub(crate) fn socket(&self, machine: &str) -> PathBuf {
        self.root().join(format!("{machine}.sock"))
    }

    pub(crate) fn pid_file(&self, machine: &str) -> PathBuf {
        self.root().join(format!("{machine}.pid"))
    }

    /// The port of 127.0.0.1 that leads to the API server.
    pub(crate) fn port_file(&self) -> PathBuf {
        self.root().join("port")
    }

    /// A node's `/var/log`, with the logs of its pods.
    pub(crate) fn var_log(&self, machine: &str) -> PathBuf {
        self.logs().join(format!("{machine}.var-log"))
    }

    /// What pods' programs asked the API server, one JSON object a line.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.jsonl")
    }

    /// The logs: outside of the bed's folder, so that they are still there after a failed `up`.
    pub(crate) fn logs(&self) -> PathBuf {
        cache::root().join("logs").join(&self.name)
    }

    /// The cgroup of a node's pods, in every controller.
    pub(crate) fn cgroup(&self, machine: &str) -> String {
        format!("selvage-{}-{machine}", self.name)
    }

    /// Held while the bed is brought up or down; it ends with the process.
    pub(crate) fn lock(&self) -> Result<File> {
        fs::create_dir_all(BEDS).at(BEDS)?;
        let path = self.lock_file();
        let file = File::create(&path).at(&path)?;
        let locked = file.try_lock().is_ok();
        // The holder removes the file before it ends: then this is a lock on nothing.
        let same =
            fs::metadata(&path).is_ok_and(|now| file.metadata().is_ok_and(|own| own.ino() == now.ino()));
        if locked && same {
            return Ok(file);
        }
        Err(Error::other(format!(
            "another selvage-bed is working on {}; end it (Ctrl-C) or wait for it",
            self.name
        )))
    }

    /// Ends [`Layout::lock`] and removes its file, while it is locked: nobody must lock a file that is about to go.
    pub(crate) fn unlock(&self, lock: File) -> Result<()> {
        fs::remove_file(self.lock_file()).at(self.lock_file())?;
        drop(lock);
        // Not empty as long as there is another bed.
        fs::remove_dir(BEDS).ok();
        Ok(())
    }

    fn lock_file(&self) -> PathBuf {
        Path::new(BEDS).join(format!("{}.lock", self.name))
    }

    /// What [`Layout::spec`] and [`Layout::tools`] hold.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<T> {
        let text = fs::read(path).map_err(|_| {
            Error::other(format!("there is no bed {}: make one with `selvage-bed up --name {0}`", self.name))
        })?;
        serde_json::from_slice(&text).map_err(|error| Error::other(format!("{}: {error}", path.display())))
    }

    pub(crate) fn write(&self, path: &Path, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec_pretty(value).map_err(|error| Error::other(error.to_string()))?;
        fs::write(path, text).at(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "A", "a b", "a-name-of-more-than-20"] {
            assert!(Layout::new(name).is_err(), "{name:?}");
        }
        assert!(Layout::new("demo-2").is_ok());
    }

    #[test]
    fn no_two_machines_share_an_address() {
        let spec = Spec { name: "demo".into(), nodes: 9, backend: Backend::Vxlan };
        let mut seen = std::collections::BTreeSet::from([underlay(CONTROL_PLANE)]);
        assert!(spec.node_names().iter().all(|name| seen.insert(underlay(name))));
        let n3: (Ipv4Addr, Ipv6Addr) =
            ("172.31.250.13".parse().unwrap(), "fd00:172:31:250::13".parse().unwrap());
        assert_eq!(underlay("n3"), n3);
    }
}
