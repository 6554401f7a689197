//! The API server out of reach: for all, and for one node.

use std::thread;
use std::time::{Duration, Instant};

use selvage_e2e::wait_for;

use super::{SLOW, World, signal};
use crate::product;
use crate::witness::Witness;

const AGENT: &str = "selvage-node-agent";
const OPERATOR: &str = "selvage-operator";
/// How long the API server is away: by default, and in a long run.
const AWAY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(300)];
/// How long a node is cut off; TCP connections across it live longer.
const CUT: Duration = Duration::from_secs(10);

/// Every agent is killed, and starts without an API server to ask; operators too.
pub fn api_server(world: &World<'_>) -> anyhow::Result<()> {
    let away = AWAY[usize::from(world.long)];
    let bed = world.cluster.require_bed()?;
    let nodes = world.cluster.nodes()?;
    let case = format!("API server away for {} s, agents and operators killed meanwhile", away.as_secs());
    world.witness()?.case(&case, || {
        let start = Instant::now();
        bed.stop_api_server()?;
        let mut done = Ok(());
        for (number, node) in nodes.iter().enumerate() {
            done = done.and_then(|()| signal(world.cluster, &node.name, AGENT, "KILL"));
            if number == 0 {
                // None where that node has no operator.
                signal(world.cluster, &node.name, OPERATOR, "KILL").ok();
            }
        }
        for node in &nodes {
            done = done.and_then(|()| runs(world, &node.name));
        }
        thread::sleep(away.saturating_sub(start.elapsed()));
        bed.start_api_server()?;
        done?;
        world.reword(1)?;
        world.converged()?;
        world.reword(0)?;
        world.converged()?;
        product::wait_ready(world.cluster)
    })?;
    Ok(())
}

/// What goes between the nodes is cut with the node; on each of them everything goes on.
pub fn node(world: &World<'_>) -> anyhow::Result<()> {
    let bed = world.cluster.require_bed()?;
    let far = world.scene.far.clone();
    let mut done = Ok(());
    let tally = world.witness()?.watch(
        "a node cut off, its agent killed, policies changed meanwhile (flows on the other node)",
        |flow| !flow.across && !flow.from.ends_with("far"),
        || {
            bed.cut_node(&far)?;
            let start = Instant::now();
            done = signal(world.cluster, &far, AGENT, "KILL").and_then(|()| runs(world, &far));
            done = std::mem::replace(&mut done, Ok(())).and_then(|()| world.reword(1));
            thread::sleep(CUT.saturating_sub(start.elapsed()));
            bed.heal_node(&far)?;
            world.converged()
        },
    )?;
    done?;
    tally.flawless()?;
    wait_for("what goes between the nodes", SLOW, || {
        if world.witness.as_ref().is_some_and(Witness::works) {
            Ok(())
        } else {
            Err("a flow is not answered yet".to_owned())
        }
    })?;
    world.witness()?.case("the node is back", || {
        world.reword(0)?;
        world.converged()
    })?;
    Ok(())
}

/// Waits until the node has an agent again.
fn runs(world: &World<'_>, node: &str) -> anyhow::Result<()> {
    Ok(wait_for(&format!("the agent of {node} to run again"), SLOW, || {
        signal(world.cluster, node, AGENT, "0").map_err(|error| error.to_string())
    })?)
}
