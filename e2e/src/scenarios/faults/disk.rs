//! A node's disk that is full, and one that can't be written.

use anyhow::ensure;

use super::agent::{other_rules, replace_agents};
use super::{SPACE, World, signal_agent};
use crate::product;
use crate::status;

/// The agent writes to no disk, but its log goes to one, and the CNI results that it reads lie on one.
pub fn full(world: &World<'_>) -> anyhow::Result<()> {
    let near = &world.scene.near;
    on_node(world, "mount -t tmpfs -o size=128k,mode=755 tmpfs /var/log/pods")?;
    let logs = world.witness.case("the disk of the agents' logs is full", || {
        replace_agents(world)?;
        product::wait_ready(world.cluster)?;
        fill(world, "/var/log/pods")?;
        changes_are_enforced(world)
    });
    on_node(world, "umount -l /var/log/pods")?;
    replace_agents(world)?;
    product::wait_ready(world.cluster)?;
    logs?;
    on_node(
        world,
        "mkdir -p /run/results && cp -a /var/lib/cni/results/. /run/results && \
         mount -t tmpfs -o size=128k,mode=755 tmpfs /var/lib/cni/results && cp -a /run/results/. /var/lib/cni/results",
    )?;
    let results =
        world.witness.case("the disk of the CNI results is full, and a result is cut short", || {
            fill(world, "/var/lib/cni/results")?;
            // As a writer leaves it that runs out of space.
            on_node(world, ": > /var/lib/cni/results/half-written")?;
            signal_agent(world.cluster, near, "KILL")?;
            replace_agents(world)?;
            product::wait_ready(world.cluster)?;
            changes_are_enforced(world)
        });
    on_node(world, "umount -l /var/lib/cni/results; rm -rf /run/results")?;
    results.map(drop)
}

/// The folder of the CNI results is on a file system that was remounted read only, as after an error of the disk.
pub fn read_only(world: &World<'_>) -> anyhow::Result<()> {
    on_node(world, "mount --bind /var/lib/cni /var/lib/cni && mount -o remount,bind,ro /var/lib/cni")?;
    let done = world.witness.case("the node's file system is read-only", || {
        replace_agents(world)?;
        product::wait_ready(world.cluster)?;
        changes_are_enforced(world)
    });
    on_node(world, "umount -l /var/lib/cni")?;
    done.map(drop)
}

fn changes_are_enforced(world: &World<'_>) -> anyhow::Result<()> {
    for round in 0..4 {
        other_rules(world, round)?;
        status::programmed_within(world.cluster, SPACE, "server", super::SLOW)?;
    }
    Ok(())
}

/// Until nothing more goes onto that disk.
fn fill(world: &World<'_>, folder: &str) -> anyhow::Result<()> {
    let script =
        format!("dd if=/dev/zero of={folder}/fill bs=1k; ! dd if=/dev/zero of={folder}/more bs=4k count=1");
    on_node(world, &script)
}

fn on_node(world: &World<'_>, script: &str) -> anyhow::Result<()> {
    let done = world.cluster.require_bed()?.node_exec(&world.scene.near, &["sh", "-c", script])?;
    ensure!(done.success(), "{script}: {}{}", done.stdout, done.stderr);
    Ok(())
}
