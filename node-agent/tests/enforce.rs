//! The enforcing loop, over a kernel in memory and with time standing still.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "that is how tests fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use selvage_crds::AddressGroup;
use selvage_crds::address_group::Slice;
use selvage_crds::codec::encode_slice;
use selvage_crds::conditions::reason;
use selvage_nftables::netlink::{Change, Standing};
use selvage_nftables::render::bridge::{BridgeFacts, bridge};
use selvage_nftables::transaction::Op;
use selvage_node_agent::facts::cni_dir::CniView;
use selvage_node_agent::watch::groups;
use selvage_node_agent::watch::policy::{PolicyView, Unreadable};
use selvage_policy::compiled::{GroupId, GroupKind, Member};
use support::{Bench, Shared, attachment, node_policy, wanted};
use tokio::sync::watch;

const G: GroupId = GroupId(1);
const H: GroupId = GroupId(2);
const PEERS: (GroupId, &[&str]) = (G, &["10.244.9.1/32"]);

async fn after(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_before_everything_is_known() {
    let bench = Bench::start(Shared::default());
    after(600_000).await;
    bench.policy.send_replace(PolicyView { listed: true, ..PolicyView::default() });
    after(600_000).await;
    bench.publish(1, &node_policy(&[("a", "1", "10.244.1.2")], &[]));
    after(600_000).await;
    bench.state(|s| assert_eq!((s.committed.len(), s.reads), (0, 0), "groups were not listed"));
    assert!(bench.ready.borrow().is_err());
    bench.know(&[]);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&node_policy(&[("a", "1", "10.244.1.2")], &[]), &[])));
    assert_eq!(*bench.ready.borrow(), Ok(()));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn what_was_built_is_read_back_once() {
    let bench = Bench::enforcing(&node_policy(&[("a", "1", "10.244.1.2")], &[G]), &[PEERS]).await;
    bench.settle().await;
    bench.state(|s| assert_eq!(s.reads, 2, "at the start and after the first commit"));
    assert_eq!(bench.metric("selvage_agent_repairs_total"), 0);
    let report = bench.report.borrow().clone();
    assert_eq!(report.generation, Some(1));
    assert_eq!((report.sizes.endpoints, report.sizes.groups), (1, 1));
    assert!(report.sizes.rules > 10 && report.sizes.elements > 3 && report.revision > 0, "{report:?}");
    assert_eq!(report.last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_missing_group_holds_a_new_policy_for_five_seconds_and_then_closes_the_rule() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let new = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[H]);
    let bench = Bench::enforcing(&old, &[PEERS]).await;
    bench.publish(2, &new);
    after(4_900).await;
    assert_eq!(bench.table(), Some(wanted(&old, &[PEERS])));
    assert_eq!((bench.reason(), bench.report.borrow().generation), (reason::PROGRAMMED, Some(1)));
    after(200).await;
    assert_eq!(bench.table(), Some(wanted(&new, &[PEERS])), "applied with the rule closed");
    assert_eq!(bench.reason(), reason::PARTIALLY_PROGRAMMED);
    let report = bench.report.borrow().clone();
    assert_eq!(report.generation, Some(2));
    let [entry] = &*report.not_programmed else { panic!("{report:?}") };
    assert_eq!((&*entry.policy.name, &*entry.reason), ("web", reason::GROUP_INCOMPLETE));
    assert!(report.last_error.is_some());
    bench.know(&[PEERS, (H, &["10.244.9.9/32"])]);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&new, &[PEERS, (H, &["10.244.9.9/32"])])));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
    assert_eq!(bench.report.borrow().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_comes_in_time_ends_the_wait() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let new = node_policy(&[("a", "1", "10.244.1.2")], &[G, H]);
    let bench = Bench::enforcing(&old, &[PEERS]).await;
    bench.publish(2, &new);
    after(2_000).await;
    bench.know(&[PEERS, (H, &[])]);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&new, &[PEERS, (H, &[])])));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_disappears_or_cannot_be_read_freezes_what_stands() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let bench = Bench::enforcing(&old, &[PEERS]).await;
    let digest = bench.report.borrow().digest.clone();
    bench.policy.send_modify(|view| view.present = false);
    after(100_000).await;
    assert_eq!(bench.table(), Some(wanted(&old, &[PEERS])));
    for (generation, why) in [(2, reason::UNREADABLE), (3, reason::UNKNOWN_FORMAT)] {
        let unreadable = Unreadable { reason: why, message: "spec.digest: is a, but ...".to_owned() };
        bench.observe(generation, false, Err(unreadable));
        after(100_000).await;
        assert_eq!(bench.table(), Some(wanted(&old, &[PEERS])));
        let report = bench.report.borrow().clone();
        assert_eq!((report.programmed.reason, report.generation), (why, Some(generation)));
        assert_eq!(report.digest, digest, "what stands is still the old one");
        assert_eq!(report.last_error.unwrap().0, "spec.digest: is a, but ...");
    }
    bench.know(&[(G, &["10.244.9.7/32"])]);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&old, &[(G, &["10.244.9.7/32"])])), "groups still change");
}

