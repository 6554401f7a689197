//! Members of address groups as bytes: five for an IPv4 network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use selvage_policy::compiled::Member;

use crate::sorted::{Encoded, Record};

/// A network: its address and prefix length.
const NET: u8 = 0;
/// An address, a protocol and a port.
const PORT: u8 = 1;

impl Record for Member {
    fn encode(&self) -> Encoded {
        let with = |shape, address: IpAddr, rest: &[u8]| match address {
            IpAddr::V4(address) => Encoded::new(shape, &[&address.octets(), rest]),
            IpAddr::V6(address) => Encoded::new(shape, &[&address.octets(), rest]),
        };
        match self {
            Self::Net(net) => with(NET, net.addr(), &[net.prefix_len()]),
            Self::Port(address, protocol, port) => {
                let [high, low] = port.to_be_bytes();
                with(PORT, *address, &[*protocol, high, low])
            }
        }
    }

    fn decode(shape: u8, bytes: &[u8]) -> Option<Self> {
        match (shape, bytes) {
            (NET, [address @ .., prefix]) => IpNet::new(ip(address)?, *prefix).ok().map(Self::Net),
            (PORT, [address @ .., protocol, high, low]) => {
                Some(Self::Port(ip(address)?, *protocol, u16::from_be_bytes([*high, *low])))
            }
            _ => None,
        }
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}
