//! What needs no kernel: the shape of batches, and that no bytes whatever make the reader panic.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLMSG_ERROR};
use proptest::prelude::*;

use super::encode::{Encoder, InvalidOp};
use super::wire::{Message, attributes, messages};
use super::{conntrack, decode, key, socket, uapi};
use crate::model::{Elements, Key, KeyPart, TableFamily};
use crate::transaction::{Op, Transaction};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;

fn encoder() -> Encoder<'static> {
    Encoder { family: TableFamily::Inet, table: "selvage", table_flags: 0 }
}

fn points(count: u32) -> Elements {
    Elements::Points((0..count).map(|n| Key::new(&n.to_be_bytes()).unwrap()).collect())
}

#[test]
fn a_batch_has_begin_work_and_end_and_acknowledges_the_last_work_alone() {
    let transaction = Transaction {
        ops: vec![
            Op::AddTable,
            Op::AddElements { set: "a".into(), elements: points(20_000) },
            Op::AddElements { set: "empty".into(), elements: points(0) },
            Op::DeleteSet { name: "b".into() },
        ],
    };
    let batch = encoder().batch(&transaction, u32::MAX - 1).unwrap();
    let all: Vec<Message<'_>> = messages(&batch.bytes).collect::<Result<_, _>>().unwrap();
    assert_eq!((all[0].kind, all[all.len() - 1].kind), (BATCH_BEGIN, BATCH_END));
    let sequences: Vec<u32> = all.iter().map(|message| message.sequence).collect();
    let expected: Vec<u32> = (0..).map(|n| (u32::MAX - 1).wrapping_add(n)).take(all.len()).collect();
    assert_eq!(sequences, expected, "numbers go on past the largest");
    assert_eq!(batch.next_sequence(), expected[all.len() - 1].wrapping_add(1));
    assert!(sequences.iter().all(|sequence| batch.contains(*sequence)));
    assert!(!batch.contains(batch.next_sequence()) && !batch.contains(u32::MAX - 2));

    let acknowledged: Vec<u32> =
        all.iter().filter(|m| m.flags & NLM_F_ACK != 0).map(|message| message.sequence).collect();
    assert_eq!(acknowledged, [batch.last_sequence()]);
    let work = &all[1..all.len() - 1];
    let ops: Vec<usize> = work.iter().map(|message| batch.op_of(message.sequence).unwrap()).collect();
    assert_eq!((ops[0], ops[1], ops[ops.len() - 1]), (0, 1, 3));
    assert!(ops.len() > 10 && ops.is_sorted(), "elements take several messages: {ops:?}");
    assert_eq!(batch.op_of(all[0].sequence), None);
    assert_eq!(batch.op_of(all[all.len() - 1].sequence), None);
}

#[test]
fn nothing_to_say_is_an_empty_batch() {
    let nothing = Op::AddElements { set: "a".into(), elements: points(0) };
    assert!(encoder().batch(&[nothing].into_iter().collect(), 1).unwrap().is_empty());
    let (index, error) = encoder()
        .batch(&[Op::AddTable, Op::DeleteChain { name: "".into() }].into_iter().collect(), 1)
        .unwrap_err();
    assert_eq!((index, error), (1, InvalidOp::Name(String::new())));
}

#[test]
fn ranges_end_before_the_marked_element_and_the_last_key_needs_none() {
    let key = |n: u32| Key::new(&n.to_be_bytes()).unwrap();
    let ranges = BTreeMap::from([(key(0x00ff_ff00), key(0x00ff_ffff)), (key(0xffff_0000), key(0xffff_ffff))]);
    let op = Op::AddElements { set: "a".into(), elements: Elements::Ranges(ranges.into()) };
    let batch = encoder().batch(&[op].into_iter().collect(), 1).unwrap();
    let message = messages(&batch.bytes).nth(1).unwrap().unwrap();
    let list = attributes(message.attributes().unwrap()).last().unwrap().unwrap();
    let elements: Vec<Vec<u8>> = attributes(list.value).map(|e| e.unwrap().value.to_vec()).collect();
    assert_eq!(elements.len(), 3);
    assert_eq!(elements[0][8..], [0x00, 0xff, 0xff, 0x00]);
    assert_eq!(elements[1][8..], [0x01, 0x00, 0x00, 0x00, 8, 0, 3, 0, 0, 0, 0, 1]);
    assert_eq!(elements[2][8..], [0xff, 0xff, 0x00, 0x00]);
}

