//! What operator and agents need while pods come and go for long: it must not grow.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use selvage_e2e::{Cluster, Progress};
use serde_json::json;

use super::ghost::Ghost;
use super::policy;
use crate::pods::{self, Namespaces, Pod};
use crate::status;

const SPACE: &str = "soak";
const ROLE: &str = "visitor";
const PROGRAMS: [&str; 2] = ["selvage-operator", "selvage-node-agent"];
const SAMPLE: Duration = Duration::from_secs(2);
/// Real pods that come and go on each node meanwhile, one after the other.
const REAL: Duration = Duration::from_secs(8);
/// Growth from the middle third to the last that is none: an allocator's and the sampling's, in KiB, or a part of what
/// there is.
const SPARE_KIB: u64 = 2048;
const SPARE_PART: u64 = 10;

/// How long.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Args {
    /// How many minutes pods come and go
    #[arg(long, default_value_t = 2)]
    minutes: u32,
}

/// Of one process at one moment: resident KiB, clock ticks of processor time.
type Sample = (u64, u64);

/// The scenario. The first third is warm-up.
pub fn run(cluster: &Cluster, args: Args) -> anyhow::Result<()> {
    cluster.require_bed()?;
    let progress = Progress::default();
    let nodes = cluster.nodes()?;
    let _namespaces = Namespaces::create(cluster, &[SPACE])?;
    let first = nodes.first().context("no nodes")?;
    pods::start(cluster, &[Pod::client(SPACE, "target", Some(&first.name))])?;
    let from = json!([{ "podSelector": { "matchLabels": { "role": ROLE } } }]);
    let spec =
        json!({ "podSelector": { "matchLabels": { "pod": "target" } }, "ingress": [{ "from": from }] });
    cluster.apply(SPACE, &policy("target", spec).to_string())?;
    status::programmed(cluster, SPACE, "target")?;
    let ghost = Ghost::start(cluster, SPACE, ROLE)?;
    let (start, length) = (Instant::now(), Duration::from_secs(60 * u64::from(args.minutes)));
    let mut samples: BTreeMap<(String, &str, u32), Vec<Sample>> = BTreeMap::new();
    let mut next_pods = Instant::now();
    let mut round = 0_u32;
    while start.elapsed() < length {
        for node in &nodes {
            for program in PROGRAMS {
                for (pid, sample) in look(cluster, &node.name, program)? {
                    samples.entry((node.name.clone(), program, pid)).or_default().push(sample);
                }
            }
        }
        if Instant::now() >= next_pods {
            next_pods += REAL;
            turn(cluster, &nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), round)?;
            round += 1;
        }
        thread::sleep(SAMPLE);
    }
    let took = start.elapsed().as_secs_f64();
    let made = ghost.made();
    println!(
        "{}",
        json!({ "soak": "pods", "api": made, "rate": (made as f64 / took).round(), "real": round * 3, "seconds": took.round() })
    );
    ghost.end()?;
    progress.step("every group is without the pods that are gone");
    let mut grown = Vec::new();
    for ((node, program, pid), list) in &samples {
        let third = list.len() / 3;
        ensure!(third > 2, "{program} on {node} was seen {} times only: it ended", list.len());
        let part = |n: usize| median(list.iter().skip(n * third).take(third).map(|(kib, _)| *kib));
        let (warm, last) = (part(1), part(2));
        let cpu = |n: usize| {
            let ticks = |at: usize| list.get(at).map_or(0, |(_, ticks)| *ticks);
            ticks((n + 1) * third - 1).saturating_sub(ticks(n * third))
        };
        println!(
            "{}",
            json!({
                "soak": program, "node": node, "pid": pid, "samples": list.len(),
                "resident_kib": { "warm": warm, "end": last },
                "kib_a_minute": (last as f64 - warm as f64) / (took / 180.0),
                "ticks": { "warm": cpu(1), "end": cpu(2) },
            })
        );
        if last > warm + (warm / SPARE_PART).max(SPARE_KIB) {
            grown.push(format!("{program} on {node}: {warm} KiB, then {last}"));
        }
        // Processor time for the same work: twice as much is growth, a tenth of a second is none.
        if cpu(2) > 2 * cpu(1) + 10 {
            grown.push(format!("{program} on {node}: {} ticks, then {}", cpu(1), cpu(2)));
        }
    }
    if grown.is_empty() { Ok(()) } else { bail!("grown: {}", grown.join("; ")) }
}

/// One real pod a node takes the place of the one before.
fn turn(cluster: &Cluster, nodes: &[&str], round: u32) -> anyhow::Result<()> {
    let words = ["delete", "pod", "-n", SPACE, "-l", "turn", "--grace-period=1", "--wait=false"];
    cluster.kubectl_ok(&words)?;
    let role = if round.is_multiple_of(2) { ROLE } else { "none" };
    let items: Vec<_> = nodes
        .iter()
        .map(|node| {
            let labels = json!({ "turn": "", "role": role });
            Pod { labels, ..Pod::client(SPACE, &format!("turn-{round}-{node}"), Some(node)) }.manifest()
        })
        .collect();
    cluster.apply(SPACE, &json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string())?;
    Ok(())
}

/// Every process of a program on a node, by its number there.
fn look(cluster: &Cluster, node: &str, program: &str) -> anyhow::Result<Vec<(u32, Sample)>> {
    let script = format!(
        "for p in /proc/[0-9]*; do case $(readlink $p/exe) in */{program}) \
         echo ${{p#/proc/}} $(grep VmRSS $p/status | tr -dc 0-9) $(cut -d' ' -f14,15 $p/stat);; esac; done; true"
    );
    let seen = cluster.require_bed()?.node_exec(node, &["sh", "-c", &script])?;
    let parse = |line: &str| {
        let mut words = line.split(' ').map(str::parse::<u64>);
        let mut next = || words.next()?.ok();
        let (pid, kib, user, system) = (next()?, next()?, next()?, next()?);
        Some((u32::try_from(pid).ok()?, (kib, user + system)))
    };
    Ok(seen.stdout.lines().filter_map(parse).collect())
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut sorted: Vec<u64> = values.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
