//! What may reach a pod: from its own node's pods over the bridge, and routed from everywhere else.

use std::collections::{BTreeMap, BTreeSet};

use selvage_policy::compiled::{Action, NamedPort, Profile, TierStep};

use crate::agent::Agent;
use crate::bed::{Bed, FAMILIES, OUTSIDE};
use crate::matrix::{Ask, SCTP, TCP, UDP, check, no, yes};
use crate::probe::{Attempt, GRACE, PATIENCE, Tcp, listen};
use crate::world::{Narrow, World, allow, host, members, named, nets, not, ports, protocol, rule};

const ALL: [Ask; 5] = [Ask::Tcp(80), Ask::Tcp(81), Ask::Udp(53), Ask::Sctp(9), Ask::Ping];

#[test]
fn a_pod_that_nothing_selects_is_open() {
    let bed = Bed::new(2);
    let _server = listen(bed.pod(1).namespace, 80);
    let mut agent = Agent::start(&bed);
    agent.apply(&World::of(&[bed.pod(0), bed.pod(1)]));
    let from = [bed.pod(0), bed.node(), bed.far_node(), bed.far_pod(), bed.outside()];
    let checks: Vec<_> = from.iter().flat_map(|from| ALL.map(|ask| yes(*from, bed.pod(1), ask))).collect();
    check(&bed, &checks);
}

#[test]
fn deny_all_leaves_only_the_node() {
    let bed = Bed::new(2);
    let _server = listen(bed.pod(1).namespace, 80);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(1), Some(vec![]), None);
    agent.apply(&world);
    let denied = [bed.pod(0), bed.far_node(), bed.far_pod(), bed.outside()];
    let mut checks: Vec<_> =
        denied.iter().flat_map(|from| ALL.map(|ask| no(*from, bed.pod(1), ask))).collect();
    checks.extend(ALL.map(|ask| yes(bed.node(), bed.pod(1), ask)));
    // The other direction and the other pod are not touched.
    for to in [bed.pod(0), bed.far_pod(), bed.outside()] {
        checks.extend(ALL.map(|ask| yes(bed.pod(1), to, ask)));
    }
    check(&bed, &checks);
}

#[test]
fn a_closed_port_answers_refused_where_allowed_and_hangs_where_denied() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(1), Some(vec![allow().on(ports(TCP, 81, 81))]), None);
    agent.apply(&world);
    for family in FAMILIES {
        for from in [bed.pod(0), bed.far_pod()] {
            let source = Some(from.addresses.of(family));
            let to = |port| (bed.pod(1).addresses.of(family), port).into();
            let denied = Attempt::start(from.namespace, source, to(82));
            let allowed = Attempt::start(from.namespace, source, to(81));
            assert_eq!(allowed.outcome(PATIENCE), Tcp::Refused, "{} {family:?}", from.name);
            assert_eq!(denied.outcome(GRACE), Tcp::Silent, "{} {family:?}", from.name);
        }
    }
}

#[test]
fn a_group_lets_its_members_in() {
    let bed = Bed::new(3);
    let _server = listen(bed.pod(2).namespace, 80);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    let group = world.group_of(&[bed.pod(0), bed.far_pod()]);
    world.select(bed.pod(2), Some(vec![allow().from(members(group))]), None);
    agent.apply(&world);
    let mut checks = Vec::new();
    for ask in ALL {
        checks.extend([bed.pod(0), bed.far_pod()].map(|from| yes(from, bed.pod(2), ask)));
        checks.extend([bed.pod(1), bed.far_node(), bed.outside()].map(|from| no(from, bed.pod(2), ask)));
    }
    check(&bed, &checks);
}

#[test]
fn a_group_change_takes_effect_member_by_member() {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let pods = [bed.pod(0), bed.pod(1), bed.pod(2)];
    let with = |hosts: &[_]| {
        let mut world = World::of(&pods);
        let group = world.group_of(hosts);
        world.select(bed.pod(2), Some(vec![allow().from(members(group))]), None);
        world
    };
    let ask = Ask::Udp(53);
    agent.apply(&with(&[bed.pod(0)]));
    check(&bed, &[yes(bed.pod(0), bed.pod(2), ask), no(bed.pod(1), bed.pod(2), ask)]);
    agent.apply(&with(&[bed.pod(0), bed.pod(1)]));
    check(&bed, &[yes(bed.pod(0), bed.pod(2), ask), yes(bed.pod(1), bed.pod(2), ask)]);
    agent.apply(&with(&[bed.pod(1)]));
    check(&bed, &[no(bed.pod(0), bed.pod(2), ask), yes(bed.pod(1), bed.pod(2), ask)]);
}

#[test]
fn an_ip_block_lets_its_addresses_in_but_for_the_excepted() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    // Everything but the outside host, and, from another block, the far pod's network but for the far pod.
    let outside = [format!("{}/32", OUTSIDE.v4), format!("{}/128", OUTSIDE.v6)];
    let but = nets(&outside.each_ref().map(String::as_str));
    world.select(
        bed.pod(1),
        Some(vec![
            allow().from(nets(&["192.0.0.0/8", "2000::/3", "10.244.1.16/30"])).from(not(but)),
            allow().from(nets(&["10.244.2.0/24", "fd00:10:244:2::/64"])).from(not(host(bed.far_pod()))),
        ]),
        None,
    );
    agent.apply(&world);
    let ask = Ask::Udp(53);
    check(&bed, &[no(bed.outside(), bed.pod(1), ask), no(bed.far_pod(), bed.pod(1), ask)]);
    // The block looks at the address alone, pods too, in its own family.
    use crate::matrix::check_family;
    use selvage_policy::compiled::Family;
    let v4 = [yes(bed.pod(0), bed.pod(1), ask), yes(bed.far_node(), bed.pod(1), ask)];
    let v6 = [no(bed.pod(0), bed.pod(1), ask), no(bed.far_node(), bed.pod(1), ask)];
    check_family(&bed, Family::V4, &v4);
    check_family(&bed, Family::V6, &v6);
}

