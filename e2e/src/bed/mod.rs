//! A bed: a cluster of machines, each a few namespaces of this host, and what can be done to them.

mod backup;
mod control_plane;
mod down;
mod flannel;
pub(crate) mod init;
pub(crate) mod layout;
mod limits;
mod logs;
mod machine;
mod mounts;
mod network;
mod node;
mod pki;
mod protocol;
mod up;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use layout::{CONTROL_PLANE, Layout};
use machine::Machine;

pub use down::down;
pub use layout::{Backend, POD_NETWORKS, SERVICE_NETWORKS, Spec};
pub use limits::{beds_that_fit, raise};
pub use protocol::ComponentState;
pub use up::up;

use crate::command::{Output, command, output, run};
use crate::error::{Error, Result};
use crate::setup::Tools;

/// flanneld's name in [`Bed::restart`]: it is a pod, not a component of the machine.
const FLANNELD: &str = "flanneld";

/// A bed that is up.
#[derive(Debug, Clone)]
pub struct Bed {
    layout: Layout,
    spec: Spec,
    tools: Tools,
}

/// How a machine is.
#[derive(Debug, Clone)]
pub struct MachineState {
    /// `cp` for the control plane, or the node's name.
    pub name: String,
    /// Its addresses in the underlay.
    pub addresses: (Ipv4Addr, Ipv6Addr),
    /// The pid of its process 1 in this host's numbering; none when it is stopped.
    pub pid: Option<u32>,
    /// Its components.
    pub components: Vec<ComponentState>,
}

impl Bed {
    /// The bed of that name, which must have been brought up.
    pub fn open(name: &str) -> Result<Self> {
        let layout = Layout::new(name)?;
        let (spec, tools) = (layout.read(&layout.spec())?, layout.read(&layout.tools())?);
        Ok(Self { layout, spec, tools })
    }

    /// The names of all beds that are up or have left something.
    pub fn names() -> Result<Vec<String>> {
        Layout::existing()
    }