#[tokio::test(start_paused = true)]
async fn a_group_whose_epochs_begin_again_is_followed() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let bench = Bench::start(Shared::default());
    bench.publish(1, &policy);
    let (events, seen) = futures::channel::mpsc::unbounded();
    let (_in_use, named) = watch::channel([G].into());
    let (view, metrics) = (bench.groups.clone(), bench.metrics.clone());
    let following = tokio::spawn(async move { groups::run(seen, &view, &named, &metrics).await });
    let slice = |epoch, address: &str| {
        let members = [Member::Net(address.parse().unwrap())].into();
        let slice =
            Slice { group: G, kind: GroupKind::Addresses, epoch, index: 0, count: 1, members, owners: None };
        let spec = encode_slice(&slice, Default::default()).unwrap();
        DeserializeGuard(Ok(AddressGroup::new(&slice.object_name(), spec)))
    };
    let tell = |event| events.unbounded_send(Ok(event)).unwrap();
    tell(Event::Init);
    tell(Event::InitApply(slice(4, "10.244.9.1/32")));
    tell(Event::InitDone);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[PEERS])));
    tell(Event::Delete(slice(4, "10.244.9.1/32")));
    after(120_000).await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[PEERS])), "nothing newer is there");
    tell(Event::Apply(slice(1, "10.244.9.2/32")));
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[(G, &["10.244.9.2/32"])])));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_first_policy_is_told_and_touches_nothing() {
    let bench = Bench::start(Shared::default());
    bench.know(&[]);
    bench.observe(1, false, Err(Unreadable { reason: reason::UNKNOWN_FORMAT, message: "format".to_owned() }));
    after(100_000).await;
    bench.state(|s| assert_eq!((s.committed.len(), s.reads), (0, 0)));
    assert_eq!(bench.reason(), reason::UNKNOWN_FORMAT);
    assert!(bench.ready.borrow().is_err());
}

#[tokio::test(start_paused = true)]
async fn only_teardown_removes_the_table_and_it_stays_removed() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let bench = Bench::enforcing(&old, &[]).await;
    bench.observe(2, true, Ok(old.clone().into()));
    bench.settle().await;
    assert_eq!(bench.table(), None);
    assert_eq!((bench.reason(), bench.report.borrow().digest.clone()), (reason::TORN_DOWN, None));
    let commits = bench.state(|s| s.committed.len());
    after(200_000).await;
    assert_eq!(bench.state(|s| s.committed.len()), commits, "idle");
    bench.publish(3, &old);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&old, &[])));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn teardown_needs_no_groups_and_no_readable_policy() {
    let kernel = Shared::default();
    kernel.0.lock().unwrap().fake.table = Some(wanted(&node_policy(&[("a", "1", "10.244.1.2")], &[]), &[]));
    let bench = Bench::start(kernel);
    bench.observe(1, true, Err(Unreadable { reason: reason::UNKNOWN_FORMAT, message: "format".to_owned() }));
    bench.settle().await;
    assert_eq!(bench.table(), None);
    assert_eq!(bench.reason(), reason::TORN_DOWN);
}

