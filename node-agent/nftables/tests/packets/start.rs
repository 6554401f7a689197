//! From no table of ours to one: closed while the rules are built, and an older table replaced without a gap.

use std::sync::atomic::Ordering;
use std::time::Duration;

use selvage_nftables::diff;
use selvage_nftables::netlink::{Connection, Ownership, Settings, Standing};
use selvage_nftables::render::closed;

use crate::agent::Agent;
use crate::bed::Bed;
use crate::connections::{connections, service};
use crate::flood::{PACKETS, flooded};
use crate::matrix::{Ask, check, no, yes};
use crate::probe::{GRACE, Token, listen};
use crate::wire::Wire;
use crate::world::World;

#[test]
fn while_the_first_ruleset_is_built_only_what_is_open_passes() {
    let bed = Bed::new(2);
    // kube-proxy has switched connection tracking on long before.
    service(&bed, bed.pod(1));
    let listener = listen(bed.pod(1).namespace, 80);
    let open = connections(&bed, &listener);
    let mut agent = Agent::start(&bed);
    let world = World::of(&[bed.pod(0), bed.pod(1)]);
    let plan = agent.plan(&world.ruleset());
    let (first, rest) = plan.transactions.split_first().unwrap();
    agent.commit(first);
    open.iter().for_each(|connection| connection.lives());
    let (zero, one) = (bed.pod(0), bed.pod(1));
    let asks = [Ask::Tcp(80), Ask::Udp(9), Ask::Ping];
    let mut checks = Vec::new();
    for ask in asks {
        checks.extend([zero, bed.far_pod(), bed.outside()].map(|from| no(from, one, ask)));
        checks.extend([bed.node(), bed.outside()].map(|to| no(zero, to, ask)));
        checks.extend([yes(bed.node(), one, ask), yes(bed.node(), bed.outside(), ask)]);
    }
    check(&bed, &checks);
    let table = closed(&world.facts, &world.settings);
    agent.stands(table);
    for transaction in rest {
        agent.commit(transaction);
    }
    agent.stands(plan.after);
    open.iter().for_each(|connection| connection.lives());
    check(&bed, &asks.map(|ask| yes(zero, one, ask)));
    agent.apply(&world);
}

#[test]
fn an_unowned_table_is_replaced_without_letting_a_packet_through() {
    let bed = Bed::new(2);
    let mut world = World::of(&[bed.pod(0), bed.pod(1)]);
    world.select(bed.pod(1), Some(vec![]), None);
    let wanted = world.ruleset();
    let open = |ownership| {
        bed.node.run(|| Connection::open(&Settings { ownership, ..Settings::default() }).unwrap())
    };
    let replace = |connection: &mut Connection| {
        for transaction in &diff::replace(&wanted).transactions {
            connection.commit(transaction).unwrap();
        }
    };
    let mut older = open(Ownership::Plain);
    for transaction in &diff::cold_start(&closed(&world.facts, &world.settings), &wanted).transactions {
        older.commit(transaction).unwrap();
    }
    let receiver = Wire::attach(bed.pod(1).namespace, "eth0");
    let token = Token::new();
    flooded(&bed, &token, |sent| {
        let mut ours = open(Ownership::Owned);
        assert_eq!(ours.standing().unwrap(), Some(Standing::Unowned));
        replace(&mut ours);
        assert_eq!(ours.standing().unwrap(), Some(Standing::Ours));
        // Once is over too soon to see much: the same again, now of a table that is ours.
        let mut turns = 0;
        while turns < 300 || sent.load(Ordering::Relaxed) < PACKETS {
            turns += 1;
            replace(&mut ours);
            assert!(!receiver.sees(&token, Duration::ZERO), "a packet passed at turn {turns}");
        }
        assert_eq!(ours.read().unwrap().unwrap().ruleset, wanted);
    });
    assert!(!receiver.sees(&token, GRACE), "a packet passed");
}
