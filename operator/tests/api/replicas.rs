//! Two replicas: who writes, and what a change of leaders costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use selvage_crds::NodePolicy;
use selvage_operator::lease::{Elector, Terms};
use selvage_operator::publish::{Action, Outcome, Write, Writer};
use selvage_operator::run::Error;
use selvage_operator::teardown;
use serde_json::json;

use crate::fake::{Fake, Fault};
use crate::world::*;

fn holder(fake: &crate::fake::Fake) -> String {
    let lease = fake.get("leases", SYSTEM, "selvage-operator");
    lease
        .map(|lease| lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
        .unwrap_or_default()
}

#[tokio::test]
async fn a_standby_writes_nothing_until_it_leads() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    let two = Replica::start(&fake, "two");
    pod(&fake, "new", "n1", "10.244.1.3");
    until("the leader follows", || node_policy(&fake, "n1").unwrap()["spec"]["endpoints"][1].is_object())
        .await;
    a_while().await;
    assert!(fake.writes().iter().all(|call| call.client == "one"));
    let before = published(&fake);
    fake.forget_calls();
    one.stop().await;
    until("the lease is handed over", || holder(&fake) == "two").await;
    a_while().await;
    assert_eq!(published(&fake), before, "a new leader rewrites differences alone");
    pod(&fake, "more", "n1", "10.244.1.4");
    until("the new leader follows", || node_policy(&fake, "n1").unwrap()["spec"]["endpoints"][2].is_object())
        .await;
    two.stop().await;
}

#[tokio::test]
async fn a_crashed_leader_is_followed_when_its_lease_has_run_out() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    let two = Replica::start(&fake, "two");
    a_while().await;
    one.crash();
    fake.edit("pods", "a", "web", |pod| pod["status"]["phase"] = json!("Failed"));
    until("the change is published", || members(&fake).is_empty()).await;
    assert_eq!(holder(&fake), "two");
    two.stop().await;
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_writing_and_ends() {
    let fake = cluster();
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    fake.on_call(move |call| {
        (is_cut.load(Ordering::SeqCst) && call.plural == "leases").then_some(Fault::Silence)
    });
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    cut.store(true, Ordering::SeqCst);
    tokio::time::sleep(RENEW_WITHIN + Duration::from_millis(100)).await;
    fake.forget_calls();
    fake.edit("pods", "a", "web", |pod| pod["status"]["phase"] = json!("Failed"));
    let error = one.ended().await;
    assert!(matches!(error, Error::Lease(_)), "{error}");
    assert_eq!(fake.writes(), []);
}

/// A writer whose process won the lease once and does not look at it any more, as one that was stopped for a while.
async fn stopped_leader(fake: &crate::fake::Fake, holds_for: Duration) -> Writer {
    let client = fake.client("one");
    let terms = Terms { duration: holds_for, renew_within: holds_for, retry: Duration::from_secs(60) };
    let (mut elector, mut fence) =
        Elector::new(client.clone(), SYSTEM, "selvage-operator", "one".into(), terms);
    tokio::select! {
        error = elector.run() => panic!("{error}"),
        () = fence.won() => {}
    }
    // The elector's end is the end of the lease; it has to stay.
    std::mem::forget(elector);
    Writer::new(client, SYSTEM, fence)
}

/// A write to n1 from a view that is out of date.
fn outdated(fake: &crate::fake::Fake) -> Write {
    let mut object: NodePolicy = serde_json::from_value(node_policy(fake, "n1").unwrap()).unwrap();
    object.metadata.resource_version = Some("1".into());
    Write::Node("n1".into(), Action::Replace(Box::new(object)))
}

#[tokio::test]
async fn a_conflict_with_a_newer_leader_ends_the_process() {
    let fake = cluster();
    let replica = Replica::start(&fake, "old");
    settled(&fake).await;
    replica.stop().await;
    let writer = stopped_leader(&fake, Duration::from_secs(60)).await;
    let outcome = writer.write(outdated(&fake)).await.unwrap();
    assert!(
        matches!(outcome, Outcome::Conflict(_)),
        "with nobody else leading it is read again: {outcome:?}"
    );
    fake.edit("leases", SYSTEM, "selvage-operator", |lease| lease["spec"]["holderIdentity"] = json!("newer"));
    let error = writer.write(outdated(&fake)).await.unwrap_err().to_string();
    assert!(error.contains("newer") && error.contains("n1"), "{error}");
}

