//! A pod that poses as its neighbour: the table of the bridge family lets each port use its own addresses alone. Pod 0
//! attacks, pod 2 is who it claims to be, pod 1 is attacked and takes packets from pod 2 alone.

use std::net::{IpAddr, UdpSocket};

use selvage_nftables::model::Ruleset;
use selvage_nftables::render::bridge::{BridgeFacts, POSING, bridge};
use selvage_policy::compiled::Family;

use crate::agent::Agent;
use crate::bed::{BRIDGE_MAC, Bed, FAMILIES, FAR_POD, GATEWAY, Host, bound, pod_addresses, pod_mac};
use crate::connections::Connection;
use crate::locks::{Attack, Lock, without};
use crate::matrix::{Ask, check, no, yes};
use crate::probe::{GRACE, PATIENCE, Token, echo, listen, receives};
use crate::wire::{Route, Wire, next_segment, udp};
use crate::world::{Narrow, World, allow, host};

/// The rule that holds a port of which something is known to its addresses of this family.
pub fn bound_lock(family: Family) -> Lock {
    match family {
        Family::V4 => ("bound", "posing-ipv4"),
        Family::V6 => ("bound", "posing-ipv6"),
    }
}

/// The same for a port of which nothing is known.
fn unbound_lock(family: Family) -> Lock {
    ("unbound", bound_lock(family).1)
}

/// Three pods; pod 1 takes packets from pod 2 alone, and everybody may send anything.
pub fn judged() -> (Bed, Agent) {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    world.select(bed.pod(1), Some(vec![allow().from(host(bed.pod(2)))]), None);
    agent.apply(&world);
    (bed, agent)
}

/// A table of the bridge family under test.
pub struct Guard<'a> {
    bed: &'a Bed,
    agent: Agent,
    whole: Ruleset,
}

impl<'a> Guard<'a> {
    pub fn new(bed: &'a Bed, facts: &BridgeFacts) -> Self {
        Self { bed, agent: Agent::start_bridge(bed), whole: bridge(facts) }
    }

    /// Fails unless the locks, and nothing else, keep the attack out, each alone, and count it, and the chain of ports
    /// counts it for this port.
    pub fn closed_by(&mut self, what: &str, locks: &[Lock], port: &str, attack: &Attack<'_>) {
        self.agent.apply_ruleset(&without(&self.whole, locks));
        assert!(
            attack.works(),
            "{what}: closed without {locks:?}: something else closes it, or the attack is none"
        );
        for lock in locks {
            let others: Vec<Lock> = locks.iter().filter(|other| *other != lock).copied().collect();
            self.agent.apply_ruleset(&without(&self.whole, &others));
            let before = (self.agent.counted(lock.0, lock.1), self.agent.counted(POSING, port));
            assert!(attack.fails(self.bed, self.bed.pod(1)), "{what}: open with {lock:?} alone");
            let after = (self.agent.counted(lock.0, lock.1), self.agent.counted(POSING, port));
            assert!(after.0 > before.0 && after.1 > before.1, "{what}: {lock:?} {before:?} {after:?}");
        }
        self.agent.apply_ruleset(&self.whole);
        assert!(attack.fails(self.bed, self.bed.pod(1)), "{what}: open with the whole table");
    }

    /// Takes the table away.
    pub fn remove(self) {
        self.agent.remove();
    }
}

/// A frame from pod 0 to pod 1 in this name.
fn to_pod_1(from: IpAddr, family: Family) -> Route {
    Route { from_mac: pod_mac(0), to_mac: pod_mac(1), from, to: pod_addresses(1).of(family) }
}

#[test]
fn a_neighbours_address() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let mut guard = Guard::new(&bed, &bound(&[0, 1, 2]));
    for family in FAMILIES {
        let route = to_pod_1(pod_addresses(2).of(family), family);
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 54, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        guard.closed_by("to a neighbour", &[bound_lock(family)], "pod0", &attack);
    }
    check(&bed, &[yes(bed.pod(2), bed.pod(1), Ask::Ping), no(bed.pod(0), bed.pod(1), Ask::Ping)]);
}

