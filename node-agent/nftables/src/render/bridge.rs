//! The table of the bridge family: what comes in by a pod's port and is no plain ARP, IPv4 or IPv6 goes nowhere.
//!
//! br_netfilter shows the `inet` table untagged IPv4 and IPv6 alone. A frame with a priority tag (VLAN 0) passes by
//! all of its rules, and the receiver takes the tag off and the packet for an ordinary one. See
//! docs/adr/0006-bridge-guard.md.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::expr::{R0, compare, count_drop, interface_names, is_interface_name, lookup, padded_name, rule};
use crate::model::{BaseChain, Chain, ChainKind, CmpOp, Expr, Hook, MetaKey, Name, PayloadBase, Ruleset};

/// NF_BR_PRI_NAT_DST_BRIDGED: before br_netfilter hands the packet to the `inet` table.
const PRIORITY: i32 = -300;
/// ETH_P_IP, ETH_P_IPV6, ETH_P_ARP: the most frequent first.
const PLAIN: [u16; 3] = [0x0800, 0x86dd, 0x0806];
/// Where the type stands in an Ethernet header; that of an outer VLAN tag where there is one.
const ETHER_TYPE_OFFSET: u32 = 12;
const ETHER_TYPE_BYTES: u32 = 2;

/// The table of the bridge family. `foreign_ports` are the ports of bridges that are no pod bridge: every other veth
/// is taken for a pod's, so that a port that nobody knows yet is closed.
pub fn bridge(foreign_ports: &BTreeSet<Arc<str>>) -> Ruleset {
    let ports: Name = "foreign-ports".into();
    let ether_type = Expr::Payload {
        base: PayloadBase::LinkLayer,
        offset: ETHER_TYPE_OFFSET,
        len: ETHER_TYPE_BYTES,
        dreg: R0,
    };
    let not_plain = PLAIN.iter().map(|kind| compare(kind.to_be_bytes(), CmpOp::Neq));
    let veth = vec![Expr::Meta { key: MetaKey::IifKind, dreg: R0 }, compare(padded_name("veth"), CmpOp::Eq)];
    let not_foreign = vec![Expr::Meta { key: MetaKey::IifName, dreg: R0 }, lookup(&ports, true)];
    let frame = std::iter::once(ether_type).chain(not_plain).collect();
    let base = BaseChain { kind: ChainKind::Filter, hook: Hook::Prerouting, priority: PRIORITY, drop: false };
    let rules = vec![rule("bridge-frame", [frame, veth, not_foreign, count_drop()])];
    // A name that can't be an interface's is none's.
    let names = interface_names(foreign_ports.iter().filter(|name| is_interface_name(name)));
    Ruleset {
        chains: [("frames".into(), Chain { base: Some(base), rules })].into(),
        sets: [(ports, names)].into(),
    }
}
