//! Others at the agent's table.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use selvage_e2e::wait_for;
use serde_json::Value;

use super::agent::{agents_away, agents_back};
use super::{SLOW, World, with_values};
use crate::product::NAMESPACE;
use crate::status::condition;

const DELETED: &str = "table deleted";
/// What is done to the table, and whether it opens what is denied until it is repaired.
const CHANGES: [(&str, &str, bool); 5] = [
    (DELETED, "delete table inet selvage", true),
    ("table flushed", "flush table inet selvage", true),
    ("one rule deleted", "delete rule inet selvage to_pod handle LAST", true),
    ("one rule added", "insert rule inet selvage to_pod accept", true),
    ("one element added", "add element inet selvage own4 { 192.0.2.1 }", false),
];
/// The design promises a second. The bound is for a machine that does much else meanwhile; the time is printed.
const REPAIRED: Duration = Duration::from_secs(3);

/// Where the kernel has tables with an owner nobody else can change ours; the agent's alone is one. Elsewhere, and with
/// `agent.tableOwnership=plain`, what others change is repaired, and named in a condition, an Event and a metric.
pub fn at_the_table(world: &World<'_>) -> anyhow::Result<()> {
    let owned = table(world)?.1.contains("owner");
    if owned {
        world.witness.case("changes of an owned table by others, refused", || {
            for (what, change, _) in CHANGES {
                let refused = change_table(world, change)?;
                ensure!(refused.contains("Operation not permitted"), "{what}: {refused:?}");
            }
            Ok(())
        })?;
    } else {
        world.progress.step("this kernel has no tables that stay with their owner: others can change ours");
    }
    // The owner's table is one that this agent can't change either: it is replaced as a whole.
    world.witness.case("agents upgraded by helm: plain tables for owned ones", || {
        with_values(world, &["agent.tableOwnership=plain"])
    })?;
    let repaired = CHANGES.iter().try_for_each(|change| repaired(world, change));
    let back = world
        .witness
        .case("agents upgraded by helm: owned tables for plain ones", || with_values(world, &[]));
    repaired?;
    back.map(drop)
}

fn repaired(world: &World<'_>, (what, change, opens): &(&str, &str, bool)) -> anyhow::Result<()> {
    let (before, _) = table(world)?;
    let (repairs, told, heard) = (repairs(world)?, intact(world)?, heard(world)?);
    let mut window = Duration::ZERO;
    let name = format!("{what} by somebody else, and repaired");
    let tally = world.witness.watch(
        &name,
        |_| true,
        || {
            thread::sleep(Duration::from_millis(200));
            let start = Instant::now();
            let answer = change_table(world, change)?;
            ensure!(answer.is_empty(), "{what}: {answer}");
            wait_for("the table as it was", SLOW, || match table(world) {
                Ok((now, _)) if now == before => Ok(()),
                Ok((now, _)) => Err(format!("{} words, not {}", now.len(), before.len())),
                Err(error) => Err(error.to_string()),
            })?;
            window = start.elapsed();
            Ok(())
        },
    )?;
    world.progress.step(format_args!("{what}: as it was after {} ms", window.as_millis()));
    ensure!(window <= REPAIRED, "{what}: as it was only after {} ms", window.as_millis());
    // From the change, 200 ms after the start, until it was seen to be repaired.
    let end = Duration::from_millis(200) + window + Duration::from_millis(100);
    let late: Vec<_> = tally.passed.iter().filter(|(_, at)| !opens || *at > end).collect();
    ensure!(late.is_empty(), "{what}: denied packets passed that should not have: {late:?}");
    // A table that is built from nothing is closed to new connections until it is whole.
    let cut: Vec<_> = tally.lost.iter().filter(|(_, at, _)| *what != DELETED || *at > end).collect();
    ensure!(cut.is_empty(), "{what}: allowed packets were lost: {cut:?}");
    let counted = wait_for("the repair to be counted", SLOW, || match self::repairs(world) {
        Ok(now) if now > repairs => Ok(now),
        Ok(now) => Err(format!("{now}")),
        Err(error) => Err(error.to_string()),
    })?;
    let said = wait_for("the condition Intact to be False", SLOW, || {
        let now = intact(world).map_err(|error| error.to_string())?;
        let message = now["message"].as_str().unwrap_or_default();
        let named = now["status"] == "False" && now["reason"] == "ChangedByOthers" && message.contains("nft");
        if named && now != told { Ok(message.to_owned()) } else { Err(now.to_string()) }
    })?;
    // Events of one reason about one object within minutes are one, that is counted.
    let times = wait_for("the Event", SLOW, || match self::heard(world) {
        Ok(now) if now > heard => Ok(now),
        Ok(now) => Err(format!("heard {now} times, as before")),
        Err(error) => Err(error.to_string()),
    })?;
    world.progress.step(format_args!("metric {counted}, Intact False: {said}; Events: {times}"));
    Ok(())
}