#[test]
fn ports_and_protocols_select() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    let services = [ports(TCP, 80, 80), ports(TCP, 8000, 8010), ports(UDP, 53, 53), ports(SCTP, 9, 9)];
    let rules = services.into_iter().map(|service| allow().on(service)).collect();
    world.select(bed.pod(1), Some(rules), None);
    agent.apply(&world);
    let open = [Ask::Tcp(80), Ask::Tcp(8000), Ask::Tcp(8005), Ask::Tcp(8010), Ask::Udp(53), Ask::Sctp(9)];
    let shut = [
        Ask::Tcp(79),
        Ask::Tcp(81),
        Ask::Tcp(7999),
        Ask::Tcp(8011),
        Ask::Tcp(53),
        Ask::Udp(80),
        Ask::Udp(54),
        Ask::Udp(8005),
        Ask::Sctp(10),
        Ask::Sctp(80),
        // A rule with ports never means ping.
        Ask::Ping,
    ];
    let mut checks = Vec::new();
    for from in [bed.pod(0), bed.far_pod()] {
        checks.extend(open.map(|ask| yes(from, bed.pod(1), ask)));
        checks.extend(shut.map(|ask| no(from, bed.pod(1), ask)));
    }
    check(&bed, &checks);
}

#[test]
fn a_protocol_without_ports_means_all_of_it() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(1), Some(vec![allow().on(protocol(SCTP)), allow().on(protocol(UDP))]), None);
    agent.apply(&world);
    let from = bed.far_pod();
    let open = [Ask::Sctp(1), Ask::Sctp(65_535), Ask::Udp(1), Ask::Udp(65_535)];
    let mut checks = open.map(|ask| yes(from, bed.pod(1), ask)).to_vec();
    checks.extend([Ask::Tcp(80), Ask::Ping].map(|ask| no(from, bed.pod(1), ask)));
    check(&bed, &checks);
}

#[test]
fn a_named_port_is_the_pods_own() {
    let bed = Bed::new(3);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1), bed.pod(2)]);
    let policy = world.policy("named", vec![allow().on(named(TCP, "web"))]);
    for (pod, port) in [(1, 8080), (2, 9090)] {
        let step =
            TierStep { tier: "default".into(), default_action: Action::Deny, policies: vec![policy.clone()] };
        let name = NamedPort { protocol: TCP, name: "web".into() };
        let named_ports = BTreeMap::from([(name, BTreeSet::from([port]))]);
        world.judge(bed.pod(pod), Profile { ingress: vec![step], egress: vec![], named_ports });
    }
    agent.apply(&world);
    let (one, two) = (bed.pod(1), bed.pod(2));
    let mut checks = Vec::new();
    for from in [bed.pod(0), bed.far_pod()] {
        checks.extend([yes(from, one, Ask::Tcp(8080)), no(from, one, Ask::Tcp(9090))]);
        checks.extend([yes(from, two, Ask::Tcp(9090)), no(from, two, Ask::Tcp(8080))]);
        checks.extend([no(from, one, Ask::Udp(8080)), no(from, one, Ask::Ping)]);
    }
    check(&bed, &checks);
}

#[test]
fn tiers_are_asked_in_order_until_one_decides() {
    let bed = Bed::new(2);
    let mut agent = Agent::start(&bed);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    let first = world.policy(
        "first",
        vec![
            rule(Action::Deny).on(ports(UDP, 1, 1)),
            rule(Action::Allow).on(ports(UDP, 2, 2)),
            rule(Action::Pass).on(ports(UDP, 3, 3)),
            rule(Action::Log).on(ports(UDP, 4, 4)),
            // Never reached for what was decided above.
            rule(Action::Allow).on(ports(UDP, 1, 1)),
            rule(Action::Deny).on(ports(UDP, 2, 3)),
        ],
    );
    let second = world.policy("second", vec![rule(Action::Allow).on(ports(UDP, 1, 5))]);
    let third = world.policy("third", vec![rule(Action::Allow)]);
    let step = |tier: &str, default_action, policy| TierStep {
        tier: tier.into(),
        default_action,
        policies: vec![policy],
    };
    let ingress = vec![
        step("kube-admin", Action::Pass, first),
        step("default", Action::Deny, second),
        step("kube-baseline", Action::Pass, third),
    ];
    world.judge(bed.pod(1), Profile { ingress, ..Profile::default() });
    agent.apply(&world);
    let mut checks = Vec::new();
    for from in [bed.pod(0), bed.far_pod()] {
        checks.extend([2, 3, 4, 5].map(|port| yes(from, bed.pod(1), Ask::Udp(port))));
        checks.extend([1, 6].map(|port| no(from, bed.pod(1), Ask::Udp(port))));
        checks.push(no(from, bed.pod(1), Ask::Ping));
    }
    check(&bed, &checks);
}
