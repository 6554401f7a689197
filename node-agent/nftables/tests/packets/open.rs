//! The bed without any rules: everything that other tests show closed arrives here, so that "it did not arrive" says
//! something about rules and not about the bed.

use std::net::{Ipv6Addr, SocketAddr};

use crate::bed::{BRIDGE_MAC, Bed, FAMILIES, pod_mac};
use crate::probe::{PATIENCE, Tcp, Token, connect, echo, listen, on_eth0, receives, send_udp};
use crate::wire::{Route, Wire, icmpv6, protocol_of, sctp_init};

#[test]
fn without_rules_every_path_is_open() {
    let bed = Bed::new(2);
    let _server = listen(bed.pod(1).namespace, 80);
    let hosts = [bed.pod(0), bed.node(), bed.far_node(), bed.far_pod(), bed.outside()];
    for family in FAMILIES {
        let to = bed.pod(1).addresses.of(family);
        for from in hosts {
            let source = Some(from.addresses.of(family));
            let name = from.name;
            assert_eq!(connect(from.namespace, source, (to, 80).into(), PATIENCE).0, Tcp::Answered, "{name}");
            assert_eq!(connect(from.namespace, source, (to, 81).into(), PATIENCE).0, Tcp::Refused, "{name}");
            assert!(echo(from.namespace, source, to, PATIENCE), "{name}");
            let wire = Wire::attach(bed.pod(1).namespace, "eth0");
            let token = Token::new();
            send_udp(from.namespace, SocketAddr::new(source.unwrap(), 0), (to, 9).into(), &token);
            assert!(wire.sees(&token, PATIENCE), "{name}");
        }
    }
}

#[test]
fn without_rules_crafted_frames_arrive() {
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    for family in FAMILIES {
        let token = Token::new();
        let route = Route {
            from_mac: pod_mac(0),
            to_mac: pod_mac(1),
            from: bed.pod(0).addresses.of(family),
            to: bed.pod(1).addresses.of(family),
        };
        sender.send(&sctp_init(route, 1000, 2000, &token));
        assert!(receiver.finds(PATIENCE, |frame| token.is_in(frame) && protocol_of(frame) == Some(132)));
    }
    // A router advertisement of lifetime 0, which changes nothing for anybody.
    let token = Token::new();
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let body = [&[64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], token.bytes()].concat();
    let from = pod_mac(0).link_local();
    sender.send(&icmpv6(pod_mac(0), crate::wire::multicast_mac(all_nodes.into()), from, all_nodes, 134, &body));
    assert!(receiver.sees(&token, PATIENCE));
    // To the node by its link-local address.
    let inbox = bed.node.run(|| std::net::UdpSocket::bind("[::]:7000").unwrap());
    let token = Token::new();
    let pod = bed.pod(0).namespace;
    send_udp(pod, "[::]:0".parse().unwrap(), on_eth0(pod, BRIDGE_MAC.link_local(), 7000), &token);
    assert!(receives(&inbox, &token, PATIENCE));
}