#[tokio::test]
async fn without_the_lease_nothing_is_sent() {
    let fake = cluster();
    let replica = Replica::start(&fake, "old");
    settled(&fake).await;
    replica.stop().await;
    let writer = stopped_leader(&fake, Duration::from_secs(1)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fake.forget_calls();
    let outcome = writer.write(outdated(&fake)).await.unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    assert_eq!(fake.calls(), []);
}

#[tokio::test]
async fn a_new_leader_waits_until_it_has_seen_what_the_last_one_had() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    one.stop().await;
    // The last leader had seen versions that the lists of this one, which are held back, do not show.
    let seen = "999999";
    for node in ["n1", "n2"] {
        fake.edit("nodepolicies", SYSTEM, node, |policy| policy["spec"]["basis"]["Pod"] = json!(seen));
    }
    let held = Arc::new(AtomicBool::new(true));
    let holds = held.clone();
    let mut lists = 0;
    fake.on_call(move |call| {
        if call.plural != "pods" || call.verb != "list" {
            return None;
        }
        lists += 1;
        (lists > 1 && holds.load(Ordering::SeqCst)).then_some(Fault::Refuse(500))
    });
    pod(&fake, "new", "n1", "10.244.1.3");
    fake.forget_calls();
    let two = Replica::start(&fake, "two");
    until("it leads", || holder(&fake) == "two").await;
    a_while().await;
    assert_eq!(fake.writes(), [], "its view of pods may be older than what stands");
    held.store(false, Ordering::SeqCst);
    until("it publishes", || node_policy(&fake, "n1").unwrap()["spec"]["endpoints"][1].is_object()).await;
    let basis = node_policy(&fake, "n1").unwrap()["spec"]["basis"]["Pod"].clone();
    assert_eq!(basis, seen, "a basis never goes back");
    two.stop().await;
}

#[tokio::test]
async fn an_interrupted_cut_of_a_group_is_not_built_upon() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    one.stop().await;
    // The last leader ended while it cut the group anew: slice 0 of 2 of epoch 2 stands alone.
    let old = fake.all("addressgroups").remove(0);
    let mut slice = old.clone();
    let group = old["spec"]["group"].as_str().unwrap();
    slice["metadata"] = json!({
        "namespace": SYSTEM, "name": format!("{group}-2-0"), "labels": old["metadata"]["labels"],
    });
    slice["spec"]["epoch"] = json!(2);
    slice["spec"]["count"] = json!(2);
    fake.put("addressgroups", slice);
    let two = Replica::start(&fake, "two");
    until("a complete cut above all stands", || {
        fake.get("addressgroups", SYSTEM, &format!("{group}-3-0")).is_some_and(|new| {
            new["spec"]["count"] == json!(1) && new["spec"]["members"] == old["spec"]["members"]
        })
    })
    .await;
    assert!(
        fake.get("addressgroups", SYSTEM, &format!("{group}-1-0")).is_some(),
        "readers may still need it"
    );
    two.stop().await;
}

#[tokio::test]
async fn teardown_waits_for_agents_and_names_those_that_do_not_answer() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let torn = |node: &str| {
        fake.edit("nodepolicies", SYSTEM, node, |policy| {
            // Of the generation that the flag will make.
            let generation = policy["metadata"]["generation"].as_i64().unwrap() + 1;
            policy["status"] = json!({ "conditions": [{
                "type": "Programmed", "status": "False", "reason": "TornDown", "message": "",
                "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z",
            }] });
        });
    };
    let ask = |timeout| teardown::teardown(fake.client("hook"), SYSTEM, Duration::from_millis(timeout));
    torn("n1");
    let error = ask(1500).await.unwrap_err().to_string();
    assert!(error.contains("n2") && !error.contains("n1"), "{error}");
    assert!(
        node_policy(&fake, "n2").unwrap()["spec"]["teardown"] == json!(true),
        "it still tears down later"
    );
    assert_eq!(node_policy(&fake, "n1"), None);
    torn("n2");
    ask(30_000).await.unwrap();
    a_while().await;
    for plural in ["nodepolicies", "addressgroups", "networkpolicystatuses", "ippools"] {
        assert_eq!(fake.all(plural), Vec::<serde_json::Value>::new(), "{plural}");
    }
    replica.stop().await;
}

/// As an API server that was restored from a backup: the object is of an older version than the operator has seen.
fn set_back(fake: &Fake, plural: &str, namespace: &str, name: &str) {
    fake.edit_unseen(plural, namespace, name, |object| object["metadata"]["resourceVersion"] = json!("2"));
}

#[tokio::test]
async fn a_lease_of_an_older_history_ends_leader_and_standby() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    let frozen = Arc::new(AtomicBool::new(false));
    let seen = frozen.clone();
    // Nobody renews it, so that both see the same.
    fake.on_call(move |call| {
        let write = call.plural == "leases" && call.verb == "update";
        (write && seen.load(Ordering::SeqCst)).then_some(Fault::Refuse(503))
    });
    let two = Replica::start(&fake, "two");
    a_while().await;
    frozen.store(true, Ordering::SeqCst);
    set_back(&fake, "leases", SYSTEM, "selvage-operator");
    for error in [one.ended().await, two.ended().await] {
        assert!(error.to_string().contains("history went back"), "{error}");
    }
}

#[tokio::test]
async fn an_object_of_an_older_history_ends_the_process() {
    let fake = cluster();
    let one = Replica::start(&fake, "one");
    settled(&fake).await;
    set_back(&fake, "nodepolicies", SYSTEM, "n2");
    fake.edit("pods", "a", "db", |pod| pod["metadata"]["labels"]["app"] = json!("other"));
    let error = one.ended().await.to_string();
    assert!(error.contains("n2") && error.contains("history went back"), "{error}");
}
