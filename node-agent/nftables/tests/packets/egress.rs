//! What a pod may reach: pods of its own node over the bridge, its own node, and everything beyond.

use selvage_policy::compiled::{End, Member, Service};

use crate::agent::Agent;
use crate::bed::{Bed, OUTSIDE};
use crate::matrix::{Ask, TCP, UDP, check, no, yes};
use crate::probe::listen;
use crate::world::{Narrow, World, allow, host, members, nets, not, ports};

const ALL: [Ask; 5] = [Ask::Tcp(80), Ask::Tcp(81), Ask::Udp(53), Ask::Sctp(9), Ask::Ping];

#[test]
fn deny_all_leaves_nothing_not_even_the_own_node() {
    let bed = Bed::new(2);
    let _servers = [bed.pod(1).namespace, &bed.node, &bed.far].map(|namespace| listen(namespace, 80));
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(0), None, Some(vec![]));
    agent.apply(&world);
    let to = [bed.pod(1), bed.node(), bed.node_uplink(), bed.far_node(), bed.far_pod(), bed.outside()];
    let mut checks: Vec<_> = to.iter().flat_map(|to| ALL.map(|ask| no(bed.pod(0), *to, ask))).collect();
    // The other direction is not touched, nor is anybody else.
    for from in [bed.pod(1), bed.node(), bed.far_pod(), bed.outside()] {
        checks.extend([Ask::Tcp(80), Ask::Udp(53), Ask::Ping].map(|ask| yes(from, bed.pod(0), ask)));
    }
    checks.extend(to[1..].iter().map(|to| yes(bed.pod(1), *to, Ask::Tcp(80))));
    check(&bed, &checks);
}

#[test]
fn a_group_and_a_block_may_be_reached() {
    let bed = Bed::new(3);
    let _servers =
        [bed.pod(1).namespace, bed.pod(2).namespace, &bed.far].map(|namespace| listen(namespace, 80));
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    let group = world.group_of(&[bed.pod(1), bed.far_pod()]);
    let outside = [format!("{}/24", OUTSIDE.v4), format!("{}/64", OUTSIDE.v6)];
    let outside = nets(&outside.each_ref().map(String::as_str));
    let rules = vec![
        allow().to(members(group)).on(ports(TCP, 80, 80)),
        allow().to(outside.clone()).on(ports(UDP, 50, 59)),
        allow().to(nets(&["0.0.0.0/0", "::/0"])).to(not(outside)).on(ports(UDP, 123, 123)),
    ];
    world.select(bed.pod(0), None, Some(rules));
    agent.apply(&world);
    let from = bed.pod(0);
    let checks = [
        yes(from, bed.pod(1), Ask::Tcp(80)),
        yes(from, bed.far_pod(), Ask::Tcp(80)),
        no(from, bed.pod(2), Ask::Tcp(80)),
        no(from, bed.pod(1), Ask::Tcp(81)),
        no(from, bed.far_node(), Ask::Tcp(80)),
        yes(from, bed.outside(), Ask::Udp(50)),
        yes(from, bed.outside(), Ask::Udp(59)),
        no(from, bed.outside(), Ask::Udp(60)),
        no(from, bed.far_pod(), Ask::Udp(50)),
        no(from, bed.outside(), Ask::Udp(123)),
        yes(from, bed.far_pod(), Ask::Udp(123)),
        yes(from, bed.pod(2), Ask::Udp(123)),
        // The node is an address like others.
        yes(from, bed.node(), Ask::Udp(123)),
        no(from, bed.node(), Ask::Tcp(80)),
        no(from, bed.outside(), Ask::Ping),
    ];
    check(&bed, &checks);
}

#[test]
fn the_own_node_is_reached_where_a_rule_names_it() {
    let bed = Bed::new(1);
    let _server = listen(&bed.node, 80);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0)]);
    world.select(bed.pod(0), None, Some(vec![allow().to(host(bed.node_uplink())).on(ports(TCP, 80, 80))]));
    agent.apply(&world);
    let from = bed.pod(0);
    let checks = [
        yes(from, bed.node_uplink(), Ask::Tcp(80)),
        no(from, bed.node_uplink(), Ask::Tcp(81)),
        no(from, bed.node_uplink(), Ask::Ping),
        no(from, bed.node(), Ask::Tcp(80)),
    ];
    check(&bed, &checks);
}

#[test]
fn named_ports_of_peers_are_address_protocol_and_port_together() {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    let member = |to: crate::bed::Host<'_>, protocol, port| {
        to.addresses.both().map(|address| Member::Port(address, protocol, port))
    };
    let (one, two, far) = (bed.pod(1), bed.pod(2), bed.far_pod());
    let group = world.group(
        [member(one, TCP, 8080), member(two, TCP, 9090), member(two, UDP, 53), member(far, TCP, 7070)]
            .concat(),
    );
    world.select(
        bed.pod(0),
        None,
        Some(vec![allow().on(Service::Group { group, end: End::Destination, negated: false })]),
    );
    agent.apply(&world);
    let from = bed.pod(0);
    let checks = [
        yes(from, one, Ask::Tcp(8080)),
        yes(from, two, Ask::Tcp(9090)),
        yes(from, two, Ask::Udp(53)),
        yes(from, far, Ask::Tcp(7070)),
        no(from, one, Ask::Tcp(9090)),
        no(from, two, Ask::Tcp(8080)),
        no(from, one, Ask::Udp(53)),
        no(from, two, Ask::Tcp(53)),
        no(from, far, Ask::Tcp(8080)),
        no(from, far, Ask::Udp(7070)),
        no(from, two, Ask::Ping),
    ];
    check(&bed, &checks);
}

#[test]
fn on_one_node_both_directions_are_asked() {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    world.select(bed.pod(0), None, Some(vec![allow().to(host(bed.pod(2))).on(ports(UDP, 1, 2))]));
    world.select(bed.pod(2), Some(vec![allow().from(host(bed.pod(0))).on(ports(UDP, 2, 3))]), None);
    agent.apply(&world);
    let (from, to) = (bed.pod(0), bed.pod(2));
    let checks = [
        no(from, to, Ask::Udp(1)),
        yes(from, to, Ask::Udp(2)),
        no(from, to, Ask::Udp(3)),
        no(bed.pod(1), to, Ask::Udp(2)),
        no(from, bed.pod(1), Ask::Udp(2)),
    ];
    check(&bed, &checks);
}
