//! Blocks with many exceptions: they mean the same, and a short policy stays a short one.
#![allow(clippy::unwrap_used, reason = "clippy does not know helpers of tests for tests")]

mod common;

use common::build::*;
use selvage_policy::compiled::Action::Allow;
use selvage_policy::model::Peer;
use selvage_policy::selector::Selector;

/// All of IPv6 without many single addresses.
fn many() -> Peer {
    let except: Vec<String> = (0..600).map(|index| format!("2001:db8:{index:x}::1/128")).collect();
    block("::/0", &except.iter().map(String::as_str).collect::<Vec<_>>())
}

fn networks(cluster: &Cluster) -> usize {
    let node = cluster.engine.node("node-1").unwrap();
    let policy = &node.policies[&policy_key("shop/p")];
    let rules = policy.ingress.iter().chain(&policy.egress);
    rules.flat_map(|rule| rule.source.iter().chain(&rule.destination)).map(|term| term.nets.len()).sum()
}

#[rstest::rstest]
#[case::an_exception("2001:db8:57::1", false)]
#[case::the_last_exception("2001:db8:257::1", false)]
#[case::beside_an_exception("2001:db8:57::2", true)]
#[case::another_peer("192.0.2.7", true)]
#[case::no_peer("192.0.3.7", false)]
fn many_exceptions_are_all_kept_out(#[case] from: &str, #[case] passes: bool) {
    let mut cluster = Cluster::small();
    let rule = rule(Allow).from([many(), block("192.0.2.0/24", &["192.0.2.8/32"])]);
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).ingress([rule]));
    let to = if from.contains(':') { "shop/web@6" } else { "shop/web" };
    assert_eq!(cluster.allows(from, to, TCP, 80), passes);
    assert!(networks(&cluster) < 1_000, "{}", networks(&cluster));
}

#[test]
fn an_exception_of_one_block_takes_nothing_from_another() {
    let mut cluster = Cluster::small();
    let rule = rule(Allow).from([many(), block("2001:db8:57::/48", &[])]);
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).ingress([rule]));
    assert!(cluster.allows("2001:db8:57::1", "shop/web@6", TCP, 80));
    assert!(!cluster.allows("2001:db8:58::1", "shop/web@6", TCP, 80));
}

#[rstest::rstest]
#[case::by_name("http", "bank/web@6", 80, true)]
#[case::another_port("http", "bank/web@6", 81, false)]
fn named_ports_in_a_block_with_many_exceptions(
    #[case] name: &str,
    #[case] to: &str,
    #[case] port: u16,
    #[case] passes: bool,
) {
    let mut cluster = Cluster::small();
    let rule = rule(Allow).to([many()]).ports([named(TCP, name)]);
    cluster.policy("shop/p", policy(pods_in("shop", Selector::All)).egress([rule]));
    assert_eq!(cluster.allows("shop/db@6", to, TCP, port), passes);
    assert!(networks(&cluster) < 1_000, "{}", networks(&cluster));
}