#[tokio::test(start_paused = true)]
async fn a_refused_commit_leaves_what_stood_and_is_tried_again() {
    let old = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let new = node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[G]);
    let bench = Bench::enforcing(&old, &[PEERS]).await;
    bench.state(|s| s.refuse = 2);
    bench.publish(2, &new);
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&old, &[PEERS])));
    assert_eq!(bench.reason(), reason::KERNEL_REFUSED);
    let error = bench.report.borrow().last_error.clone().unwrap();
    assert_eq!(error.0, "refused by the test");
    after(3_000).await;
    assert_eq!(bench.table(), Some(wanted(&new, &[PEERS])));
    assert_eq!((bench.reason(), bench.report.borrow().last_error.clone()), (reason::PROGRAMMED, None));
}

#[tokio::test(start_paused = true)]
async fn a_change_by_somebody_else_is_repaired_within_a_second() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let bench = Bench::enforcing(&policy, &[PEERS]).await;
    bench.settle().await;
    let reads = bench.state(|s| s.reads);
    bench.state(|s| s.fake.table.as_mut().unwrap().chains.get_mut("to_pod").unwrap().rules.clear());
    bench.changes.send(Change::Foreign { by: ["nft (7)".to_owned()].into() }).await.unwrap();
    after(1_000).await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[PEERS])));
    assert_eq!(bench.metric("selvage_agent_repairs_total"), 1);
    let told = || bench.report.borrow().disturbed.as_ref().map(|disturbance| disturbance.message.clone());
    let message = told().expect("the change is told");
    assert!(message.starts_with("changed by nft (7), ") && message.ends_with("chain to_pod"), "{message}");
    bench.state(|s| s.fake.table = None);
    bench.changes.send(Change::Unknown).await.unwrap();
    after(1_000).await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[PEERS])));
    assert_eq!(bench.metric("selvage_agent_repairs_total"), 2);
    for _ in 0..50 {
        bench.changes.send(Change::Unknown).await.unwrap();
        after(20).await;
    }
    assert!(bench.state(|s| s.reads) - reads < 8, "a storm of notices is not a storm of reads");
    assert!(told().is_some_and(|message| message.ends_with("the table is gone")), "{:?}", told());
    after(700_000).await;
    assert_eq!(told(), None, "what was done long ago");
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_told_of_is_found_within_a_minute() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let bench = Bench::enforcing(&policy, &[]).await;
    bench.settle().await;
    bench.state(|s| s.fake.table = None);
    after(61_000).await;
    assert_eq!(bench.table(), Some(wanted(&policy, &[])));
}

#[tokio::test(start_paused = true)]
async fn connections_are_forgotten_when_an_address_changes_hands_or_leaves() {
    let bench =
        Bench::enforcing(&node_policy(&[("a", "1", "10.244.1.2"), ("b", "2", "10.244.1.3")], &[]), &[]).await;
    bench.state(|s| assert!(s.forgotten.is_empty()));
    bench.publish(2, &node_policy(&[("a", "9", "10.244.1.2"), ("c", "3", "10.244.1.4")], &[]));
    bench.settle().await;
    let both = ["10.244.1.2".parse().unwrap(), "10.244.1.3".parse().unwrap()].into();
    bench.state(|s| assert_eq!(s.forgotten, [both]));
}

