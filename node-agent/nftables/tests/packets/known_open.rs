//! What is known to be open until the table of the bridge family binds addresses to ports, and what it must hold then.
//! It needs a raw socket in a pod, and a victim on the same node. When a test here fails because the packet no longer
//! arrives, the documents that name the hole are out of date.

use std::net::IpAddr;

use selvage_policy::compiled::Family;

use crate::agent::Agent;
use crate::bed::{Bed, FAMILIES, pod_mac};
use crate::locks::Attack;
use crate::matrix::{Ask, check, no, yes};
use crate::wire::{Route, Wire, udp};
use crate::world::{Narrow, World, allow, host};

/// A frame from pod 0 to pod 1.
fn route(bed: &Bed, from: IpAddr, family: Family) -> Route {
    Route { from_mac: pod_mac(0), to_mac: pod_mac(1), from, to: bed.pod(1).addresses.of(family) }
}

/// Identity is the source address, and the guard asks only whether it is some endpoint's of this node.
#[test]
fn a_pod_can_pose_as_its_neighbour() {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    world.select(bed.pod(1), Some(vec![allow().from(host(bed.pod(2)))]), None);
    agent.apply(&world);
    let sender = Wire::attach(bed.pod(0).namespace, "eth0");
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    for family in FAMILIES {
        let route = route(&bed, bed.pod(2).addresses.of(family), family);
        let attack = Attack {
            send: &|token| sender.send(&udp(route, 7000, 54, token.bytes())),
            arrives: &|token, patience| receiver.sees(token, patience),
        };
        assert!(attack.works());
        let own = bed.pod(0).addresses;
        remedy(
            &bed,
            &format!("iifname pod0 ip saddr != {} drop\niifname pod0 ip6 saddr != {} drop", own.v4, own.v6),
        );
        assert!(attack.fails(&bed, bed.pod(1)));
        check(&bed, &[yes(bed.pod(2), bed.pod(1), Ask::Ping), no(bed.pod(0), bed.pod(1), Ask::Ping)]);
        bed.node.nft("delete table bridge remedy\n");
    }
}

/// A table of the bridge family with these rules in front of everything.
fn remedy(bed: &Bed, rules: &str) {
    bed.node.nft(&format!(
        "table bridge remedy {{
           chain guard {{
             type filter hook prerouting priority -300
             {rules}
           }}
         }}
        "
    ));
}
