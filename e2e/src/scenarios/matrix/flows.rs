//! Flows and their fate.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::thread;

use anyhow::{Context, bail};
use selvage_e2e::Cluster;

use super::World;

/// A pod of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    pub namespace: &'static str,
    pub pod: &'static str,
}

/// What a flow uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Tcp80,
    Tcp81,
    Udp80,
}

/// An attempt from one pod to an address of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub from: Peer,
    pub to: Peer,
    pub address: IpAddr,
    pub service: Service,
}

/// How often a flow that should pass is tried before it counts as stopped: a loaded machine can be slow, and a label's
/// change has no condition to wait for.
const TRIES: usize = 3;

/// Tries every flow once, and those that should pass and did not up to [`TRIES`] times. How many differ, with the first
/// few by name.
pub fn differences(
    cluster: &Cluster,
    world: &World,
    passes: &dyn Fn(&Flow) -> bool,
) -> anyhow::Result<String> {
    // A pod always reaches itself: that packet never leaves it.
    let passes = |flow: &Flow| flow.from == flow.to || passes(flow);
    let mut wrong: Vec<Flow> = all(world);
    let tried = wrong.len();
    for _ in 0..TRIES {
        let seen = attempt(cluster, &wrong)?;
        let differ = wrong.iter().zip(seen).filter(|(flow, seen)| passes(flow) != *seen);
        let differ: Vec<(Flow, bool)> = differ.map(|(flow, seen)| (*flow, seen)).collect();
        // What passed and should not have is a hole, however seldom it happens.
        let hole = differ.iter().any(|(_, seen)| *seen);
        wrong = differ.into_iter().map(|(flow, _)| flow).collect();
        if wrong.is_empty() || hole {
            break;
        }
    }
    if wrong.is_empty() {
        println!("    {tried} flows");
        return Ok("0".to_owned());
    }
    let mut text = format!("{} of {tried}:", wrong.len());
    for flow in wrong.iter().take(5) {
        let Flow { from, to, address, service } = flow;
        let word = if passes(flow) { "stopped" } else { "PASSED" };
        write!(
            text,
            " {}/{}->{}/{} {address} {service:?} {word};",
            from.namespace, from.pod, to.namespace, to.pod
        )?;
    }
    Ok(text)
}

/// As [`differences`], for changes that no condition announces: until none is left, or ten seconds have passed.
pub fn settled(cluster: &Cluster, world: &World, passes: &dyn Fn(&Flow) -> bool) -> anyhow::Result<String> {
    let start = std::time::Instant::now();
    loop {
        let seen = differences(cluster, world, passes)?;
        if seen == "0" || start.elapsed().as_secs() >= 10 {
            return Ok(seen);
        }
    }
}

fn all(world: &World) -> Vec<Flow> {
    let mut flows = Vec::new();
    for from in world.addresses.keys() {
        for (to, addresses) in &world.addresses {
            for address in addresses {
                let services = [Service::Tcp80, Service::Tcp81, Service::Udp80].into_iter();
                flows.extend(services.map(|service| Flow {
                    from: *from,
                    to: *to,
                    address: *address,
                    service,
                }));
            }
        }
    }
    flows
}

/// Whether each flow passes; one shell in each source pod tries all of its flows at once.
fn attempt(cluster: &Cluster, flows: &[Flow]) -> anyhow::Result<Vec<bool>> {
    let mut by_source: BTreeMap<Peer, Vec<usize>> = BTreeMap::new();
    for (index, flow) in flows.iter().enumerate() {
        by_source.entry(flow.from).or_default().push(index);
    }
    let mut seen = vec![None; flows.len()];
    let results = thread::scope(|scope| {
        let handles: Vec<_> = by_source
            .iter()
            .map(|(source, indices)| scope.spawn(move || shell(cluster, *source, indices, flows)))
            .collect();
        handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>()
    });
    for result in results {
        let lines = result.map_err(|_| anyhow::anyhow!("a prober panicked"))??;
        for (index, passed) in lines {
            *seen.get_mut(index).context("an unknown flow")? = Some(passed);
        }
    }
    seen.into_iter().collect::<Option<Vec<_>>>().context("a flow was not tried")
}

fn shell(
    cluster: &Cluster,
    from: Peer,
    indices: &[usize],
    flows: &[Flow],
) -> anyhow::Result<Vec<(usize, bool)>> {
    let mut script = String::new();
    for index in indices {
        let Some(Flow { address, service, .. }) = flows.get(*index) else { continue };
        let host = if address.is_ipv6() { format!("[{address}]") } else { address.to_string() };
        let command = match service {
            Service::Tcp80 => format!("wget -q -T 2 -O /dev/null http://{host}:80/hostname"),
            Service::Tcp81 => format!("wget -q -T 2 -O /dev/null http://{host}:81/hostname"),
            Service::Udp80 => format!("/agnhost connect --timeout=2s --protocol=udp {host}:80"),
        };
        writeln!(script, "({command} >/dev/null 2>&1 && echo {index} passed || echo {index} stopped) &")?;
    }
    script.push_str("wait\n");
    let words = ["sh", "-c", &script];
    let mut command =
        cluster.kubectl_command(&["exec", "--namespace", from.namespace, from.pod, "-c", "first", "--"]);
    let seen = selvage_e2e::output(command.args(words), None)?;
    if !seen.success() {
        bail!("probes from {}/{}: {}", from.namespace, from.pod, seen.stderr.trim());
    }
    let parse = |line: &str| {
        let (index, word) = line.split_once(' ')?;
        Some((index.parse().ok()?, word == "passed"))
    };
    seen.stdout.lines().map(|line| parse(line).with_context(|| format!("a prober said {line:?}"))).collect()
}
