//! An address that changes hands while a connection of its last holder is open.

use std::net::UdpSocket;

use crate::agent::Agent;
use crate::bed::{Bed, FAMILIES, FAR_POD};
use crate::locks::Attack;
use crate::probe::{PATIENCE, Token, receives};
use crate::wire::Wire;
use crate::world::World;

#[test]
fn a_new_pod_does_not_inherit_connections() {
    show(true);
}

#[test]
fn without_the_deletion_a_new_pod_inherits_connections() {
    show(false);
}

/// Pod 1 and a pod of another node have talked; pod 1 ends, and pod 2, which is closed, gets its addresses.
fn show(delete: bool) {
    let mut bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let addresses = bed.pod(1).addresses;
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    agent.apply(&world);
    let far = FAMILIES.map(|family| bed.far.run(|| UdpSocket::bind((FAR_POD.of(family), 7001)).unwrap()));
    for (family, far) in FAMILIES.iter().zip(&far) {
        let old = (addresses.of(*family), 7002);
        let socket = bed.pod(1).namespace.run(|| UdpSocket::bind(old).unwrap());
        let token = Token::new();
        far.send_to(token.bytes(), old).unwrap();
        assert!(receives(&socket, &token, PATIENCE));
        socket.send_to(token.bytes(), (FAR_POD.of(*family), 7001)).unwrap();
        assert!(receives(far, &token, PATIENCE));
    }

    world.remove("pod 1");
    agent.apply(&world);
    bed.remove_pod(1);
    if delete {
        assert!(agent.forget_connections(&bed, &addresses.both()) >= 2, "an entry in each family");
    }
    let heir = bed.add_pod(addresses);
    let heir = bed.pod(heir);
    world.add(heir.name, addresses);
    world.select(heir, Some(vec![]), Some(vec![]));
    agent.apply(&world);
    bed.wait_until_reachable(heir);

    let wire = Wire::attach(heir.namespace, "eth0");
    for (family, far) in FAMILIES.iter().zip(&far) {
        let (own, theirs) = ((addresses.of(*family), 7002), (FAR_POD.of(*family), 7001));
        let socket = heir.namespace.run(|| UdpSocket::bind(own).unwrap());
        let incoming = Attack {
            send: &|token| {
                far.send_to(token.bytes(), own).unwrap();
            },
            arrives: &|token, patience| wire.sees(token, patience),
        };
        let outgoing = Attack {
            send: &|token| {
                socket.send_to(token.bytes(), theirs).unwrap();
            },
            arrives: &|token, patience| receives(far, token, patience),
        };
        for attack in [incoming, outgoing] {
            match delete {
                true => {
                    assert!(attack.fails(&bed, heir), "the new pod has inherited a connection, {family:?}")
                }
                false => assert!(attack.works(), "this is no longer a hole, {family:?}"),
            }
        }
    }
}
