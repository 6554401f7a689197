//! What pods send from the first instant of their first container: none of it may arrive where a policy forbids it.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{SPACE, World, finished, pod, ready, scripted};

/// How many pods start at once.
const PODS: usize = 20;
const TCP: u16 = 9101;
const UDP: u16 = 9102;

/// What has arrived.
#[derive(Default)]
struct Arrived {
    connections: AtomicUsize,
    datagrams: AtomicUsize,
    stop: AtomicBool,
}

/// Half of the pods send from an init container, half from their own; half are on the server's node.
pub(super) fn run(world: &mut World<'_>) -> anyhow::Result<()> {
    let cluster = world.cluster;
    let selected = json!({ "matchLabels": { "role": "early" } });
    world.policy("mute", json!({ "podSelector": selected, "policyTypes": ["Egress"] }))?;
    cluster.apply(SPACE, &pod("sink", &world.near.name, "sink").to_string())?;
    let sink = ready(cluster, SPACE, "sink")?;
    let (v4, v6) = (sink.address(false)?, sink.address(true)?);
    let script = format!(
        "for i in 1 2 3; do for to in '--protocol=udp {v4}:{UDP}' '--protocol=tcp {v4}:{TCP}' \
         '--protocol=udp [{v6}]:{UDP}' '--protocol=tcp [{v6}]:{TCP}'; \
         do /agnhost connect --timeout=200ms $to; done; done; true"
    );
    let (listener, datagrams) = (sink.listen(TCP)?, sink.udp(UDP)?);
    listener.set_nonblocking(true)?;
    datagrams.set_nonblocking(true)?;
    let arrived = Arrived::default();
    thread::scope(|scope| {
        scope.spawn(|| arrived.count(&listener, &datagrams));
        let seen = start_all(world, &script, &arrived);
        arrived.stop.store(true, Ordering::Relaxed);
        seen
    })
}

fn start_all(world: &mut World<'_>, script: &str, arrived: &Arrived) -> anyhow::Result<()> {
    let nodes = [world.near.name.clone(), world.far.name.clone()];
    let mut names = Vec::new();
    for (number, node) in (0..PODS).zip(nodes.iter().cycle()) {
        let name = format!("early-{number}");
        let mut pod = scripted(&name, node, "early", script);
        if number % 4 >= 2 {
            let spec = &mut pod["spec"];
            spec["initContainers"] = spec["containers"].clone();
            spec["initContainers"][0]["name"] = json!("init");
            spec["containers"][0]["command"] = json!(["sh", "-c", "true"]);
        }
        names.push((name, pod));
    }
    let list = json!({
        "apiVersion": "v1", "kind": "List", "items": names.iter().map(|(_, pod)| pod).collect::<Vec<_>>(),
    });
    world.cluster.apply(SPACE, &list.to_string())?;
    for (name, _) in &names {
        finished(world.cluster, name, "Succeeded")?;
    }
    let (connections, datagrams) = arrived.so_far();
    let what = format!("connections of {PODS} muted pods' first moments that are made");
    world.table.row("first", &what, "0", &connections.to_string());
    let what = format!("datagrams of {PODS} muted pods' first moments that arrive");
    world.table.row("first", &what, "0", &datagrams.to_string());
    // The same from pods that may: all of it would have been seen.
    world.cluster.apply(SPACE, &scripted("free", &nodes[1], "free", script).to_string())?;
    finished(world.cluster, "free", "Succeeded")?;
    let (connections, datagrams) = arrived.so_far();
    let seen = if connections > 0 && datagrams > 0 { "arrives" } else { "nothing" };
    world.table.row("first", "the same from a pod that nothing mutes", "arrives", seen);
    Ok(())
}

impl Arrived {
    fn count(&self, listener: &TcpListener, datagrams: &UdpSocket) {
        while !self.stop.load(Ordering::Relaxed) {
            let connected = listener.accept().is_ok();
            self.connections.fetch_add(usize::from(connected), Ordering::Relaxed);
            let received = answer(datagrams).is_ok();
            self.datagrams.fetch_add(usize::from(received), Ordering::Relaxed);
            if !connected && !received {
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn so_far(&self) -> (usize, usize) {
        (self.connections.load(Ordering::Relaxed), self.datagrams.load(Ordering::Relaxed))
    }
}

fn answer(socket: &UdpSocket) -> io::Result<()> {
    let (_, from) = socket.recv_from(&mut [0; 64])?;
    socket.send_to(b"heard", from).map(drop)
}