#[test]
fn a_neighbours_address_by_a_port_that_is_not_known_yet() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let mut guard = Guard::new(&bed, &bound(&[1, 2]));
    for family in FAMILIES {
        let route = to_pod_1(pod_addresses(2).of(family), family);
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 54, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        guard.closed_by("to a neighbour", &[unbound_lock(family)], "unknown port", &attack);
    }
}

#[test]
fn a_neighbours_address_to_another_node() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(&bed.far, "uplink");
    let mut guard = Guard::new(&bed, &bound(&[0, 1, 2]));
    for family in FAMILIES {
        let (from, to) = (pod_addresses(2).of(family), FAR_POD.of(family));
        let route = Route { from_mac: pod_mac(0), to_mac: BRIDGE_MAC, from, to };
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 54, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        guard.closed_by("to another node", &[bound_lock(family)], "pod0", &attack);
    }
}

#[test]
fn a_neighbours_address_inside_its_open_flow() {
    let (bed, mut agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    // Nothing new passes: what arrives, arrives as part of the flow.
    let flows = FAMILIES.map(|family| {
        let [client, server] = [(2, 7000), (1, 7001)].map(|(pod, port): (usize, u16)| {
            let address = (pod_addresses(pod).of(family), port);
            bed.pod(pod).namespace.run(|| UdpSocket::bind(address).unwrap())
        });
        for (from, to) in [(&client, &server), (&server, &client)] {
            let token = Token::new();
            from.send_to(token.bytes(), to.local_addr().unwrap()).unwrap();
            assert!(receives(to, &token, PATIENCE));
        }
        (family, client, server)
    });
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    world.select(bed.pod(1), Some(vec![]), Some(vec![]));
    agent.apply(&world);
    let mut guard = Guard::new(&bed, &bound(&[0, 1, 2]));
    for (family, client, server) in &flows {
        let route = to_pod_1(pod_addresses(2).of(*family), *family);
        let datagram = Attack {
            send: &|token| sender.send(&udp(route, 7000, 7001, token.bytes())),
            arrives: &|token, patience| receives(server, token, patience),
        };
        guard.closed_by("into a UDP flow", &[bound_lock(*family)], "pod0", &datagram);
        let token = Token::new();
        client.send_to(token.bytes(), server.local_addr().unwrap()).unwrap();
        assert!(receives(server, &token, PATIENCE), "the flow itself");
    }
}

/// The segment is the next that the connection takes: once it has arrived, the true client's are not taken any more.
#[test]
fn a_neighbours_address_inside_its_open_connection() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let listener = listen(bed.pod(1).namespace, 80);
    let mut bridge_agent = Agent::start_bridge(&bed);
    let whole = bridge(&bound(&[0, 1, 2]));
    for family in FAMILIES {
        let [own, to] = [2, 1].map(|pod| pod_addresses(pod).of(family));
        let connection = Connection::open(bed.pod(2), own, &listener, to);
        let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
        let route = to_pod_1(own, family);
        let next = |token: &Token| {
            let port = connection.client_port().to_be_bytes();
            let mut next = None;
            connection.lives();
            receiver.finds(GRACE, |frame| {
                let ours = frame.windows(4).any(|ports| ports == [port[0], port[1], 0, 80]);
                next =
                    ours.then(|| next_segment(route, frame, token.bytes())).flatten().or_else(|| next.take());
                false
            });
            next.expect("a segment of the connection")
        };
        let attack = Attack {
            send: &|token| sender.send(&next(token)),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        bridge_agent.apply_ruleset(&whole);
        assert!(attack.fails(&bed, bed.pod(1)), "{family:?}");
        connection.lives();
        bridge_agent.apply_ruleset(&without(&whole, &[bound_lock(family)]));
        assert!(attack.works(), "{family:?}: something else closes it, or the attack is none");
    }
}

#[test]
fn a_neighbours_mac_address() {
    let (bed, _agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    // Pod 1 takes nothing from pod 0, and still the bridge would learn that pod 2 is behind pod 0's port: what is meant
    // for pod 2 then goes to pod 0.
    for known in [true, false] {
        let pods: &[usize] = if known { &[0, 1, 2] } else { &[1, 2] };
        let mut guard = Guard::new(&bed, &bound(pods));
        let lock = if known { ("bound", "posing-mac") } else { ("unbound", "posing-mac") };
        let port = if known { "pod0" } else { "unknown port" };
        for family in FAMILIES {
            let [own, to] = [0, 1].map(|pod| pod_addresses(pod).of(family));
            let forged = Route { from_mac: pod_mac(2), to_mac: pod_mac(1), from: own, to };
            let stolen = Route {
                from_mac: pod_mac(1),
                to_mac: pod_mac(2),
                from: pod_addresses(1).of(family),
                to: pod_addresses(2).of(family),
            };
            let other = Wire::attach(bed.pod(1).namespace, "eth0");
            let attack = Attack {
                send: &|token| {
                    // The bridge knows better at first.
                    assert!(echo(bed.pod(2).namespace, None, GATEWAY.of(family), PATIENCE));
                    sender.send(&udp(forged, 7000, 54, b"learn this"));
                    other.send(&udp(stolen, 7000, 54, token.bytes()));
                },
                arrives: &|token, patience| sender.sees(token, patience),
            };
            guard.closed_by("the bridge learns", &[lock], port, &attack);
        }
        guard.remove();
    }
}

#[test]
fn the_gateways_address() {
    let (bed, mut agent) = judged();
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    world.select(bed.pod(1), Some(vec![allow().from(host(Host { addresses: GATEWAY, ..bed.pod(2) }))]), None);
    // The guard of the other table stops it, too: here it is out of the way.
    agent
        .apply_ruleset(&without(&world.ruleset(), &[("guard", "guard-source"), ("from_pod", "unknown-pod")]));
    for pods in [&[0, 1, 2][..], &[]] {
        let mut guard = Guard::new(&bed, &bound(pods));
        for family in FAMILIES {
            let route = to_pod_1(GATEWAY.of(family), family);
            let attack = Attack {
                send: &|token| sender.send(&udp(route, 7000, 54, token.bytes())),
                arrives: &|token, patience| receiver.sees(token, patience),
            };
            let (lock, port) = match pods {
                [] => (unbound_lock(family), "unknown port"),
                _ => (bound_lock(family), "pod0"),
            };
            guard.closed_by("to a neighbour", &[lock], port, &attack);
        }
        guard.remove();
    }
}

/// What every pod needs still works where every port is bound.
#[test]
fn a_bound_pod_is_itself() {
    let (bed, mut agent) = judged();
    agent.apply(&World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]));
    let mut bridge_agent = Agent::start_bridge(&bed);
    bridge_agent.apply_ruleset(&bridge(&bound(&[0, 1, 2])));
    for pod in [0, 1, 2] {
        bed.pod(pod).namespace.ip(&["neigh flush dev eth0".to_owned()]);
    }
    bed.node.ip(&["neigh flush dev cni0".to_owned()]);
    let all = [bed.pod(0), bed.pod(1), bed.node(), bed.far_pod(), bed.outside()];
    let checks: Vec<_> = all
        .iter()
        .flat_map(|to| [yes(bed.pod(2), *to, Ask::Ping), yes(*to, bed.pod(2), Ask::Udp(53))])
        .collect();
    check(&bed, &checks);
    let reasons = [
        ("bound", "posing-mac"),
        ("bound", "posing-ipv4"),
        ("bound", "posing-ipv6"),
        ("target", "posing-nd"),
        ("neighbour", "posing-nd"),
        ("arp", "posing-arp"),
        (POSING, "unknown port"),
    ];
    for (chain, id) in reasons {
        assert_eq!(bridge_agent.counted(chain, id), 0, "{chain} {id}");
    }
}
