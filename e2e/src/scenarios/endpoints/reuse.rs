//! Addresses that go from one pod to another: nothing of what the first one could do goes with them.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use selvage_e2e::{Node, wait_for};

use super::{Attempt, PORT, SETTLED, SPACE, World, finished as wait_finished, pod, ready, scripted};
use crate::netns::{self, PodNet, both_families};
use crate::probe::Seen;

/// Where host-local keeps who has which address on a node with flannel.
const RESERVED: &str = "var/lib/cni/networks/cbr0";
/// Both ends of a UDP conversation, which is known by its addresses and ports alone.
const CALLER: u16 = 7001;
const CALLED: u16 = 7002;
/// Ends when it is told to, with the status that it is told.
const WAITS: &str = "while [ ! -e /end ]; do sleep 0.1; done; exit $(cat /end)";

/// A pod that has finished is neither peer nor subject any more, though its object keeps its addresses.
pub(super) fn finished(world: &mut World<'_>) -> anyhow::Result<()> {
    let cluster = world.cluster;
    let near = world.near.clone();
    let pods = [("succeeds", "friend", "0", "Succeeded"), ("fails", "server", "1", "Failed")];
    for (name, role, _, _) in pods {
        cluster.apply(SPACE, &scripted(name, &near.name, role, WAITS).to_string())?;
    }
    let before = [ready(cluster, SPACE, "succeeds")?, ready(cluster, SPACE, "fails")?];
    let server = world.server.clone();
    let what = "a friend that will finish -> the server";
    world.see(
        "done",
        SETTLED,
        &[Attempt { what, from: &before[0], to: &server, expected: Seen::Answered }],
    )?;
    for (name, _, status, phase) in pods {
        let end = format!("echo {status} >/end");
        cluster.kubectl_ok(&["exec", "--namespace", SPACE, name, "--", "sh", "-c", &end])?;
        wait_finished(cluster, name, phase)?;
    }
    let [friend, subject] = before.map(|net| net.addresses);
    let heir = inherit(world, &near, "heir-of-a-friend", &friend)?;
    let what = "a stranger with a finished friend's address -> the server";
    world.see("done", 0, &[Attempt { what, from: &heir, to: &server, expected: Seen::TimedOut }])?;
    let heir = inherit(world, &near, "heir-of-a-server", &subject)?;
    let stranger = world.stranger.clone();
    let what = "the stranger -> a free pod with a finished server's address";
    world.see("done", 0, &[Attempt { what, from: &stranger, to: &heir, expected: Seen::Answered }])
}

/// Open connections of a friend are not its address's next owner's.
pub(super) fn address_changes_hands(world: &mut World<'_>) -> anyhow::Result<()> {
    let cluster = world.cluster;
    let near = world.near.clone();
    cluster.apply(SPACE, &pod("first", &near.name, "friend").to_string())?;
    let first = ready(cluster, SPACE, "first")?;
    let called = world.server.udp(CALLED)?;
    called.set_read_timeout(Some(Duration::from_millis(100)))?;
    let caller = first.udp(CALLER)?;
    let mut open = Vec::new();
    for (ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
        let to = both_families(world.server.address(ipv6)?, CALLED);
        wait_for("both ways of a UDP conversation", SETTLED, || {
            converse(&caller, &called, to).map_err(|error| error.to_string())
        })?;
        open.push(first.connect_within(SocketAddr::new(world.server.address(ipv6)?, PORT), SETTLED)?);
        let known = connections(world, &near, first.address(ipv6)?)?;
        let (what, seen) =
            (format!("a friend's connections are known, {family}"), if known > 0 { "yes" } else { "no" });
        world.table.row("reuse", &what, "yes", seen);
    }
    drop(caller);
    let addresses = first.addresses.clone();
    cluster.kubectl_ok(&["delete", "pod", "--namespace", SPACE, "first", "--wait"])?;
    let second = inherit(world, &near, "second", &addresses)?;
    for (ipv6, family) in [(false, "IPv4"), (true, "IPv6")] {
        let left = connections(world, &near, second.address(ipv6)?)?;
        let what = format!("connections that the next owner finds, {family}");
        world.table.row("reuse", &what, "0", &left.to_string());
        let arrived = send(&second, &called, both_families(world.server.address(ipv6)?, CALLED))?;
        let what = format!("its datagrams on the friend's connection that arrive, {family}");
        world.table.row("reuse", &what, "0", &arrived.to_string());
    }
    let server = world.server.clone();
    let what = "the next owner of a friend's address -> the server";
    world.see("reuse", 0, &[Attempt { what, from: &second, to: &server, expected: Seen::TimedOut }])?;
    // The same would have passed, had it been let in: what was seen is the policy's doing.
    world.label_pod("second", "role=friend")?;
    let what = "the same, labelled friend";
    world.see("reuse", SETTLED, &[Attempt { what, from: &second, to: &server, expected: Seen::Answered }])?;
    let arrived = send(&second, &called, both_families(server.address(false)?, CALLED))?;
    let seen = if arrived > 0 { "arrive" } else { "none" };
    world.table.row("reuse", "its datagrams, labelled friend", "arrive", seen);
    drop(open);
    Ok(())
}

/// A pod that nothing selects and nobody lets in, with these addresses: host-local gives the one after the last that it
/// gave, and is told which that was.
fn inherit(world: &World<'_>, node: &Node, name: &str, addresses: &[IpAddr]) -> anyhow::Result<PodNet> {
    let folder = netns::node_root(world.cluster, &node.name)?.join(RESERVED);
    for (index, address) in addresses.iter().enumerate() {
        wait_for(&format!("{address} to be free"), 60, || {
            if folder.join(address.to_string()).exists() { Err("taken".to_owned()) } else { Ok(()) }
        })?;
        let path = folder.join(format!("last_reserved_ip.{index}"));
        fs::write(&path, before(*address).to_string()).with_context(|| path.display().to_string())?;
    }
    world.cluster.apply(SPACE, &pod(name, &node.name, "stranger").to_string())?;
    let heir = ready(world.cluster, SPACE, name)?;
    ensure!(heir.addresses == addresses, "{name} has {:?}, not {addresses:?}", heir.addresses);
    Ok(heir)
}

fn before(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_sub(1)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6).wrapping_sub(1)).into(),
    }
}

/// A word and its answer, so that conntrack takes the conversation for established.
fn converse(caller: &UdpSocket, called: &UdpSocket, to: SocketAddr) -> io::Result<()> {
    caller.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut word = [0; 8];
    caller.send_to(b"hello", to)?;
    let (_, from) = called.recv_from(&mut word)?;
    called.send_to(b"answer", from)?;
    caller.recv(&mut word).map(drop)
}

/// Sends from the caller's port for a second, and returns how many arrive.
fn send(from: &PodNet, called: &UdpSocket, to: SocketAddr) -> anyhow::Result<usize> {
    let caller = from.udp(CALLER)?;
    let (start, mut arrived) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(1) {
        caller.send_to(b"again", to)?;
        // Waits a tenth of a second for what should not come.
        if called.recv(&mut [0; 8]).is_ok() {
            arrived += 1;
        }
    }
    Ok(arrived)
}

/// How many connections of an address its node knows.
fn connections(world: &World<'_>, node: &Node, address: IpAddr) -> anyhow::Result<usize> {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    let words = ["conntrack", "--dump", "--family", family, "--orig-src", &address.to_string()];
    let seen = world.cluster.require_bed()?.node_exec(&node.name, &words)?;
    ensure!(seen.success(), "conntrack on {}: {}", node.name, seen.stderr);
    Ok(seen.stdout.lines().count())
}
