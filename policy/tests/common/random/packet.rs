//! Random packets, between ends that policies speak of.

use proptest::prelude::*;
use proptest::sample::select;
use selvage_policy::oracle::{Packet, Transport};

use super::address_of;

/// Of the protocols and ports that [`policy`](super::policy) names, and of some that it does not.
pub fn transport(v4: bool) -> impl Strategy<Value = Transport> {
    let ports = (select(&[6u8, 6, 17, 132][..]), 79u16..84, 79u16..84);
    // The number of the other family's ICMP is but a number.
    let (icmp, echo, other) = if v4 { (1, 8u8, 58) } else { (58, 128u8, 1) };
    prop_oneof![
        6 => ports.prop_map(|(protocol, source, destination)| Transport::Ports { protocol, source, destination }),
        2 => (echo..echo + 2, 0u8..2)
            .prop_map(move |(kind, code)| Transport::Icmp { protocol: icmp, kind, code }),
        1 => select(vec![47, 50, other]).prop_map(Transport::Other),
    ]
}

/// A packet between any two addresses, pods' or not.
pub fn packet() -> impl Strategy<Value = Packet> {
    any::<bool>()
        .prop_flat_map(|v4| (address_of(v4), address_of(v4), transport(v4)))
        .prop_map(|(source, destination, transport)| Packet { source, destination, transport })
}
