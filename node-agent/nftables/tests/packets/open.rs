//! The bed without any rules: everything that other tests show closed arrives here, so that "it did not arrive" says
//! something about rules and not about the bed.

use std::net::Ipv6Addr;

use crate::bed::{BRIDGE_MAC, Bed, pod_mac};
use crate::matrix::{Ask, check, yes};
use crate::probe::{PATIENCE, Token, listen, on_eth0, receives, send_udp};
use crate::wire::{Wire, icmpv6};

#[test]
fn without_rules_every_path_is_open() {
    let bed = Bed::new(2);
    let _servers = [bed.pod(1).namespace, &bed.node, &bed.far].map(|namespace| listen(namespace, 80));
    let asks = [Ask::Tcp(80), Ask::Tcp(81), Ask::Udp(9), Ask::Sctp(9), Ask::Ping];
    let pairs = [
        (bed.pod(0), bed.pod(1)),
        (bed.node(), bed.pod(1)),
        (bed.far_node(), bed.pod(1)),
        (bed.far_pod(), bed.pod(1)),
        (bed.outside(), bed.pod(1)),
        (bed.pod(0), bed.node()),
        (bed.pod(0), bed.far_node()),
        (bed.pod(0), bed.far_pod()),
        (bed.pod(0), bed.outside()),
    ];
    let checks: Vec<_> = pairs.iter().flat_map(|(from, to)| asks.map(|ask| yes(*from, *to, ask))).collect();
    check(&bed, &checks);
}

#[test]
fn without_rules_crafted_frames_arrive() {
    let bed = Bed::new(2);
    let [sender, receiver] = [0, 1].map(|pod| Wire::attach(bed.pod(pod).namespace, "eth0"));
    // A router advertisement of lifetime 0, which changes nothing for anybody.
    let token = Token::new();
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let body = [&[64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], token.bytes()].concat();
    let from = pod_mac(0).link_local();
    sender.send(&icmpv6(
        pod_mac(0),
        crate::wire::multicast_mac(all_nodes.into()),
        from,
        all_nodes,
        134,
        &body,
    ));
    assert!(receiver.sees(&token, PATIENCE));
    // To the node by its link-local address.
    let inbox = bed.node.run(|| std::net::UdpSocket::bind("[::]:7000").unwrap());
    let token = Token::new();
    let pod = bed.pod(0).namespace;
    send_udp(pod, "[::]:0".parse().unwrap(), on_eth0(pod, BRIDGE_MAC.link_local(), 7000), &token);
    assert!(receives(&inbox, &token, PATIENCE));
}
