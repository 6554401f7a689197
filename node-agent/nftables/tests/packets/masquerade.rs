//! Connections that leave the pools get the node's address.

use std::net::{IpAddr, UdpSocket};

use selvage_policy::compiled::{Family, Masquerade};

use crate::agent::Agent;
use crate::bed::{Addresses, Bed, FAMILIES, FAR_POD, Host, NODE, OUTSIDE};
use crate::probe::{PATIENCE, Token};
use crate::world::World;

const POOLS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];

/// What flannel does by itself.
const FLANNEL: &str = "
    table ip flannel { chain postrtg { type nat hook postrouting priority srcnat;
        ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 return;
        ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 counter masquerade fully-random; }; }
    table ip6 flannel { chain postrtg { type nat hook postrouting priority srcnat;
        ip6 saddr fd00:10:244::/48 ip6 daddr fd00:10:244::/48 return;
        ip6 saddr fd00:10:244::/48 ip6 daddr != ff00::/8 counter masquerade fully-random; }; }";

fn pools(nets: &[&str]) -> Vec<ipnet::IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// Sends a datagram, answers it, and gives the source that the other end saw.
fn source_seen(from: Host<'_>, to: Host<'_>, at: Addresses, family: Family) -> IpAddr {
    let server = to.namespace.run(|| UdpSocket::bind((at.of(family), 0)).unwrap());
    let client = from.namespace.run(|| UdpSocket::bind((from.addresses.of(family), 0)).unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let token = Token::new();
    client.send_to(token.bytes(), server.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 256];
    let (length, peer) = server.recv_from(&mut buffer).expect("the datagram");
    assert!(token.is_in(&buffer[..length]));
    server.send_to(token.bytes(), peer).unwrap();
    let (length, answerer) = client.recv_from(&mut buffer).expect("the answer");
    assert!(token.is_in(&buffer[..length]));
    assert_eq!(answerer, server.local_addr().unwrap(), "the answer comes back as from where it was sent to");
    peer.ip()
}

/// The sources seen of pod 0: outside, by a pod of another node, by a pod of this one.
fn sources(bed: &Bed, family: Family) -> [IpAddr; 3] {
    let (pod, next) = (bed.pod(0), bed.pod(1));
    [(bed.outside(), OUTSIDE), (bed.far_pod(), FAR_POD), (next, next.addresses)]
        .map(|(host, at)| source_seen(pod, host, at, family))
}

#[test]
fn what_leaves_the_pools_has_the_nodes_address() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    agent.apply(&world);
    let without = |family| [bed.pod(0).addresses.of(family); 3];
    let with = |family| {
        let own = bed.pod(0).addresses.of(family);
        [NODE.of(family), own, own]
    };
    for family in FAMILIES {
        assert_eq!(sources(&bed, family), without(family), "no pool, no masquerade");
    }
    world.policy.masquerade = Some(Masquerade { from: pools(&POOLS), inside: pools(&POOLS) });
    agent.apply(&world);
    for family in FAMILIES {
        assert_eq!(sources(&bed, family), with(family));
        let node = Host { addresses: NODE, ..bed.node() };
        let outside = source_seen(node, bed.outside(), OUTSIDE, family);
        assert_eq!(outside, NODE.of(family), "the node's own connections are as they were");
    }
    // A pool of one family leaves the other as it is; one that is not masqueraded is still inside.
    let narrow = ["10.244.1.0/24"];
    let inside = ["10.244.0.0/16", "192.0.2.0/24", "fd00:10:244::/48"];
    world.policy.masquerade = Some(Masquerade { from: pools(&narrow), inside: pools(&inside) });
    agent.apply(&world);
    for family in FAMILIES {
        assert_eq!(sources(&bed, family), without(family));
    }
    world.policy.masquerade = Some(Masquerade { from: pools(&narrow), inside: pools(&inside[..1]) });
    agent.apply(&world);
    assert_eq!(sources(&bed, Family::V4), with(Family::V4));
    assert_eq!(sources(&bed, Family::V6), without(Family::V6));
    world.policy.masquerade = None;
    agent.apply(&world);
    for family in FAMILIES {
        assert_eq!(sources(&bed, family), without(family), "the pool is gone");
    }
}

#[test]
fn flannels_own_masquerade_beside_it_changes_nothing() {
    let bed = Bed::new(2);
    bed.node.nft(FLANNEL);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    for masquerade in [None, Some(Masquerade { from: pools(&POOLS), inside: pools(&POOLS) }), None] {
        world.policy.masquerade = masquerade.clone();
        agent.apply(&world);
        for family in FAMILIES {
            let own = bed.pod(0).addresses.of(family);
            assert_eq!(sources(&bed, family), [NODE.of(family), own, own], "{masquerade:?}");
        }
    }
}
