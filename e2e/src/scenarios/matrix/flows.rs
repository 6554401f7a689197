//! Flows and their fate.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Context;

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
/// How long one attempt waits: longer than the one second after which TCP sends its first packet again.
const PATIENCE: Duration = Duration::from_millis(1500);

/// Tries every flow once, and those that should pass and did not up to [`TRIES`] times. How many differ, with the first
/// few by name.
pub fn differences(world: &World, passes: &dyn Fn(&Flow) -> bool) -> anyhow::Result<String> {
    // A pod always reaches itself: that packet never leaves it.
    let passes = |flow: &Flow| flow.from == flow.to || passes(flow);
    let mut wrong: Vec<Flow> = all(world);
    let tried = wrong.len();
    for _ in 0..TRIES {
        let seen = attempt(world, &wrong)?;
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
pub fn settled(world: &World, passes: &dyn Fn(&Flow) -> bool) -> anyhow::Result<String> {
    let start = std::time::Instant::now();
    loop {
        let seen = differences(world, passes)?;
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

/// Whether each flow passes; all are tried at once, each from its source pod's network namespace.
fn attempt(world: &World, flows: &[Flow]) -> anyhow::Result<Vec<bool>> {
    let mut by_source: BTreeMap<Peer, Vec<usize>> = BTreeMap::new();
    for (index, flow) in flows.iter().enumerate() {
        by_source.entry(flow.from).or_default().push(index);
    }
    let mut seen = vec![false; flows.len()];
    let results = thread::scope(|scope| {
        let handles: Vec<_> = by_source
            .iter()
            .map(|(source, indices)| {
                let flows: Vec<Flow> =
                    indices.iter().filter_map(|index| flows.get(*index)).copied().collect();
                scope.spawn(move || from_pod(world, *source, &flows))
            })
            .collect();
        handles.into_iter().map(|handle| handle.join()).collect::<Vec<_>>()
    });
    for (indices, result) in by_source.values().zip(results) {
        let passed = result.map_err(|_| anyhow::anyhow!("a prober panicked"))??;
        for (index, passed) in indices.iter().zip(passed) {
            *seen.get_mut(*index).context("an unknown flow")? = passed;
        }
    }
    Ok(seen)
}

fn from_pod(world: &World, from: Peer, flows: &[Flow]) -> anyhow::Result<Vec<bool>> {
    let net = world.nets.get(&from).context("an unknown pod")?;
    // A thread starts in the namespace of the one that starts it.
    let tried = net.run(|| {
        thread::scope(|scope| {
            let handles: Vec<_> = flows.iter().map(|flow| scope.spawn(move || passes(flow))).collect();
            let joined = handles.into_iter().map(|handle| handle.join());
            Ok(joined
                .map(|seen| seen.unwrap_or_else(|_| Err(io::Error::other("a prober panicked"))))
                .collect())
        })
    });
    let tried: Vec<io::Result<bool>> = tried?;
    tried.into_iter().collect::<io::Result<_>>().with_context(|| format!("a probe from {from:?}"))
}

/// One attempt: a TCP connection, or a question that agnhost's UDP echo answers.
fn passes(flow: &Flow) -> io::Result<bool> {
    let port = match flow.service {
        Service::Tcp80 | Service::Udp80 => 80,
        Service::Tcp81 => 81,
    };
    let to = SocketAddr::new(flow.address, port);
    let answer = match flow.service {
        Service::Tcp80 | Service::Tcp81 => TcpStream::connect_timeout(&to, PATIENCE).map(drop),
        Service::Udp80 => ask(to),
    };
    match answer {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn ask(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send_to(b"hostname\n", to)?;
    socket.recv(&mut [0; 64]).map(drop)
}
