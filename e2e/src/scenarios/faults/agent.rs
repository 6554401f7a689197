//! What happens to agents: killed, stopped, replaced.

use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{SPACE, World, agent_runs, signal_agent, with_values};
use crate::product::{self, NAMESPACE};
use crate::status;

/// How often agents are killed; on two nodes at once, so that each is killed half as often.
const KILLS: u32 = 50;
const KILLS_LONG: u32 = 300;

/// Agents of both nodes killed with -9 again and again, at another moment of their start each time, while policies
/// change. What the change asks for is the same traffic by another rule.
pub fn killed(world: &World<'_>) -> anyhow::Result<()> {
    let kills = if world.long { KILLS_LONG } else { KILLS };
    let case = format!("agents killed with -9, {kills} times, with policy changes");
    world.witness.case(&case, || {
        let mut killed = 0;
        for round in 0.. {
            let mut now = 0;
            for node in [&world.scene.near, &world.scene.far] {
                agent_runs(world.cluster, node)?;
            }
            thread::sleep(Duration::from_millis(round % 10 * 50));
            other_rules(world, round)?;
            for node in [&world.scene.near, &world.scene.far] {
                // The one that ran may have been the last pod's, which has gone meanwhile.
                now += u32::from(signal_agent(world.cluster, node, "KILL").is_ok());
            }
            killed += now;
            if killed >= kills {
                break;
            }
            replace_agents(world)?;
        }
        product::wait_ready(world.cluster)?;
        status::programmed_within(world.cluster, SPACE, "server", super::SLOW)?;
        world.cluster.kubectl_ok(&["delete", "networkpolicy", "-n", SPACE, "other"])?;
        Ok(())
    })?;
    Ok(())
}

/// The pods of dead agents make room for new ones: the kubelet itself would wait longer after each death.
pub fn replace_agents(world: &World<'_>) -> anyhow::Result<()> {
    let mut words = vec!["delete", "pod", "-n", NAMESPACE, "--force", "--grace-period=0", "--wait=false"];
    words.extend(["-l", "app.kubernetes.io/component=agent"]);
    world.cluster.kubectl_ok(&words)?;
    Ok(())
}

/// The server's policy with another selector of the same pods (another group and another chain), and another policy of
/// addresses that nobody has.
pub fn other_rules(world: &World<'_>, round: u64) -> anyhow::Result<()> {
    let friends = if round.is_multiple_of(2) {
        json!({ "matchExpressions": [{ "key": "role", "operator": "In", "values": ["friend", format!("friend{round}")] }] })
    } else {
        json!({ "matchLabels": { "role": "friend" } })
    };
    let server = json!({ "matchLabels": { "pod": "server" } });
    let policy = |name: &str, from| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": name },
            "spec": { "podSelector": server, "policyTypes": ["Ingress"], "ingress": [{ "from": [from] }] },
        })
    };
    let unused = format!("203.0.113.{}/32", round % 250);
    let list = json!({
        "apiVersion": "v1", "kind": "List",
        "items": [
            policy("server", json!({ "podSelector": friends })),
            policy("other", json!({ "ipBlock": { "cidr": unused } })),
        ],
    });
    world.cluster.apply(SPACE, &list.to_string())?;
    Ok(())
}

/// Agents that do not run for a while: stopped in their tracks, and taken away as pods. What changes meanwhile is
/// enforced when they are back.
pub fn stopped(world: &World<'_>) -> anyhow::Result<()> {
    let nodes = [&world.scene.near, &world.scene.far];
    world.witness.case("agents stopped by SIGSTOP for 3 s, with a policy change", || {
        for node in nodes {
            signal_agent(world.cluster, node, "STOP")?;
        }
        let changed = other_rules(world, 0);
        thread::sleep(Duration::from_secs(3));
        for node in nodes {
            signal_agent(world.cluster, node, "CONT")?;
        }
        changed?;
        enforced(world)
    })?;
    world.witness.case("agents deleted as pods", || {
        replace_agents(world)?;
        product::wait_ready(world.cluster)
    })?;
    world.witness.case("agents taken away and brought back, with a policy change", || {
        agents_away(world)?;
        let changed = other_rules(world, 1);
        thread::sleep(Duration::from_secs(2));
        agents_back(world)?;
        changed?;
        enforced(world)
    })?;
    Ok(())
}

/// Agents replaced by `helm upgrade`, all at once and one after the other.
pub fn upgraded(world: &World<'_>) -> anyhow::Result<()> {
    world.witness.case("agents and operators upgraded by helm, and back", || {
        with_values(world, &["log.level=debug", "agent.maxUnavailable=100%"])?;
        with_values(world, &[])
    })?;
    Ok(())
}

fn enforced(world: &World<'_>) -> anyhow::Result<()> {
    status::programmed_within(world.cluster, SPACE, "server", super::SLOW)?;
    Ok(())
}

/// Takes the agents off all nodes.
pub fn agents_away(world: &World<'_>) -> anyhow::Result<()> {
    select_nodes(world, json!("away"))?;
    let words = ["wait", "-n", NAMESPACE, "--for=delete", "--timeout=60s", "pod"];
    let labels = ["-l", "app.kubernetes.io/component=agent"];
    world.cluster.kubectl_ok(&[&words[..], &labels].concat())?;
    Ok(())
}

/// Brings them back, and waits until all nodes are programmed.
pub fn agents_back(world: &World<'_>) -> anyhow::Result<()> {
    select_nodes(world, json!(null))?;
    product::wait_ready(world.cluster)
}

fn select_nodes(world: &World<'_>, value: serde_json::Value) -> anyhow::Result<()> {
    let patch =
        json!({ "spec": { "template": { "spec": { "nodeSelector": { "selvage-faults": value } } } } });
    let patch = patch.to_string();
    let words = ["patch", "daemonset", "-n", NAMESPACE, "selvage-agent", "--type=merge", "-p", &patch];
    world.cluster.kubectl_ok(&words)?;
    Ok(())
}
