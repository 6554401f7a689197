//! Ending the connections of an address.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};

use selvage_nftables::netlink::conntrack::Conntrack;

use crate::netns::Namespace;

/// The kernel's table is one for all namespaces: thousands of entries in one test are load for the others.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts tracking: without a rule that asks, the kernel tracks nothing.
fn tracking() -> Namespace {
    let namespace = Namespace::new();
    namespace
        .nft("table inet track { chain c { type filter hook output priority 0; ct state new accept; }; }");
    let addresses = (1..=4).flat_map(|n| {
        [format!("addr add 10.0.0.{n}/32 dev lo"), format!("addr add fd00::{n}/128 dev lo nodad")]
    });
    namespace.ip(&addresses.collect::<Vec<_>>());
    namespace
}

fn talk(namespace: &Namespace, from: &str, to: &str) {
    namespace.run(|| {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        // One port, so that the same once more is the same connection.
        let socket = UdpSocket::bind((from, 4000)).unwrap();
        socket.send_to(b"hello", (to, 9)).unwrap();
    });
}

/// The source and destination of every tracked connection, by the `conntrack` program. The kernel's table is one for all
/// namespaces, and a listing can miss entries while others change it: two in a row must agree.
fn tracked(namespace: &Namespace) -> Vec<String> {
    let mut before = list(namespace);
    for _ in 0..100 {
        let now = list(namespace);
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("listings never agree");
}

fn list(namespace: &Namespace) -> Vec<String> {
    let mut all = Vec::new();
    for family in ["ipv4", "ipv6"] {
        let listing = namespace.command("conntrack", &["-L", "-p", "udp", "-f", family], "");
        all.extend(listing.lines().map(|line| {
            let field = |name| line.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
            format!("{} {}", field("src="), field("dst="))
        }));
    }
    all.sort();
    all
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

#[test]
fn only_the_connections_of_the_address_end() {
    let _turn = turn();
    let namespace = tracking();
    let pairs = [
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.2", "10.0.0.3"),
        ("10.0.0.3", "10.0.0.1"),
        ("10.0.0.3", "10.0.0.4"),
        ("fd00::1", "fd00::2"),
        ("fd00::3", "fd00::4"),
    ];
    // Under load a first packet was seen to leave no entry.
    for _ in 0..20 {
        pairs.iter().for_each(|(from, to)| talk(&namespace, from, to));
        if tracked(&namespace).len() == pairs.len() {
            break;
        }
    }
    assert_eq!(tracked(&namespace).len(), pairs.len());
    let mut conntrack = namespace.run(Conntrack::open).unwrap();
    assert_eq!(conntrack.delete(&addresses(&[])).unwrap(), 0);
    assert_eq!(conntrack.delete(&addresses(&["10.0.0.9", "fd00::9"])).unwrap(), 0);
    assert_eq!(conntrack.delete(&addresses(&["10.0.0.1"])).unwrap(), 2);
    assert_eq!(
        tracked(&namespace),
        ["10.0.0.2 10.0.0.3", "10.0.0.3 10.0.0.4", "fd00::1 fd00::2", "fd00::3 fd00::4"]
    );
    assert_eq!(conntrack.delete(&addresses(&["10.0.0.2", "fd00::4"])).unwrap(), 2);
    assert_eq!(tracked(&namespace).len(), 2);
}

#[test]
fn the_address_behind_a_service_is_found_by_the_reply() {
    let _turn = turn();
    let namespace = tracking();
    namespace.nft("table ip nat { chain o { type nat hook output priority -100; ip daddr 10.96.0.1 dnat to 10.0.0.2; }; }");
    namespace.ip(&["route add 10.96.0.1/32 dev lo".to_owned()]);
    talk(&namespace, "10.0.0.1", "10.96.0.1");
    assert_eq!(tracked(&namespace), ["10.0.0.1 10.96.0.1"]);
    let mut conntrack = namespace.run(Conntrack::open).unwrap();
    assert_eq!(conntrack.delete(&addresses(&["10.0.0.2"])).unwrap(), 1);
    assert_eq!(tracked(&namespace), Vec::<String>::new());
}

#[test]
fn thousands_of_connections_of_one_address_end() {
    let _turn = turn();
    let namespace = tracking();
    namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        for port in 10_000..13_000 {
            socket.send_to(b"hello", ("10.0.0.2", port)).unwrap();
        }
    });
    talk(&namespace, "10.0.0.3", "10.0.0.4");
    let mut conntrack = namespace.run(Conntrack::open).unwrap();
    assert_eq!(conntrack.delete(&addresses(&["10.0.0.2"])).unwrap(), 3_000);
    assert_eq!(tracked(&namespace), ["10.0.0.3 10.0.0.4"]);
}