/// Words of `nft` in the near node; what it complains of.
fn change_table(world: &World<'_>, change: &str) -> anyhow::Result<String> {
    let bed = world.cluster.require_bed()?;
    let last = if change.contains("LAST") { last_rule(world)? } else { String::new() };
    let done = bed.node_exec(&world.scene.near, &["nft", &change.replace("LAST", &last)])?;
    Ok(done.stderr)
}

/// The handle of the last rule of `to_pod`: what drops where nothing allowed.
fn last_rule(world: &World<'_>) -> anyhow::Result<String> {
    let words = ["nft", "-a", "list", "chain", "inet", "selvage", "to_pod"];
    let chain = world.cluster.require_bed()?.node_exec(&world.scene.near, &words)?.stdout;
    let handles = chain.lines().filter(|line| line.starts_with("\t\t") && !line.contains("type filter"));
    let last = handles.filter_map(|line| line.rsplit_once("# handle ")).next_back();
    Ok(last.context("to_pod has no rule")?.1.trim().to_owned())
}

/// The table in the near node as sorted words (elements have no order of their own), and its flags.
fn table(world: &World<'_>) -> anyhow::Result<(Vec<String>, String)> {
    let words = ["nft", "-s", "-n", "list", "table", "inet", "selvage"];
    let listed = world.cluster.require_bed()?.node_exec(&world.scene.near, &words)?;
    ensure!(listed.success(), "{}", listed.stderr);
    let flags = listed.stdout.lines().find(|line| line.contains("flags") && line.contains("owner"));
    let flags = flags.unwrap_or_default().trim().to_owned();
    let word = |text: &str| text.trim_matches([',', '{', '}']).to_owned();
    let mut words: Vec<String> = listed.stdout.split_whitespace().map(word).collect();
    words.sort_unstable();
    Ok((words, flags))
}

/// What the near agent's metrics say.
fn repairs(world: &World<'_>) -> anyhow::Result<u64> {
    let bed = world.cluster.require_bed()?;
    let url = format!("http://{}:9441/metrics", bed.node_addresses(&world.scene.near)?.0);
    let metrics = bed.outside_exec(&["busybox", "wget", "-q", "-O", "-", &url])?;
    let line = metrics.stdout.lines().find_map(|line| line.strip_prefix("selvage_agent_repairs_total "));
    Ok(line.with_context(|| format!("no repairs in {url}: {}", metrics.stderr))?.trim().parse()?)
}

/// The condition Intact of the near node.
fn intact(world: &World<'_>) -> anyhow::Result<Value> {
    let words = ["get", "nodepolicy", "-n", NAMESPACE, &world.scene.near];
    Ok(condition(&world.cluster.kubectl_json(&words)?, "Intact").clone())
}

/// How often Events have told of changes of the near node's table.
fn heard(world: &World<'_>) -> anyhow::Result<u64> {
    let selector = format!(
        "--field-selector=type=Warning,reason=ChangedByOthers,involvedObject.name={}",
        world.scene.near
    );
    let events = world.cluster.kubectl_json(&["get", "events", "-n", NAMESPACE, &selector])?;
    let items = events["items"].as_array().into_iter().flatten();
    Ok(items.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum())
}

/// Agents that start and find a table of their own name: one that an agent would have left, but nobody's and with
/// parts of another making, and one that another process owns.
pub fn foreign_table(world: &World<'_>) -> anyhow::Result<()> {
    world.witness.case("agents start over a table of their own, changed and owned by nobody", || {
        agents_away(world)?;
        let nodes = [&world.scene.near, &world.scene.far];
        let replaced = nodes.into_iter().try_for_each(|node| replace_by_old(world, node));
        agents_back(world)?;
        replaced
    })?;
    for node in [&world.scene.near, &world.scene.far] {
        let words = ["nft", "list", "table", "inet", "selvage"];
        let table = world.cluster.require_bed()?.node_exec(node, &words)?.stdout;
        ensure!(!table.contains("leftover"), "{node}: what others made is still there: {table}");
    }
    Ok(())
}

/// Puts a copy of the node's table in its place, without an owner, with a chain and a set that no agent makes, and with
/// an open rule that nothing leads to.
fn replace_by_old(world: &World<'_>, node: &str) -> anyhow::Result<()> {
    let script = r#"
        t=$(nft -s list table inet selvage) || exit 1
        { echo "delete table inet selvage"
          # The flags of the table itself are on its second line.
          echo "$t" | sed -e '/^#/d' -e '/^table/{n;/^[[:space:]]*flags/d}'
          echo 'table inet selvage {
                  set leftover { type ipv4_addr; elements = { 192.0.2.7 }; }
                  chain leftover_chain {
                    ip saddr @leftover accept
                    counter accept
                  }
                }'
        } > /run/leftover.nft
        nft -f /run/leftover.nft"#;
    let done = world.cluster.require_bed()?.node_exec(node, &["sh", "-c", script])?;
    if !done.success() {
        bail!("{node}: {}{}", done.stdout, done.stderr);
    }
    Ok(())
}
