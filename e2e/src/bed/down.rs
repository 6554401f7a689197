//! Taking a bed down, whatever state it is in.

use super::layout::{CONTROL_PLANE, Layout};
use super::machine::Machine;
use crate::cache::remove_if_there;
use crate::command::uninterrupted;
use crate::error::Result;
use crate::process;

/// Ends every process of bed `name` and removes everything it had but for its logs. None there is as good.
pub fn down(name: &str) -> Result<()> {
    let layout = Layout::new(name)?;
    let lock = layout.lock()?;
    clear(&layout)?;
    layout.unlock(lock)
}

/// As [`down`], for the holder of the lock.
pub(super) fn clear(layout: &Layout) -> Result<()> {
    uninterrupted(|| remove_all(layout))
}

fn remove_all(layout: &Layout) -> Result<()> {
    let nodes = (1..=9).map(|number| format!("n{number}"));
    let names = nodes.chain([CONTROL_PLANE.to_owned()]);
    let machines: Vec<Machine> = names.map(|name| Machine::new(layout, &name)).collect();
    for machine in &machines {
        process::kill_recorded(&layout.pid_file(&machine.name))?;
    }
    // What was started and not recorded yet when its parent was killed.
    process::kill_marked(&layout.name)?;
    for machine in &machines {
        machine.remove_cgroups()?;
    }
    remove_if_there(&layout.root())
}