#[test]
fn key_types_are_read_back() {
    use KeyPart::*;
    let keys: [&[KeyPart]; 6] = [
        &[InterfaceName, Mac],
        &[Ipv4],
        &[InterfaceName, Ipv4],
        &[Ipv6, Ipv6],
        &[Ipv6, Protocol, Port],
        &[Port; 5],
    ];
    for parts in keys {
        assert_eq!(key::key_parts(key::key_type(parts)).as_deref(), Some(parts));
    }
    assert_eq!(key::key_type(&[Ipv4, Protocol, Port]), 7 << 12 | 12 << 6 | 13);
    assert_eq!(key::key_bytes(&[Ipv6, Protocol, Port]), 24);
    assert_eq!((key::key_bytes(&[Protocol]), key::key_bytes(&[])), (1, 0));
    assert_eq!(key::key_parts(10), None, "ether_type");
    assert_eq!(key::key_parts(7 << 6), None, "a part without a type");
}

#[test]
fn the_text_of_an_extended_ack_is_found_behind_the_request() {
    let text = b"\x0b\x00\x01\x00no room\x00\x00";
    let header = [20_u32.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat();
    let errno = (-28_i32).to_ne_bytes();
    let capped = [&errno[..], &header, text].concat();
    let whole = [&errno[..], &header, &[1, 2, 3, 4], text].concat();
    let answer = |flags, payload: &[u8]| {
        let message = Message { kind: NLMSG_ERROR, flags, sequence: 7, port: 0, payload };
        socket::answer(&message).map(|answer| (answer.sequence, answer.errno, answer.text))
    };
    let found = Some((7, 28, Some("no room".to_owned())));
    assert_eq!(answer(0x300, &capped), found);
    assert_eq!(answer(0x200, &whole), found);
    assert_eq!(answer(0x000, &whole), Some((7, 28, None)));
    assert_eq!(answer(0x200, &whole[..18]), Some((7, 28, None)), "cut short");
    assert_eq!(answer(0, &[0; 3]), None, "no acknowledgement");
}

/// Attributes in attributes, with lengths that are mostly right.
fn attribute_bytes() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..24),
        prop_oneof![Just("selvage\0"), Just("cmp"), Just("lookup\0"), Just("immediate\0"), Just("filter")]
            .prop_map(|text| text.as_bytes().to_vec()),
        (0..30_u32).prop_map(|number| number.to_be_bytes().to_vec()),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        proptest::collection::vec(
            (1..12_u16, any::<bool>(), prop_oneof![9 => Just(0), 1 => -8..9_i32], inner),
            0..6,
        )
        .prop_map(|parts| {
            let mut bytes = Vec::new();
            for (kind, nested, wrong, value) in parts {
                let length = 4 + i32::try_from(value.len()).unwrap() + wrong;
                bytes.extend_from_slice(&u16::try_from(length.max(0)).unwrap().to_ne_bytes());
                bytes.extend_from_slice(&(kind | u16::from(nested) << 15).to_ne_bytes());
                bytes.extend_from_slice(&value);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
            }
            bytes
        })
    })
}

/// Gives the bytes to every part of the reader.
fn read_all(flags: u16, bytes: &[u8]) {
    let payload = [&[uapi::NFPROTO_INET, 0, 0, 0], bytes].concat();
    let addresses = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
    let kinds = (0..20)
        .flat_map(|message| [uapi::SUBSYS_NFTABLES << 8 | message, uapi::conntrack::SUBSYS << 8 | message]);
    let mut content = decode::Content::default();
    for kind in kinds.chain([NLMSG_ERROR]) {
        for payload in [&*payload, bytes] {
            let message = Message { kind, flags, sequence: 1, port: 1, payload };
            let _ = decode::table(&message);
            let _ = decode::generation(&message);
            let _ = decode::process(&message);
            let _ = decode::concerns(&message, TableFamily::Inet, "selvage");
            let _ = decode::count("selvage", &message, &mut HashMap::new());
            let _ = content.chain("selvage", &message);
            let _ = content.rule("selvage", &message);
            let _ = content.set("selvage", &message);
            let _ = socket::answer(&message);
            let _ = conntrack::entry(&message, &addresses);
            let mut elements = decode::SetElements::default();
            let _ = elements.message(&message);
            content.elements(&"selvage".into(), elements);
        }
    }
    let _ = content.finish();
    for message in messages(bytes).flatten() {
        let _ = message.attributes();
    }
    let _ = decode::recorded("selvage", bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_attributes_make_the_reader_panic(bytes in attribute_bytes(), flags in any::<u16>()) {
        read_all(flags, &bytes);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags in any::<u16>()) {
        read_all(flags, &bytes);
    }
}