    /// What the bed consists of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The programs it was made with.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The administrator's kubeconfig; it works from this host.
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig("admin")
    }

    /// A folder of the bed's, removed with it, for the caches of clients.
    pub(crate) fn client_cache(&self) -> PathBuf {
        self.layout.root().join("client-cache")
    }

    /// Where each component's log is: `MACHINE.COMPONENT.log`, and those of a node's pods below `NODE.var-log/pods`.
    pub fn logs(&self) -> PathBuf {
        self.layout.logs()
    }

    /// What pods' programs asked the API server for, one audit event a line: Kubernetes' own and flannel's left out.
    pub fn audit_log(&self) -> PathBuf {
        self.layout.audit_log()
    }

    /// The last lines of every log, pods included, for a failure whose cause may be in any of them.
    pub fn log_tails(&self, lines: usize) -> String {
        logs::tails(&self.logs(), lines)
    }

    /// A node's addresses.
    pub fn node_addresses(&self, node: &str) -> Result<(Ipv4Addr, Ipv6Addr)> {
        self.node(node).map(|machine| layout::underlay(&machine.name))
    }

    /// The address of the API server for nodes and pods on the host network; the port is 6443.
    pub fn api_server_address(&self) -> Ipv4Addr {
        layout::underlay(CONTROL_PLANE).0
    }

    /// A command in all namespaces of a node.
    pub fn node_command(&self, node: &str, words: &[impl AsRef<str>]) -> Result<Command> {
        self.node(node)?.command(words)
    }

    /// Runs a command in all namespaces of a node, whatever its status.
    pub fn node_exec(&self, node: &str, words: &[impl AsRef<str>]) -> Result<Output> {
        output(&mut self.node_command(node, words)?, None)
    }

    /// A command of this host in the control plane's network namespace: a client that is neither a node nor a
    /// pod, at the first address of the nodes' network.
    pub fn outside_command(&self, words: &[impl AsRef<str>]) -> Result<Command> {
        self.machine(CONTROL_PLANE).network_command(words)
    }

    /// Runs a command as [`Bed::outside_command`], whatever its status.
    pub fn outside_exec(&self, words: &[impl AsRef<str>]) -> Result<Output> {
        output(&mut self.outside_command(words)?, None)
    }

    /// Cuts a node's power: its processes, interfaces and rules are gone, its disk stays.
    pub fn stop_node(&self, node: &str) -> Result<()> {
        self.node(node)?.kill()
    }

    /// Boots a stopped node; it is Ready some seconds later.
    pub fn start_node(&self, node: &str) -> Result<()> {
        let machine = self.node(node)?;
        if machine.pid().is_some() {
            return Err(Error::other(format!("node {node} is running")));
        }
        up::boot_node(&self.machine(CONTROL_PLANE), &machine)?;
        up::start_node_services(&machine, &self.tools)
    }

    /// Stops and starts a node.
    pub fn restart_node(&self, node: &str) -> Result<()> {
        self.stop_node(node)?;
        self.start_node(node)
    }

    /// Parts a node from all others and from the API server; its interface stays up.
    pub fn cut_node(&self, node: &str) -> Result<()> {
        network::cut(&self.machine(CONTROL_PLANE), &self.node(node)?.name)
    }

    /// Undoes [`Bed::cut_node`].
    pub fn heal_node(&self, node: &str) -> Result<()> {
        network::heal(&self.machine(CONTROL_PLANE), &self.node(node)?.name)
    }

    /// Kills the API server; it refuses connections from then on.
    pub fn stop_api_server(&self) -> Result<()> {
        self.machine(CONTROL_PLANE).stop_component(control_plane::API_SERVER, 0)
    }

    /// Starts a stopped API server and waits until it is ready.
    ///
    /// The controller manager and the scheduler are started anew with it. Where they elect a leader they end when the API
    /// server is away for ten seconds, and so they do on most clusters; here they would go on, and ask again after a
    /// back-off of up to a minute.
    pub fn start_api_server(&self) -> Result<()> {
        let machine = self.machine(CONTROL_PLANE);
        machine.start_component_again(control_plane::API_SERVER)?;
        up::wait_for_api_server(&machine, &self.tools)?;
        control_plane::CONTROLLERS.iter().try_for_each(|name| self.restart(CONTROL_PLANE, name))
    }

    /// Stops and starts the API server.
    pub fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server()?;
        self.start_api_server()
    }

    /// Restarts one component of a machine (`cp`, or a node): etcd, kube-controller-manager, kube-scheduler,
    /// kube-apiserver; containerd, kubelet, kube-proxy, flanneld.
    pub fn restart(&self, machine: &str, component: &str) -> Result<()> {
        if component == FLANNELD {
            let node = self.node(machine)?.name;
            let selector = format!("--field-selector=spec.nodeName={node}");
            let pods = ["-n", "kube-flannel", "delete", "pod", "-l", "app=flannel", &selector];
            run(&mut self.kubectl(&pods))?;
            let status =
                ["-n", "kube-flannel", "rollout", "status", "daemonset/kube-flannel-ds", "--timeout=60s"];
            return run(&mut self.kubectl(&status)).map(drop);
        }
        let machine =
            if machine == CONTROL_PLANE { self.machine(CONTROL_PLANE) } else { self.node(machine)? };
        machine.stop_component(component, 10)?;
        machine.start_component_again(component)
    }

    /// Imports a docker-archive or an OCI archive into every running node.
    pub fn load_image(&self, archive: &Path) -> Result<()> {
        for node in self.spec.node_names() {
            let machine = self.node(&node)?;
            if machine.pid().is_some() {
                node::import(&machine, archive)?;
            }
        }
        Ok(())
    }

    /// How every machine and component is.
    pub fn status(&self) -> Vec<MachineState> {
        let names = std::iter::once(CONTROL_PLANE.to_owned()).chain(self.spec.node_names());
        let state = |name: String| {
            let machine = self.machine(&name);
            let pid = machine.pid();
            let components = machine.components().ok().filter(|_| pid.is_some()).unwrap_or_default();
            MachineState { addresses: layout::underlay(&name), name, pid, components }
        };
        names.map(state).collect()
    }

    fn kubectl(&self, args: &[&str]) -> Command {
        let mut kubectl = command(self.tools.kubernetes.join("kubectl"), args);
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.client_cache());
        kubectl
    }

    fn node(&self, name: &str) -> Result<Machine> {
        let names = self.spec.node_names();
        if names.iter().any(|known| known == name) {
            return Ok(self.machine(name));
        }
        Err(Error::other(format!("there is no node {name}; there are {}", names.join(", "))))
    }

    fn machine(&self, name: &str) -> Machine {
        Machine::new(&self.layout, name)
    }
}
