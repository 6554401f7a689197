//! Masquerade: connections that leave the pools get the node's address.
//!
//! A connection's address translation is settled once, at its first packet, so this and another program's masquerade
//! (flannel's own) beside each other do no more than one of them.

use ipnet::IpNet;
use selvage_policy::compiled::{End, Family, Masquerade};

use super::Rendered;
use super::address::address_set;
use super::expr::{R0, family, family_digit, family_of, load_address, lookup, rule};
use crate::model::{BaseChain, Chain, ChainKind, Expr, Hook, Name, Shared};

const CHAIN: &str = "masquerade";
/// NF_IP_PRI_NAT_SRC.
const SOURCE_NAT: i32 = 100;

pub(super) fn render(wanted: &Masquerade, output: &mut Rendered) {
    let base = BaseChain { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: SOURCE_NAT, drop: false };
    let mut chain = Chain { base: Some(base), rules: Shared::default() };
    for which in [Family::V4, Family::V6] {
        let of_family = |nets: &[IpNet]| -> Vec<IpNet> {
            nets.iter().copied().filter(|net| family_of(net.addr()) == which).collect()
        };
        let from = of_family(&wanted.from);
        if from.is_empty() {
            continue;
        }
        let inside = of_family(&wanted.inside);
        let parts =
            [(End::Source, from, false), (End::Destination, inside, true)].map(|(side, nets, negated)| {
                let what = if negated { "inside" } else { "masquerade" };
                let name: Name = format!("{what}{}", family_digit(which)).into();
                output.add_set(&name, address_set(nets.into_iter(), which));
                vec![load_address(side, which, R0), lookup(&name, negated)]
            });
        let [source, destination] = parts;
        let action = vec![Expr::Counter, Expr::Masquerade];
        chain.rules.push(rule("masquerade", [family(which), source, destination, action]));
    }
    if !chain.rules.is_empty() {
        output.add_chain(&CHAIN.into(), chain);
    }
}
