//! Real dumps with damage never make the reader panic.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use selvage_nftables::model::Ruleset;
use selvage_nftables::netlink::{Ownership, recorded};

use crate::netns::Namespace;
use crate::sample::*;

const NFT_MSG_GETCHAIN: u16 = 4;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_GETSET: u16 = 10;
const NFT_MSG_GETSETELEM: u16 = 13;
const NLMSG_DONE: u16 = 3;

/// The reply to a dump request, as it comes.
fn dump(socket: &Socket, message: u16, names: &[&str]) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0];
    for (kind, name) in (1_u16..).zip(names) {
        body.extend_from_slice(&u16::try_from(4 + name.len() + 1).unwrap().to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut request = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
    for half in [10 << 8 | message, 0x301, 1, 0, 0, 0] {
        request.extend_from_slice(&u16::to_ne_bytes(half));
    }
    request.extend_from_slice(&body);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0).unwrap();
    let mut reply = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().unwrap();
        if datagram[4..6] == NLMSG_DONE.to_ne_bytes() {
            return reply;
        }
        reply.extend_from_slice(&datagram);
        if reply.len() >= 20 && reply[reply.len() - 20..][4..6] == NLMSG_DONE.to_ne_bytes() {
            reply.truncate(reply.len() - 20);
            return reply;
        }
    }
}

fn record(namespace: &Namespace, ruleset: &Ruleset) -> Vec<u8> {
    namespace.run(|| {
        let socket = Socket::new(NETLINK_NETFILTER).unwrap();
        let mut all = dump(&socket, NFT_MSG_GETCHAIN, &[]);
        all.extend(dump(&socket, NFT_MSG_GETRULE, &["selvage"]));
        all.extend(dump(&socket, NFT_MSG_GETSET, &["selvage"]));
        for set in ruleset.sets.keys() {
            all.extend(dump(&socket, NFT_MSG_GETSETELEM, &["selvage", set]));
        }
        all
    })
}

/// Harm done to one place.
#[derive(Debug, Clone)]
enum Damage {
    Byte(usize, u8),
    Length(usize, u16),
    Cut(usize),
    Without(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<usize>;
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        4 => (place(), 0..40_u16).prop_map(|(place, length)| Damage::Length(place, length)),
        1 => (place(), any::<u16>()).prop_map(|(place, length)| Damage::Length(place, length)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), 1..30_usize).prop_map(|(place, length)| Damage::Without(place, length)),
    ]
}

fn harm(bytes: &mut Vec<u8>, damage: &Damage) {
    let size = bytes.len().max(8);
    bytes.resize(size, 0);
    match *damage {
        Damage::Byte(place, byte) => bytes[place % size] = byte,
        // Attribute headers are aligned, so this often hits one.
        Damage::Length(place, length) => {
            let place = place % (size / 4) * 4;
            bytes[place..place + 2].copy_from_slice(&length.to_ne_bytes());
        }
        Damage::Cut(place) => bytes.truncate(place % size),
        Damage::Without(place, length) => {
            let place = place % size;
            bytes.drain(place..(place + length).min(size));
        }
    }
}

#[test]
fn damaged_dumps_never_make_the_reader_panic() {
    let namespace = Namespace::new();
    let mut connection = connect(&namespace, Ownership::Plain);
    let wish = everything();
    connection.commit(&creation(&wish)).unwrap();
    let dump = record(&namespace, &wish);
    assert_eq!(recorded("selvage", &dump).unwrap(), (wish, Vec::new()), "undamaged");

    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(5_000) });
    let outcomes = std::cell::Cell::new((0, 0, 0));
    runner
        .run(&proptest::collection::vec(damage(), 1..4), |damages| {
            let mut bytes = dump.clone();
            damages.iter().for_each(|damage| harm(&mut bytes, damage));
            let (failed, unreadable, read) = outcomes.get();
            outcomes.set(match recorded("selvage", &bytes) {
                Err(_) => (failed + 1, unreadable, read),
                Ok((_, why)) if !why.is_empty() => (failed, unreadable + 1, read),
                Ok(_) => (failed, unreadable, read + 1),
            });
            Ok(())
        })
        .unwrap();
    let (failed, unreadable, read) = outcomes.get();
    assert!(failed > 100 && unreadable > 100 && read > 100, "{:?}", outcomes.get());
}
