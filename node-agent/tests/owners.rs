//! Whose an address was and is, over a kernel in memory and with time standing still.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use selvage_nftables::netlink::Standing;
use selvage_node_agent::facts::cni_dir::CniView;
use selvage_node_agent::watch::owned::Pods;
use selvage_node_agent::watch::policy::PolicyView;
use selvage_policy::compiled::{GroupId, NodePolicy};
use support::{Bench, Shared, attachment, node_policy, wanted};

async fn after(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// What an agent that ended has left of a policy.
fn left(policy: &NodePolicy, groups: &[(GroupId, &[&str])]) -> Shared {
    let kernel = Shared::default();
    {
        let mut state = kernel.0.lock().unwrap();
        state.fake.table = Some(wanted(policy, groups));
        state.standing = Some(Standing::Orphan);
    }
    kernel
}

#[tokio::test(start_paused = true)]
async fn connections_of_an_address_that_changed_hands_while_no_agent_ran_are_forgotten() {
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "fd00::2"), ("c", "3", "10.244.1.4")], &[]);
    let new = node_policy(&[("a", "1", "10.244.1.2"), ("b", "9", "fd00::2"), ("d", "4", "10.244.1.5")], &[]);
    for (policy, forgotten) in [(&old, &[][..]), (&new, &["10.244.1.4", "fd00::2"])] {
        let bench = Bench::start(left(&old, &[]));
        bench.know(&[]);
        bench.publish(1, policy);
        bench.settle().await;
        assert_eq!(bench.table(), Some(wanted(policy, &[])));
        let all: Vec<IpAddr> = bench.state(|s| s.forgotten.iter().flatten().copied().collect());
        assert_eq!(all, forgotten.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>());
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_of_an_agent_without_a_record_says_nothing_of_owners() {
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
    let new = node_policy(&[("a", "9", "10.244.1.2")], &[]);
    let kernel = left(&old, &[]);
    kernel.0.lock().unwrap().fake.table.as_mut().unwrap().sets.retain(|name, _| !name.starts_with("owners"));
    let bench = Bench::start(kernel);
    bench.know(&[]);
    bench.publish(1, &new);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&new, &[])));
    bench.state(|s| assert_eq!(s.forgotten, [["10.244.1.3".parse().unwrap()].into()], "only what left"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_ends_before_connections_are_forgotten_leaves_it_to_the_next() {
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
    let new = node_policy(&[("c", "9", "10.244.1.2")], &[]);
    let bench = Bench::enforcing(&old, &[]).await;
    bench.state(|s| s.refuse_to_forget = true);
    bench.publish(2, &new);
    bench.settle().await;
    let kernel = bench.kernel.clone();
    bench.stop().await;
    kernel.0.lock().unwrap().standing = Some(Standing::Orphan);
    let bench = Bench::start(kernel);
    bench.know(&[]);
    bench.publish(2, &new);
    bench.settle().await;
    let both = ["10.244.1.2".parse().unwrap(), "10.244.1.3".parse().unwrap()].into();
    bench.state(|s| assert_eq!(s.forgotten, [both]));
    assert_eq!(bench.table(), Some(wanted(&new, &[])));
}

#[tokio::test(start_paused = true)]
async fn a_reused_address_is_closed_before_the_first_policy_comes() {
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
    let kept = node_policy(&[("b", "2", "10.244.1.3")], &[]);
    let sets = |bench: &Bench| bench.table().unwrap().sets;
    for (holder, reused) in [(Some("9"), true), (Some("1"), false), (None, false)] {
        let bench = Bench::start(left(&old, &[]));
        let cni = vec![attachment("a", holder, "10.244.1.2"), attachment("b", Some("2"), "10.244.1.3")];
        bench.cni.send_replace(CniView { attachments: Some(cni), unreadable: 0 });
        after(5_000).await;
        let expected = if reused { &kept } else { &old };
        let expected: BTreeMap<_, _> = wanted(expected, &[]).sets;
        assert_eq!(sets(&bench), expected, "{holder:?}");
        let forgotten: Vec<BTreeSet<IpAddr>> =
            if reused { vec![["10.244.1.2".parse().unwrap()].into()] } else { Vec::new() };
        bench.state(|s| {
            assert_eq!(s.forgotten, forgotten, "{holder:?}");
            assert_eq!(s.committed.is_empty(), !reused, "{holder:?}");
        });
        assert!(bench.ready.borrow().is_err(), "nothing is known yet");

        let new = node_policy(&[("a", holder.unwrap_or("1"), "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]);
        bench.know(&[]);
        bench.publish(1, &new);
        bench.settle().await;
        assert_eq!(bench.table(), Some(wanted(&new, &[])));
        bench.state(|s| assert_eq!(s.forgotten, forgotten, "once is enough"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_reused_address_is_closed_once_the_agent_before_has_ended() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let kernel = left(&old, &[]);
    kernel.0.lock().unwrap().standing = Some(Standing::Foreign { port: 7 });
    let bench = Bench::start(kernel);
    let cni = vec![attachment("a", Some("9"), "10.244.1.2")];
    bench.cni.send_replace(CniView { attachments: Some(cni), unreadable: 0 });
    after(10_000).await;
    assert_eq!(bench.table(), Some(wanted(&old, &[])), "the other agent's");
    bench.state(|s| s.standing = Some(Standing::Orphan));
    after(1_500).await;
    assert_eq!(bench.table().unwrap().sets, wanted(&node_policy(&[], &[]), &[]).sets);
    bench.policy.send_replace(PolicyView { listed: true, ..PolicyView::default() });
    after(600_000).await;
    bench.state(|s| assert_eq!((s.committed.len(), s.forgotten.len()), (3, 1), "adopted, closed, recorded"));
}

const G: GroupId = GroupId(7);

fn told(bench: &Bench, members: &[&str], pods: Option<Pods>, handed_over: &[&str]) {
    bench.groups.send_modify(|view| {
        view.listed = true;
        view.groups = support::members(&[(G, members)]);
        view.pods = pods.map(|pods| (G, pods.into())).into_iter().collect();
        view.handed_over.add(handed_over.iter().map(|address| address.parse().unwrap()));
    });
}

fn addresses(list: &[&str]) -> BTreeSet<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn connections_of_a_pod_elsewhere_are_forgotten_when_it_ends() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let (two, one): (&[&str], &[&str]) = (&["10.244.2.2/32", "10.244.2.3/32"], &["10.244.2.2/32"]);
    let bench = Bench::enforcing(&policy, &[(G, two)]).await;
    told(&bench, one, Some(Pods { former: addresses(&["10.244.2.3"]), ..Pods::default() }), &[]);
    bench.settle().await;
    bench.state(|s| assert!(s.forgotten.is_empty(), "a label changed"));
    told(&bench, one, Some(Pods::default()), &["10.244.2.3"]);
    bench.state(|s| s.refuse_to_forget = true);
    bench.settle().await;
    bench.state(|s| assert!(s.forgotten.is_empty()));
    // Whether this agent tries again or another comes, the table tells.
    let kernel = bench.kernel.clone();
    bench.stop().await;
    kernel.0.lock().unwrap().standing = Some(Standing::Orphan);
    let bench = Bench::start(kernel);
    told(&bench, one, Some(Pods::default()), &[]);
    bench.publish(1, &policy);
    bench.settle().await;
    bench.state(|s| assert_eq!(s.forgotten, [addresses(&["10.244.2.3"])]));
    assert_eq!(bench.table(), Some(wanted(&policy, &[(G, one)])));
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_agent_ran_is_told_by_the_sets_of_the_one_before() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let before: &[&str] = &["10.244.2.2/32", "10.244.2.3/32", "10.244.2.4/32"];
    let after: &[&str] = &["10.244.2.2/32", "10.244.2.8/32", "10.244.2.9/32"];
    let pods = Pods { former: addresses(&["10.244.2.3"]), heirs: addresses(&["10.244.2.2", "10.244.2.9"]) };
    for (pods, forgotten) in [(Some(pods), addresses(&["10.244.2.4", "10.244.2.9"])), (None, addresses(&[]))]
    {
        let bench = Bench::start(left(&policy, &[(G, before)]));
        told(&bench, after, pods, &[]);
        bench.publish(1, &policy);
        bench.settle().await;
        let all: BTreeSet<IpAddr> = bench.state(|s| s.forgotten.iter().flatten().copied().collect());
        assert_eq!(all, forgotten);
        assert_eq!(bench.table(), Some(wanted(&policy, &[(G, after)])));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_nodes_own_new_pod_opened_is_left_alone_when_groups_catch_up() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let new = node_policy(&[("b", "2", "10.244.1.2")], &[G]);
    let members: &[&str] = &["10.244.2.2/32"];
    let bench = Bench::enforcing(&old, &[(G, members)]).await;
    bench.publish(2, &new);
    bench.settle().await;
    bench.state(|s| assert_eq!(s.forgotten, [addresses(&["10.244.1.2"])]));
    told(&bench, members, Some(Pods::default()), &["10.244.1.2"]);
    bench.settle().await;
    after(60_000).await;
    bench.state(|s| assert_eq!(s.forgotten.len(), 1, "the pod's own CNI result told before"));
    told(&bench, members, Some(Pods::default()), &["10.244.1.2", "10.244.2.3"]);
    bench.settle().await;
    after(60_000).await;
    bench.state(|s| assert_eq!(s.forgotten.get(1), Some(&addresses(&["10.244.2.3"]))));
}
