//! The agent against the real kernel, in network namespaces of its own. Needs root, iproute2 and nftables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use selvage_nftables::model::{Ruleset, TableFamily};
use selvage_nftables::netlink::{Ownership, Settings as Table};
use selvage_nftables::render::Settings;
use selvage_nftables::render::bridge::{BridgeFacts, bridge};
use selvage_node_agent::enforce::kernel::Netlink;
use selvage_node_agent::facts::cni_dir::CniView;
use selvage_node_agent::facts::links::{self, NodeLinks};
use selvage_policy::compiled::{GroupId, NodePolicy};
use support::netns::Netns;
use support::{Bench, attachment, interfaces, node_policy, wanted};
use tokio::sync::watch;

const G: GroupId = GroupId(1);

/// Waits for something that must come; a test that waits in vain fails by name.
async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

fn flags(netns: &Netns) -> (bool, bool) {
    let link = netns.ip(&["-details", "link", "show", "cni0"]);
    (link.contains("nf_call_iptables 1"), link.contains("nf_call_ip6tables 1"))
}

#[test]
fn the_flags_of_a_pod_bridge_are_set_when_it_appears_and_again_when_they_are_cleared() {
    let netns = Netns::new("flags");
    netns.exec(
        "sysctl",
        &["-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"],
    );
    netns.block_on(async || {
        let (sender, mut seen) = watch::channel(NodeLinks::default());
        let task = tokio::spawn(links::follow(interfaces(), sender));
        within("a first look", seen.changed()).await.unwrap();
        assert!(seen.borrow().bridges.is_empty() && seen.borrow().bridge_problem().is_none());

        netns.ip(&["link", "add", "other0", "type", "bridge"]);
        netns.ip(&["link", "add", "cni0", "type", "bridge"]);
        let set = |v: &NodeLinks| v.bridges.get("cni0").is_some_and(|f| f.ipv4 && f.ipv6);
        within("the flags of a new bridge", seen.wait_for(set)).await.unwrap();
        assert_eq!(flags(&netns), (true, true));
        assert_eq!(seen.borrow().bridge_problem(), None);
        let other = netns.ip(&["-details", "link", "show", "other0"]);
        assert!(other.contains("nf_call_iptables 0"), "a bridge that is not the pods': {other}");

        for (port, bridge) in [("to-pod", "cni0"), ("to-other", "other0")] {
            netns.ip(&["link", "add", port, "type", "veth"]);
            netns.ip(&["link", "set", port, "master", bridge]);
        }
        let foreign = |v: &NodeLinks| v.foreign_ports(&interfaces()) == ["to-other".into()].into();
        within("the ports of other bridges", seen.wait_for(foreign)).await.unwrap();
        netns.ip(&["link", "set", "to-other", "master", "cni0"]);
        let none = |v: &NodeLinks| v.foreign_ports(&interfaces()).is_empty();
        within("a port that changes its bridge", seen.wait_for(none)).await.unwrap();

        // The kernel tells of changed flags only while the bridge is up, as one with pods is.
        netns.ip(&["link", "set", "cni0", "up"]);
        netns.ip(&[
            "link",
            "set",
            "cni0",
            "type",
            "bridge",
            "nf_call_iptables",
            "0",
            "nf_call_ip6tables",
            "0",
        ]);
        within("the flags again", async {
            while flags(&netns) != (true, true) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;

        netns.ip(&["address", "add", "10.244.1.1/24", "dev", "cni0"]);
        netns.ip(&["address", "add", "fd00:10:244:1::1/64", "dev", "cni0", "nodad"]);
        netns.ip(&["link", "add", "flannel.1", "type", "vxlan", "id", "1", "dstport", "8472", "dev", "cni0"]);
        netns.ip(&["address", "add", "10.244.1.0/32", "dev", "flannel.1"]);
        netns.ip(&["address", "add", "192.0.2.1/24", "dev", "other0"]);
        let wanted = ["10.244.1.0", "10.244.1.1", "fd00:10:244:1::1"];
        let told = |v: &NodeLinks| v.pod_network_addresses(&interfaces()) == wanted;
        within("the node's addresses in the pod network", seen.wait_for(told)).await.unwrap();
        netns.ip(&["link", "delete", "cni0"]);
        within("the bridge's end", seen.wait_for(|v| v.bridges.is_empty())).await.unwrap();
        drop(seen);
        within("the end", task).await.unwrap();
    });
}

#[test]
fn a_bridge_that_is_there_already_is_set_at_once() {
    let netns = Netns::new("there");
    netns.exec(
        "sysctl",
        &["-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"],
    );
    netns.ip(&["link", "add", "cni0", "type", "bridge"]);
    assert_eq!(flags(&netns), (false, false), "the test shows nothing otherwise");
    netns.block_on(async || {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        let seen = links::look_and_set(&handle, &interfaces()).await.unwrap();
        assert_eq!(seen.bridge_problem(), None);
        assert!(seen.br_netfilter, "br_netfilter is needed: modprobe br_netfilter");
        let nobody: BTreeSet<Arc<str>> = BTreeSet::new();
        assert!(links::look_and_set(&handle, &nobody).await.unwrap().bridges.is_empty());
    });
    assert_eq!(flags(&netns), (true, true));
}

/// A loop over the kernel of the namespace that this runs in.
fn agent(ownership: Ownership) -> Bench<Netlink> {
    let table = Table { ownership, ..Table::default() };
    let kernel = Netlink::open(&table).expect("nftables (needs root)");
    let (changes, heard) = tokio::sync::mpsc::channel(16);
    kernel.subscribe(changes.clone()).unwrap();
    Bench::over(kernel, Settings::default(), changes, heard)
}

/// What the kernel holds in the table that judges.
fn in_kernel() -> Option<Ruleset> {
    read(TableFamily::Inet)
}

/// A table as the kernel holds it, read over a connection of its own.
fn read(family: TableFamily) -> Option<Ruleset> {
    let plain = Table { family, ownership: Ownership::Plain, ..Table::default() };
    let mut connection = selvage_nftables::netlink::Connection::open(&plain).unwrap();
    let table = connection.read().unwrap()?;
    assert_eq!(table.unreadable, Vec::<String>::new());
    Some(table.ruleset)
}

#[test]
fn the_kernel_holds_what_is_wanted_and_the_next_agent_takes_it_over() {
    let netns = Netns::new("agents");
    let groups = [(G, &["10.244.9.1/32", "10.244.9.8/29", "fd00::9/128"][..])];
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "fd00::2")], &[G]);
    let new = node_policy(&[("a", "1", "10.244.1.2"), ("c", "3", "10.244.1.3")], &[G]);
    netns.block_on(async || {
        for (generation, policy) in [(1, &old), (2, &new), (3, &old)] {
            let mut bench = agent(Ownership::Owned);
            bench.know(&groups);
            bench.publish(generation, policy);
            let stands = bench.report.wait_for(|r| r.programmed.holds && r.generation == Some(generation));
            within("the policy to stand", stands).await.unwrap();
            assert_eq!(in_kernel().as_ref(), Some(&wanted(policy, &groups)));
            // What it was is compared with what is read once more; nothing was to be repaired.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(bench.metric("selvage_agent_repairs_total"), 0);
            bench.stop().await;
            assert_eq!(in_kernel().as_ref(), Some(&wanted(policy, &groups)), "the rules outlive the agent");
            assert_eq!(read(TableFamily::Bridge), Some(bridge(&BridgeFacts::default())), "both tables do");
        }
        let mut bench = agent(Ownership::Owned);
        bench.observe(4, true, Ok(old.clone().into()));
        within("teardown", bench.report.wait_for(|r| r.programmed.reason == "TornDown")).await.unwrap();
        assert_eq!((in_kernel(), read(TableFamily::Bridge)), (None, None));
    });
}

