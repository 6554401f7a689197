//! Pods that come and go, each with an address that another pod had just before.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fs, io};

use anyhow::{Context, ensure};
use selvage_e2e::{Cluster, wait_for};
use serde_json::json;

use super::ghost::Ghost;
use super::{SLOW, SPACE, World, policy};
use crate::netns::{self, PodNet, both_families};
use crate::pods::{self, Pod};
use crate::status;

const PORT: u16 = 9400;
/// Where pods send from, so that the next one with the address is on the same connection for conntrack.
const FROM: u16 = 7400;
/// Generations of pods, one of friends after one of strangers: by default, and in a long run.
const GENERATIONS: [usize; 2] = [6, 60];
/// Pods of a generation on each node.
const PODS: usize = 3;
/// How long a stranger sends after it is Ready.
const TRIES: Duration = Duration::from_millis(700);
/// Where host-local keeps who has which address on a node with flannel.
const RESERVED: &str = "var/lib/cni/networks/cbr0";
const ROLE: &str = "visitor";

/// What has arrived, by the generation and number of the pod that sent it.
type Arrived = Arc<Mutex<BTreeMap<u64, usize>>>;

/// Friends and strangers take turns on the same few addresses. Fifty more pods a second change hands in the API alone.
pub fn reuse(world: &World<'_>) -> anyhow::Result<()> {
    let cluster = world.cluster;
    let near = world.scene.near.clone();
    pods::start(cluster, &[Pod::client(SPACE, "target", Some(&near))])?;
    let target = PodNet::of(cluster, SPACE, "target")?;
    let from = json!([{ "podSelector": { "matchLabels": { "role": ROLE } } }]);
    let select = json!({ "matchLabels": { "pod": "target" } });
    cluster.apply(
        SPACE,
        &policy("target", json!({ "podSelector": select, "ingress": [{ "from": from }] })).to_string(),
    )?;
    status::programmed(cluster, SPACE, "target")?;
    let (arrived, stop) = (Arrived::default(), Arc::new(AtomicBool::new(false)));
    let receiver = receive(&target, &arrived, &stop)?;
    let mut seen = Ok(());
    let generations = GENERATIONS[usize::from(world.long)];
    let outcome =
        world.witness()?.case(&format!("{generations} generations of pods on the same addresses"), || {
            let ghost = Ghost::start(cluster, SPACE, ROLE)?;
            let start = Instant::now();
            seen = generations_of(world, &target, &arrived, generations);
            let rate = ghost.made() as f64 / start.elapsed().as_secs_f64();
            println!("  beside them {} pods in the API alone, {rate:.0} a second", ghost.made());
            ghost.end()
        });
    stop.store(true, Ordering::Relaxed);
    receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    seen?;
    outcome?;
    cluster.kubectl_ok(&["delete", "-n", SPACE, "pod/target", "networkpolicy/target"])?;
    Ok(())
}

fn generations_of(world: &World<'_>, target: &PodNet, arrived: &Arrived, count: usize) -> anyhow::Result<()> {
    let nodes = [world.scene.near.clone(), world.scene.far.clone()];
    let bases: Vec<Vec<(String, String)>> =
        nodes.iter().map(|node| reserved(world.cluster, node)).collect::<Result<_, _>>()?;
    let mut owners: BTreeMap<IpAddr, bool> = BTreeMap::new();
    let (mut reused, mut leaked) = (0, Vec::new());
    for generation in 0..count {
        let friends = generation.is_multiple_of(2);
        for (node, base) in nodes.iter().zip(&bases) {
            rewind(world.cluster, node, base)?;
        }
        let names: Vec<(String, &String)> = (0..PODS)
            .flat_map(|number| nodes.iter().map(move |node| (number, node)))
            .map(|(number, node)| (format!("turn-{generation}-{node}-{number}"), node))
            .collect();
        let items: Vec<_> = names
            .iter()
            .map(|(name, node)| {
                let labels = json!({ "turn": "", "role": if friends { ROLE } else { "stranger" } });
                Pod { labels, ..Pod::client(SPACE, name, Some(node)) }.manifest()
            })
            .collect();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        world.cluster.apply(SPACE, &list.to_string())?;
        let senders: Vec<Sender> = names
            .iter()
            .zip(0..)
            .map(|((name, node), number)| {
                let id = u64::try_from(generation).unwrap_or_default() * 100 + number;
                Sender::start(world.cluster, name, node, target, id, **node == nodes[0])
            })
            .collect::<Result<_, _>>()?;
        for (sender, (name, _)) in senders.iter().zip(&names) {
            pods::wait_ready(world.cluster, SPACE, name)?;
            let net = PodNet::of(world.cluster, SPACE, name)?;
            for address in &net.addresses {
                reused += usize::from(owners.insert(*address, friends) == Some(!friends));
            }
            if friends {
                wait_for(&format!("{name} to be let in"), SLOW, || {
                    if count_of(arrived, sender.id) > 0 { Ok(()) } else { Err("nothing arrived".to_owned()) }
                })?;
            }
        }
        if !friends {
            thread::sleep(TRIES);
            for (sender, (name, _)) in senders.iter().zip(&names) {
                let count = count_of(arrived, sender.id);
                if count > 0 {
                    leaked.push(format!("{name}: {count}"));
                }
            }
        }
        drop(senders);
        let words = ["delete", "pod", "-n", SPACE, "-l", "turn", "--grace-period=1", "--wait"];
        world.cluster.kubectl_ok(&words)?;
    }
    println!(
        "  {reused} addresses changed hands between friends and strangers; {} strangers got through",
        leaked.len()
    );
    ensure!(reused > PODS * count, "addresses were hardly used again: {reused}");
    ensure!(leaked.is_empty(), "strangers with a friend's address got through: {}", leaked.join(", "));
    Ok(())
}