#[tokio::test(start_paused = true)]
async fn connections_that_could_not_be_forgotten_are_forgotten_later() {
    let bench = Bench::enforcing(&node_policy(&[("a", "1", "10.244.1.2")], &[]), &[]).await;
    bench.state(|s| s.refuse_to_forget = true);
    bench.publish(2, &node_policy(&[], &[]));
    bench.settle().await;
    assert_eq!(bench.reason(), reason::KERNEL_REFUSED);
    after(2_000).await;
    bench.state(|s| assert_eq!(s.forgotten, [["10.244.1.2".parse().unwrap()].into()]));
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_cannot_be_read_is_asked_again_with_pauses() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let bench = Bench::enforcing(&policy, &[]).await;
    bench.settle().await;
    let before = bench.state(|s| {
        s.refuse_to_read = true;
        s.reads
    });
    bench.changes.send(Change::Unknown).await.unwrap();
    after(60_000).await;
    let reads = bench.state(|s| s.reads) - before;
    assert!((3..20).contains(&reads), "{reads} reads");
    assert_eq!(bench.reason(), reason::KERNEL_REFUSED);
    bench.state(|s| s.refuse_to_read = false);
    after(16_000).await;
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_lost_its_kernel_ends_so_that_the_agent_starts_again() {
    let bench = Bench::enforcing(&node_policy(&[], &[]), &[]).await;
    bench.state(|s| s.die = true);
    bench.publish(2, &node_policy(&[("a", "1", "10.244.1.2")], &[]));
    bench.ended().await;
}

#[tokio::test(start_paused = true)]
async fn the_cni_result_places_a_pod_before_the_api_knows_its_address() {
    let bench = Bench::enforcing(&node_policy(&[("a", "1", "")], &[]), &[]).await;
    let attachment = attachment("a", Some("1"), "10.244.1.2");
    bench.cni.send_replace(CniView { attachments: Some(vec![attachment]), unreadable: 0 });
    bench.settle().await;
    assert_eq!(bench.table(), Some(wanted(&node_policy(&[("a", "1", "10.244.1.2")], &[]), &[])));
}

#[tokio::test(start_paused = true)]
async fn a_starting_agent_switches_from_what_an_earlier_one_left_without_a_gap() {
    let old = node_policy(&[("a", "1", "10.244.1.2"), ("gone", "2", "10.244.1.3")], &[G]);
    let new = node_policy(&[("a", "1", "10.244.1.2")], &[G, H]);
    let groups = [PEERS, (H, &["10.0.0.0/8"][..])];
    for standing in [Standing::Orphan, Standing::Ours, Standing::Unowned] {
        let kernel = Shared::default();
        {
            let mut state = kernel.0.lock().unwrap();
            state.fake.table = Some(wanted(&old, &[PEERS]));
            state.standing = Some(standing);
        }
        let bench = Bench::start(kernel);
        bench.know(&groups);
        bench.publish(1, &new);
        bench.settle().await;
        assert_eq!(bench.table(), Some(wanted(&new, &groups)), "{standing:?}");
        bench.state(|s| {
            let guarded =
                |name| s.history.iter().all(|t| t.as_ref().is_some_and(|t| !t.chains[name].rules.is_empty()));
            assert!(
                ["guard", "from_pod", "to_pod", "from_pod_local"].into_iter().all(guarded),
                "{standing:?}"
            );
            let first = s.committed.first().and_then(|t| t.ops.first());
            assert_eq!(first == Some(&Op::AddTable), standing == Standing::Orphan, "{standing:?}");
            if standing != Standing::Unowned {
                assert_eq!(s.forgotten, [["10.244.1.3".parse().unwrap()].into()]);
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_cold_start_is_closed_before_it_is_complete() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let bench = Bench::enforcing(&policy, &[PEERS]).await;
    bench.state(|s| {
        let closed = |t: &Option<_>| {
            let table: &selvage_nftables::model::Ruleset = t.as_ref().unwrap();
            ["from_pod", "to_pod"]
                .iter()
                .all(|name| table.chains[*name].rules.last().is_some_and(|rule| &*rule.id == "unknown-pod"))
        };
        assert!(s.history.len() > 1 && s.history.iter().all(closed));
    });
}

#[tokio::test(start_paused = true)]
async fn a_table_that_another_process_owns_is_waited_for() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let kernel = Shared::default();
    {
        let mut state = kernel.0.lock().unwrap();
        state.fake.table = Some(wanted(&policy, &[]));
        state.standing = Some(Standing::Foreign { port: 77 });
    }
    let bench = Bench::start(kernel);
    bench.know(&[]);
    bench.publish(1, &policy);
    after(5_000).await;
    bench.state(|s| assert!(s.committed.is_empty()));
    assert_eq!(bench.reason(), reason::KERNEL_REFUSED);
    assert!(bench.ready.borrow().is_err());
    bench.state(|s| s.standing = Some(Standing::Orphan));
    after(1_000).await;
    assert_eq!(bench.reason(), reason::PROGRAMMED);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_br_netfilter_enforces_but_is_not_fit() {
    let bench = Bench::enforcing(&node_policy(&[("a", "1", "10.244.1.2")], &[]), &[]).await;
    bench.links.send_modify(|links| links.br_netfilter = false);
    bench.settle().await;
    let report = bench.report.borrow().clone();
    assert_eq!((report.programmed.reason, report.programmed.holds), (reason::NODE_NOT_FIT, false));
    assert!(!report.ready.holds && report.ready.message.contains("br_netfilter"), "{report:?}");
    assert!(bench.ready.borrow().as_ref().is_err_and(|why| why.contains("br_netfilter")));
    bench.links.send_modify(|links| links.br_netfilter = true);
    bench.settle().await;
    assert_eq!((bench.reason(), bench.ready.borrow().clone()), (reason::PROGRAMMED, Ok(())));
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_slice_of_a_group_in_use_is_told() {
    let bench = Bench::enforcing(&node_policy(&[("a", "1", "10.244.1.2")], &[G]), &[PEERS]).await;
    bench.groups.send_modify(|view| {
        view.unreadable.insert(format!("{G}-2-0"), "spec.digest: no".to_owned());
        view.unreadable.insert(format!("{H}-1-0"), "not in use".to_owned());
    });
    bench.settle().await;
    let report = bench.report.borrow().clone();
    assert_eq!(report.programmed.reason, reason::PARTIALLY_PROGRAMMED);
    let [entry] = &*report.not_programmed else { panic!("{report:?}") };
    assert_eq!((&*entry.policy.name, &*entry.reason), ("web", reason::UNREADABLE));
    assert!(entry.message.contains(&format!("{G}-2-0")) && entry.message.contains("spec.digest: no"));
}

#[tokio::test(start_paused = true)]
async fn changes_that_change_nothing_commit_nothing() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[G]);
    let bench = Bench::enforcing(&policy, &[PEERS]).await;
    let commits = bench.state(|s| s.committed.len());
    bench.publish(2, &policy);
    bench.settle().await;
    bench.know(&[PEERS, (H, &["10.0.0.1/32"])]);
    bench.settle().await;
    assert_eq!(bench.state(|s| s.committed.len()), commits);
    assert_eq!(bench.report.borrow().generation, Some(2));
}

#[tokio::test(start_paused = true)]
async fn the_bridge_table_follows_the_ports_of_other_bridges_and_goes_with_a_teardown() {
    let policy = node_policy(&[("a", "1", "10.244.1.2")], &[]);
    let bench = Bench::enforcing(&policy, &[]).await;
    let frames = |names: &[&str]| {
        let foreign_ports = names.iter().map(|name| Arc::from(*name)).collect();
        Some(bridge(&BridgeFacts { foreign_ports, ..BridgeFacts::default() }))
    };
    assert_eq!(bench.bridge(), frames(&[]));
    let ports = |list: &[(&str, &str)]| {
        let ports = list.iter().map(|(port, bridge)| (Arc::from(*port), Arc::from(*bridge))).collect();
        bench.links.send_modify(|links| links.ports = ports);
    };
    ports(&[("veth1", "cni0"), ("veth2", "docker0"), ("eth1", "br0")]);
    bench.settle().await;
    assert_eq!(bench.bridge(), frames(&["eth1", "veth2"]));
    ports(&[("veth1", "cni0")]);
    bench.settle().await;
    assert_eq!(bench.bridge(), frames(&[]));

    bench.state(|s| s.bridge.table.as_mut().unwrap().chains.get_mut("frames").unwrap().rules.clear());
    bench.changes.send(Change::Foreign { by: ["nft (7)".to_owned()].into() }).await.unwrap();
    after(1_000).await;
    assert_eq!((bench.bridge(), bench.metric("selvage_agent_repairs_total")), (frames(&[]), 1));

    bench.observe(2, true, Ok(policy.into()));
    bench.settle().await;
    assert_eq!((bench.bridge(), bench.table()), (None, None));
}
