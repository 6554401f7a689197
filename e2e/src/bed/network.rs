//! The underlay: a bridge in the control plane's network namespace, and a cable from it to every node.
//! Interfaces are made inside the namespaces, so the host never has one.

use super::layout::{CONTROL_PLANE, underlay};
use super::machine::Machine;
use crate::command::{run_with_input, wait_for};
use crate::error::{Error, Result};

const BRIDGE: &str = "underlay";

/// Prepares the control plane's end.
pub(super) fn control_plane(machine: &Machine) -> Result<()> {
    let (v4, v6) = underlay(CONTROL_PLANE);
    ip(
        machine,
        &format!(
            "link set lo up
link add {BRIDGE} type bridge
address add {v4}/24 dev {BRIDGE}
address add {v6}/64 dev {BRIDGE} nodad
link set {BRIDGE} up"
        ),
    )
}

/// Lays a node's cable: `eth0` in the node, an interface with the node's name on the bridge.
pub(super) fn connect(control_plane: &Machine, node: &Machine) -> Result<()> {
    let name = &node.name;
    let (v4, v6) = underlay(name);
    let (gateway4, gateway6) = underlay(CONTROL_PLANE);
    let pid = node.pid().ok_or_else(|| Error::other(format!("machine {name} is not running")))?;
    // The cable of a node that was just stopped goes a moment after the node.
    wait_for(&format!("the cable of {name}"), 20, || {
        ip(control_plane, &format!("link add {name} type veth peer name eth0 netns {pid}"))
            .map_err(|error| error.to_string())
    })?;
    heal(control_plane, name)?;
    ip(
        node,
        &format!(
            "link set lo up
address add {v4}/24 dev eth0
address add {v6}/64 dev eth0 nodad
link set eth0 up
route add default via {gateway4}
route add ::/0 via {gateway6}"
        ),
    )
}

/// Takes a node's cable out of the switch: the node notices nothing but that nobody answers.
pub(super) fn cut(control_plane: &Machine, node: &str) -> Result<()> {
    ip(control_plane, &format!("link set {node} nomaster"))
}

/// Undoes [`cut`].
pub(super) fn heal(control_plane: &Machine, node: &str) -> Result<()> {
    ip(control_plane, &format!("link set {node} master {BRIDGE} up"))
}

fn ip(machine: &Machine, lines: &str) -> Result<()> {
    let mut command = machine.network_command(&["ip", "-batch", "-"])?;
    run_with_input(&mut command, lines.as_bytes()).map(drop)
}