fn count_of(arrived: &Arrived, id: u64) -> usize {
    arrived.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied().unwrap_or_default()
}

fn receive(
    at: &PodNet,
    arrived: &Arrived,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<JoinHandle<io::Result<()>>> {
    let socket = at.udp(PORT)?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (arrived, stop) = (Arc::clone(arrived), Arc::clone(stop));
    Ok(thread::spawn(move || {
        let mut word = [0; 8];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((8, from)) = socket.recv_from(&mut word) {
                let id = u64::from_be_bytes(word);
                *arrived.lock().unwrap_or_else(PoisonError::into_inner).entry(id).or_default() += 1;
                // Answered, so that conntrack knows a conversation. One that can't be answered has gone.
                socket.send_to(&word, from).ok();
            }
        }
        Ok(())
    }))
}

/// Sends to the target from a pod's network's first moment, in both families, until it is dropped.
struct Sender {
    id: u64,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(
        cluster: &Cluster,
        pod: &str,
        node: &str,
        target: &PodNet,
        id: u64,
        same_port: bool,
    ) -> anyhow::Result<Self> {
        let object = cluster.kubectl_json(&["get", "pod", "-n", SPACE, pod])?;
        let uid = object["metadata"]["uid"].as_str().context("a pod without uid")?.to_owned();
        let root = netns::node_root(cluster, node)?;
        let to = [both_families(target.address(false)?, PORT), both_families(target.address(true)?, PORT)];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // A conversation that a sender's node does not know any more is one that the target's node still does, where
        // they are not the same: there, each generation has a port of its own.
        let port = if same_port { FROM } else { 0 };
        let send = move || {
            let mut socket = None;
            while !stopped.load(Ordering::Relaxed) {
                if socket.is_none() {
                    let path = netns::path(&root, &uid).ok().flatten();
                    socket = path.and_then(|path| PodNet::open(&path).ok()?.udp(port).ok());
                }
                for to in socket.iter().flat_map(|_| to) {
                    // Before it has an address, or once it has gone, nothing leaves.
                    socket.as_ref().map(|socket| socket.send_to(&id.to_be_bytes(), to).ok());
                }
                thread::sleep(Duration::from_millis(10));
            }
        };
        Ok(Self { id, stop, thread: Some(thread::spawn(send)) })
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // One that panicked sends nothing any more.
        self.thread.take().map(JoinHandle::join);
    }
}

/// What host-local gave last on a node: the files and what they say.
fn reserved(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<(String, String)>> {
    let folder = netns::node_root(cluster, node)?.join(RESERVED);
    let read = |index: usize| {
        let name = format!("last_reserved_ip.{index}");
        let text = fs::read_to_string(folder.join(&name)).with_context(|| format!("{node}: {name}"))?;
        // A block's upper half, which nothing else is given meanwhile.
        let start = match text.trim().parse::<IpAddr>().with_context(|| text.clone())? {
            IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4) & !0xff | 0x80).into(),
            IpAddr::V6(v6) => IpAddr::from(Ipv6Addr::from(u128::from(v6) & !0xffff | 0x8000)),
        };
        Ok((name, start.to_string()))
    };
    (0..2).map(read).collect()
}

/// Makes host-local begin again from there.
fn rewind(cluster: &Cluster, node: &str, base: &[(String, String)]) -> anyhow::Result<()> {
    let folder = netns::node_root(cluster, node)?.join(RESERVED);
    for (name, text) in base {
        fs::write(folder.join(name), text).with_context(|| format!("{node}: {name}"))?;
    }
    Ok(())
}
