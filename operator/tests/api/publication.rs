//! What one leader writes, and in which order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::fake::Fault;
use crate::world::*;

/// The kinds of the calls that publish, in their order.
fn order(fake: &crate::fake::Fake) -> Vec<(String, String)> {
    let published = ["nodepolicies", "addressgroups"];
    let writes = fake.writes().into_iter().filter(|call| published.contains(&call.plural.as_str()));
    writes.map(|call| (call.verb, call.plural)).collect()
}

fn named(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(verb, plural)| ((*verb).to_owned(), (*plural).to_owned())).collect()
}

#[tokio::test]
async fn groups_come_before_the_policies_that_name_them() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let first = [("create", "addressgroups"), ("create", "nodepolicies"), ("create", "nodepolicies")];
    assert_eq!(order(&fake), named(&first));
    let slice = &fake.all("addressgroups")[0];
    let labels = slice["metadata"]["labels"].as_object().unwrap();
    let bucket = selvage_crds::bucket::Bucket::of_node("n2").label();
    let other = selvage_crds::bucket::Bucket::of_node("n1").label();
    assert!(labels.contains_key(&bucket), "the node that needs it: {labels:?}");
    assert!(bucket == other || !labels.contains_key(&other), "and no other: {labels:?}");
    replica.stop().await;
}

#[tokio::test]
async fn a_member_more_touches_no_node_policy_of_others() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    fake.forget_calls();
    let before = node_policy(&fake, "n2");
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.9"));
    until("the group follows", || members(&fake) == ["10.244.1.9"]).await;
    a_while().await;
    assert_eq!(order(&fake), named(&[("update", "addressgroups"), ("update", "nodepolicies")]));
    assert_eq!(node_policy(&fake, "n2"), before);
    replica.stop().await;
}

#[tokio::test]
async fn what_goes_comes_last() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    fake.forget_calls();
    // A pod that only leaves a group, and a node that goes.
    fake.edit("pods", "a", "web", |pod| pod["status"]["phase"] = json!("Succeeded"));
    until("the member left", || members(&fake).is_empty()).await;
    until("the endpoint left", || node_policy(&fake, "n1").unwrap()["spec"]["endpoints"].is_null()).await;
    assert_eq!(order(&fake), named(&[("update", "nodepolicies"), ("update", "addressgroups")]));
    fake.remove("nodes", "", "n1");
    until("its NodePolicy went", || node_policy(&fake, "n1").is_none()).await;
    replica.stop().await;
}

#[tokio::test]
async fn nothing_is_written_before_every_list_is_complete() {
    let fake = cluster();
    let held = Arc::new(AtomicBool::new(true));
    let holds = held.clone();
    fake.on_call(move |call| {
        let held = holds.load(Ordering::SeqCst) && call.plural == "pods" && call.verb == "list";
        held.then_some(Fault::Refuse(500))
    });
    let replica = Replica::start(&fake, "one");
    until("the others are listed", || {
        let listed = |plural: &str| fake.calls().iter().any(|c| c.verb == "watch" && c.plural == plural);
        ["namespaces", "nodes", "networkpolicies", "nodepolicies", "addressgroups"].into_iter().all(listed)
    })
    .await;
    a_while().await;
    assert_eq!(fake.writes(), [], "without the pods, policies would be compiled against nobody");
    held.store(false, Ordering::SeqCst);
    settled(&fake).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_relist_brings_what_was_missed_and_writes_nothing_else() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    fake.forget_calls();
    fake.break_watches();
    until("everything is listed again", || {
        let listed = |plural: &str| fake.calls().iter().any(|c| c.verb == "list" && c.plural == plural);
        ["pods", "namespaces", "nodes", "networkpolicies", "nodepolicies", "addressgroups"]
            .into_iter()
            .all(listed)
    })
    .await;
    a_while().await;
    assert_eq!(fake.writes(), []);
    // The pod is deleted while nobody watches, and the first list of pods after it breaks.
    let broken = Arc::new(AtomicBool::new(false));
    let once = broken.clone();
    fake.on_call(move |call| {
        let first = call.plural == "pods" && call.verb == "list" && !once.swap(true, Ordering::SeqCst);
        first.then_some(Fault::Refuse(500))
    });
    fake.remove_unseen("pods", "a", "web");
    fake.break_watches();
    until("the deletion is noticed", || members(&fake).is_empty()).await;
    assert!(broken.load(Ordering::SeqCst));
    replica.stop().await;
}

#[tokio::test]
async fn an_object_that_cannot_be_decoded_keeps_its_old_version() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let before = published(&fake);
    fake.edit("networkpolicies", "a", "db", |policy| policy["spec"]["ingress"] = json!("all of it"));
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"] = json!(7));
    a_while().await;
    assert_eq!(published(&fake), before);
    fake.break_watches();
    a_while().await;
    assert_eq!(published(&fake), before, "listed anew, it still counts as there");
    replica.stop().await;
}