#[test]
fn what_somebody_else_does_to_an_unowned_table_is_undone() {
    let netns = Netns::new("repair");
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    netns.block_on(async || {
        let mut bench = agent(Ownership::Plain);
        bench.know(&[]);
        bench.publish(1, &policy);
        within("the policy to stand", bench.report.wait_for(|r| r.programmed.holds)).await.unwrap();
        let vandals: [&[&str]; 4] = [
            &["flush", "chain", "inet", "selvage", "to_pod"],
            &["delete", "table", "inet", "selvage"],
            &["add", "element", "inet", "selvage", "own4", "{ 192.0.2.1 }"],
            &["insert", "rule", "inet", "selvage", "guard", "accept"],
        ];
        for (repairs, vandal) in (1..).zip(vandals) {
            netns.exec("nft", vandal);
            assert_ne!(in_kernel(), Some(wanted(&policy, &[])), "{vandal:?} did nothing");
            within("the repair", async {
                while in_kernel() != Some(wanted(&policy, &[])) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
            within("the count of repairs", async {
                while bench.metric("selvage_agent_repairs_total") != repairs {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        netns.exec("nft", &["flush", "chain", "bridge", "selvage", "frames"]);
        within("the repair of the bridge family's table", async {
            while read(TableFamily::Bridge) != Some(bridge(&BridgeFacts::default()))
                || bench.metric("selvage_agent_repairs_total") != 5
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        // Changes of other tables are none of the agent's.
        netns.exec("nft", &["add", "table", "ip", "other"]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(bench.metric("selvage_agent_repairs_total"), 5);
    });
}

#[test]
fn a_table_of_ours_that_nobody_owns_is_replaced_by_an_owned_one() {
    let netns = Netns::new("unowned");
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    netns.block_on(async || {
        for ownership in [Ownership::Plain, Ownership::Owned] {
            let mut bench = agent(ownership);
            bench.know(&[]);
            bench.publish(1, &policy);
            within("the policy to stand", bench.report.wait_for(|r| r.programmed.holds)).await.unwrap();
            assert_eq!(in_kernel(), Some(wanted(&policy, &[])));
            if ownership == Ownership::Owned {
                let refused = std::process::Command::new("nft")
                    .args(["delete", "table", "inet", "selvage"])
                    .output()
                    .expect("nft (Debian package nftables)");
                assert!(!refused.status.success(), "an owned table can't be deleted by others");
            }
            bench.stop().await;
        }
    });
}

/// Opens a connection between two addresses, and waits until it is tracked.
async fn connect(netns: &Netns, from: &str) {
    let socket = std::net::UdpSocket::bind((from, 4000)).unwrap();
    within("a tracked connection", async {
        while !is_tracked(netns, from) {
            socket.send_to(b"hello", ("127.0.0.1", 9)).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Whether a connection from this address is tracked. A listing can miss entries while others change the table, which
/// is one for all namespaces: several must agree that it is not there.
fn is_tracked(netns: &Netns, from: &str) -> bool {
    (0..5).any(|_| netns.exec("conntrack", &["-L", "-p", "udp"]).contains(&format!("src={from} ")))
}

/// Pods a and b have each a connection, the agent ends, b's address is another pod's when the next agent comes. An
/// agent that knows nothing of owners is stood in for by taking the record out.
fn hand_over(name: &str, record: bool) {
    let netns = Netns::new(name);
    netns.ip(&["address", "add", "10.244.1.2/32", "dev", "lo"]);
    netns.ip(&["address", "add", "10.244.1.3/32", "dev", "lo"]);
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
    let new = node_policy(&[("a", "1", "10.244.1.2"), ("heir", "3", "10.244.1.3")], &[]);
    let ownership = if record { Ownership::Owned } else { Ownership::Plain };
    netns.block_on(async || {
        let run = async |policy: &NodePolicy| {
            let mut bench = agent(ownership);
            bench.know(&[]);
            bench.publish(1, policy);
            within("the policy to stand", bench.report.wait_for(|r| r.programmed.holds)).await.unwrap();
            assert_eq!(in_kernel().as_ref(), Some(&wanted(policy, &[])));
            bench.stop().await;
        };
        run(&old).await;
        connect(&netns, "10.244.1.2").await;
        connect(&netns, "10.244.1.3").await;
        run(&old).await;
        assert!(is_tracked(&netns, "10.244.1.2") && is_tracked(&netns, "10.244.1.3"), "a restart cuts none");
        if !record {
            netns.exec("nft", &["delete", "set", "inet", "selvage", "owners4"]);
        }
        run(&new).await;
        assert!(is_tracked(&netns, "10.244.1.2"), "a pod that stays keeps its own");
        assert_eq!(is_tracked(&netns, "10.244.1.3"), !record, "the heir's");
    });
}

#[test]
fn a_pod_does_not_inherit_connections_through_a_restart_of_the_agent() {
    hand_over("heir", true);
}

#[test]
fn without_the_record_of_owners_a_pod_inherits_connections() {
    hand_over("heir-open", false);
}

#[test]
fn connections_of_a_pod_elsewhere_are_forgotten_in_the_kernel_when_it_ends_and_not_when_its_label_changes() {
    let (stays, ends) = ("10.244.2.2", "10.244.2.3");
    let netns = Netns::new("elsewhere");
    for address in [stays, ends] {
        netns.ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
    }
    let group = GroupId(7);
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[group]);
    let (both, one): (&[&str], &[&str]) = (&["10.244.2.2/32", "10.244.2.3/32"], &["10.244.2.2/32"]);
    netns.block_on(async || {
        let mut bench = agent(Ownership::Owned);
        bench.know(&[(group, both)]);
        bench.publish(1, &policy);
        within("the policy to stand", bench.report.wait_for(|r| r.programmed.holds)).await.unwrap();
        connect(&netns, stays).await;
        connect(&netns, ends).await;
        let stands = async || {
            let wanted = Some(wanted(&policy, &[(group, one)]));
            while in_kernel() != wanted {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        bench.know(&[(group, one)]);
        within("the group without it", stands()).await;
        assert!(is_tracked(&netns, stays) && is_tracked(&netns, ends), "a label changed");
        bench.groups.send_modify(|view| view.handed_over.add([ends.parse().unwrap()]));
        within("its connection to go", async {
            while is_tracked(&netns, ends) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        within("the record to be as before", stands()).await;
        assert!(is_tracked(&netns, stays), "another pod's");
    });
}

#[test]
fn a_reused_address_is_closed_in_the_kernel_while_the_api_server_is_away() {
    let netns = Netns::new("reused");
    netns.ip(&["address", "add", "10.244.1.3/32", "dev", "lo"]);
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
    let kept = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    netns.block_on(async || {
        let mut bench = agent(Ownership::Owned);
        bench.know(&[]);
        bench.publish(1, &old);
        within("the policy to stand", bench.report.wait_for(|r| r.programmed.holds)).await.unwrap();
        bench.stop().await;
        connect(&netns, "10.244.1.3").await;

        let bench = agent(Ownership::Owned);
        let cni = vec![attachment("heir", Some("3"), "10.244.1.3")];
        bench.cni.send_replace(CniView { attachments: Some(cni), unreadable: 0 });
        within("the address to be closed", async {
            while in_kernel().map(|table| table.sets) != Some(wanted(&kept, &[]).sets) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(!is_tracked(&netns, "10.244.1.3"));
    });
}