#[tokio::test]
async fn what_others_change_is_written_again() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let slice = fake.all("addressgroups")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let wish = |fake: &crate::fake::Fake| {
        let slice = fake.get("addressgroups", SYSTEM, &slice);
        let labels = slice.as_ref().map(|slice| slice["metadata"]["labels"].clone());
        (
            slice.map(|slice| slice["spec"]["members"].clone()),
            labels,
            node_policy(fake, "n2").map(|mut policy| {
                // Statuses that are written meanwhile are newer versions of what it is based on.
                policy["spec"]["basis"] = json!({});
                policy["spec"].clone()
            }),
        )
    };
    let before = wish(&fake);
    fake.edit("addressgroups", SYSTEM, &slice, |slice| slice["spec"]["members"] = json!(["0.0.0.0/0"]));
    until("the members are back", || wish(&fake) == before).await;
    fake.edit("addressgroups", SYSTEM, &slice, |slice| slice["metadata"]["labels"] = json!({}));
    until("the labels are back", || wish(&fake) == before).await;
    fake.edit("nodepolicies", SYSTEM, "n2", |policy| policy["spec"]["endpoints"] = json!([]));
    until("the endpoints are back", || wish(&fake) == before).await;
    fake.edit("nodepolicies", SYSTEM, "n2", |policy| policy["spec"] = json!({ "format": "odd" }));
    until("the spec is back", || wish(&fake) == before).await;
    fake.remove("addressgroups", SYSTEM, &slice);
    fake.remove("nodepolicies", SYSTEM, "n2");
    until("both are back", || wish(&fake) == before).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_report_of_an_agent_makes_no_write_to_its_node_policy() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    fake.forget_calls();
    fake.edit("nodepolicies", SYSTEM, "n2", |policy| {
        policy["status"] = json!({ "revision": 7, "formats": [1] })
    });
    a_while().await;
    assert_eq!(order(&fake), []);
    replica.stop().await;
}

#[tokio::test]
async fn a_write_that_fails_is_tried_again_and_holds_nobody_up() {
    let fake = cluster();
    let tries = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = tries.clone();
    fake.on_call(move |call| {
        let mine = call.plural == "nodepolicies" && call.verb == "create" && call.name == "n1";
        let code =
            if mine { [429, 500, 503].get(counted.fetch_add(1, Ordering::SeqCst) as usize) } else { None };
        code.map(|code| Fault::Refuse(*code))
    });
    let replica = Replica::start(&fake, "one");
    until("the other is written", || node_policy(&fake, "n2").is_some()).await;
    settled(&fake).await;
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    replica.stop().await;
}

fn teardown(fake: &crate::fake::Fake, node: &str, flag: bool) {
    fake.edit("nodepolicies", SYSTEM, node, |policy| policy["spec"]["teardown"] = json!(flag));
}

#[tokio::test]
async fn teardown_stops_every_write() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    teardown(&fake, "n1", true);
    a_while().await;
    fake.forget_calls();
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.9"));
    // As uninstalling ends: what comes back now would stay in the kernels.
    fake.remove("nodepolicies", SYSTEM, "n1");
    fake.remove("nodepolicies", SYSTEM, "n2");
    fake.remove("networkpolicystatuses", "a", "db");
    a_while().await;
    assert_eq!(fake.writes(), []);
    replica.stop().await;
}

#[tokio::test]
async fn a_teardown_that_is_taken_back_lets_publishing_go_on() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    teardown(&fake, "n1", true);
    teardown(&fake, "n2", true);
    a_while().await;
    teardown(&fake, "n1", false);
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.9"));
    a_while().await;
    assert_eq!(members(&fake), ["10.244.1.2"], "the other is still torn down");
    teardown(&fake, "n2", false);
    until("what changed meanwhile is published", || members(&fake) == ["10.244.1.9"]).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_teardown_left_over_by_a_failed_uninstall_is_taken_back() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    teardown(&fake, "n1", true);
    teardown(&fake, "n2", true);
    a_while().await;
    fake.remove("nodepolicies", SYSTEM, "n2");
    replica.stop().await;
    // Installed again: the node whose agent never answered, and the one whose NodePolicy is gone.
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.9"));
    let replica = Replica::start(&fake, "two");
    let flag = |node: &str| node_policy(&fake, node).map(|policy| policy["spec"]["teardown"].clone());
    until("both are enforced", || flag("n1") == Some(json!(false)) && flag("n2") == Some(json!(false))).await;
    until("with what is there now", || members(&fake) == ["10.244.1.9"]).await;
    // A teardown that goes on while operators change over sets its flags again.
    a_while().await;
    teardown(&fake, "n1", true);
    a_while().await;
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.10"));
    a_while().await;
    assert_eq!((members(&fake), flag("n1")), (vec!["10.244.1.9".to_owned()], Some(json!(true))));
    replica.stop().await;
}
