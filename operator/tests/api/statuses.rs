//! NetworkPolicyStatus and IPPool as they stand after all.

use serde_json::{Value, json};

use crate::fake::{Fake, Fault};
use crate::world::*;

fn status(fake: &Fake, name: &str) -> Value {
    fake.get("networkpolicystatuses", "a", name).map(|found| found["status"].clone()).unwrap_or_default()
}

fn condition(fake: &Fake, name: &str, kind: &str) -> (String, String) {
    let status = status(fake, name);
    let found = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = found.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default();
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn is(fake: &Fake, name: &str, kind: &str, status: &str, reason: &str) -> bool {
    condition(fake, name, kind) == (status.to_owned(), reason.to_owned())
}

#[tokio::test]
async fn programmed_follows_the_nodes() {
    let fake = cluster();
    agent(&fake, "n2", true);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    assert!(is(&fake, "db", "Accepted", "True", "Accepted"));
    assert!(is(&fake, "db", "Programmed", "False", "Pending"), "{}", status(&fake, "db"));
    report(&fake, "n2", |_| ());
    until("it stands", || is(&fake, "db", "Programmed", "True", "Programmed")).await;
    assert_eq!(status(&fake, "db")["nodes"]["summary"], "1/1");
    let found = fake.get("networkpolicystatuses", "a", "db").unwrap();
    let policy = fake.get("networkpolicies", "a", "db").unwrap();
    let owner = &found["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["uid"]), (&json!("NetworkPolicy"), &policy["metadata"]["uid"]));
    // `kubectl wait` compares the condition with the generation of the object that it stands in.
    assert_eq!(found["metadata"]["generation"], 1);

    report(&fake, "n2", |status| {
        let condition = json!({
            "type": "Programmed", "status": "False", "reason": "KernelRefused", "message": "no memory",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        status["conditions"] = json!([condition]);
    });
    until("the failure is named", || is(&fake, "db", "Programmed", "False", "Failed")).await;
    let detail = json!({ "name": "n2", "reason": "KernelRefused", "message": "no memory" });
    assert_eq!(status(&fake, "db")["nodes"]["details"][0], detail);
    replica.stop().await;
}

#[tokio::test]
async fn a_new_generation_is_not_programmed_by_the_report_of_the_old() {
    let fake = cluster();
    agent(&fake, "n2", true);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    report(&fake, "n2", |_| ());
    until("it stands", || is(&fake, "db", "Programmed", "True", "Programmed")).await;
    fake.edit("networkpolicies", "a", "db", |policy| policy["spec"]["ingress"] = json!([]));
    until("the new generation is waited for", || {
        status(&fake, "db")["observedGeneration"] == json!(2)
            && is(&fake, "db", "Programmed", "False", "Pending")
    })
    .await;
    report(&fake, "n2", |_| ());
    until("it stands again", || is(&fake, "db", "Programmed", "True", "Programmed")).await;
    replica.stop().await;
}

#[tokio::test]
async fn pods_that_come_and_go_write_no_condition_anew() {
    let fake = cluster();
    agent(&fake, "n1", true);
    agent(&fake, "n2", true);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    report(&fake, "n2", |_| ());
    until("it stands", || is(&fake, "db", "Programmed", "True", "Programmed")).await;
    fake.forget_calls();
    // A second db on the other node: that node's set of policies is new, and its agent takes a moment.
    fake.put(
        "pods",
        json!({
            "metadata": { "namespace": "a", "name": "db-2", "labels": { "app": "db" } },
            "spec": { "nodeName": "n1", "containers": [] },
            "status": { "phase": "Running", "podIPs": [{ "ip": "10.244.1.7" }] },
        }),
    );
    until("it is sent", || node_policy(&fake, "n1").unwrap()["spec"]["policies"].is_array()).await;
    a_while().await;
    report(&fake, "n1", |_| ());
    until("both are counted", || status(&fake, "db")["nodes"]["summary"] == "2/2").await;
    let writes = fake.writes().into_iter().filter(|call| call.plural == "networkpolicystatuses");
    let said: Vec<Value> = writes.map(|call| call.body["status"]["conditions"].clone()).collect();
    let programmed = |conditions: &Value| {
        conditions.as_array().unwrap().iter().any(|c| c["type"] == "Programmed" && c["status"] == "True")
    };
    assert!(said.iter().all(programmed), "never anything but True: {said:?}");
    replica.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_named_in_the_condition_and_by_an_event() {
    let fake = cluster();
    let spec =
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "010.0.0.0/8" } }] }] });
    policy(&fake, "odd", spec);
    let term = json!({ "key": "a", "operator": "Near", "values": ["b"] });
    policy(&fake, "unreadable", json!({ "podSelector": { "matchExpressions": [term] } }));
    let spec =
        json!({ "podSelector": {}, "ingress": [{ "from": [{ "ipBlock": { "cidr": "10.0.0.1/8" } }] }] });
    policy(&fake, "noted", spec);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    until("all is said", || status(&fake, "noted").is_object() && fake.all("events").len() == 2).await;
    assert!(is(&fake, "odd", "Accepted", "False", "PartiallyInvalid"));
    assert!(is(&fake, "unreadable", "Accepted", "False", "Invalid"));
    assert!(is(&fake, "unreadable", "Programmed", "False", "Invalid"));
    assert!(is(&fake, "noted", "Accepted", "True", "Accepted"));
    let message = |name: &str| status(&fake, name)["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(
        message("odd").starts_with("spec.ingress[0].from[0].ipBlock.cidr: \"010.0.0.0/8\""),
        "{}",
        message("odd")
    );
    assert!(message("noted").contains("is read as 10.0.0.0/8"), "{}", message("noted"));
    let mut told: Vec<Value> = fake.all("events").iter().map(|e| e["regarding"]["name"].clone()).collect();
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, [json!("odd"), json!("unreadable")]);
    a_while().await;
    assert_eq!(fake.all("events").len(), 2, "told once");
    replica.stop().await;
}

#[tokio::test]
async fn a_policy_that_selects_nobody_is_programmed() {
    let fake = cluster();
    policy(&fake, "nobody", json!({ "podSelector": { "matchLabels": { "app": "nobody" } } }));
    let replica = Replica::start(&fake, "one");
    until("it is said", || is(&fake, "nobody", "Programmed", "True", "NoEndpoints")).await;
    assert_eq!(status(&fake, "nobody")["nodes"]["summary"], "0/0");
    replica.stop().await;
}

#[tokio::test]
async fn a_policy_made_anew_does_not_inherit_the_status_of_its_namesake() {
    let fake = cluster();
    agent(&fake, "n2", true);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    report(&fake, "n2", |_| ());
    until("it stands", || is(&fake, "db", "Programmed", "True", "Programmed")).await;
    let spec = fake.get("networkpolicies", "a", "db").unwrap()["spec"].clone();
    fake.remove("networkpolicies", "a", "db");
    policy(&fake, "db", spec);
    let uid = fake.get("networkpolicies", "a", "db").unwrap()["metadata"]["uid"].clone();
    until("it has a status of its own", || {
        fake.get("networkpolicystatuses", "a", "db").is_some_and(|found| {
            found["spec"]["uid"] == uid && found["metadata"]["generation"] == 1 && found["status"].is_object()
        })
    })
    .await;
    replica.stop().await;
}

#[tokio::test]
async fn pools_say_what_nodes_have() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let pools = fake.all("ippools");
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0]["spec"]["cidr"], "10.244.0.0/22");
    let status = &pools[0]["status"];
    assert_eq!((&status["capacity"], &status["addressesInUse"]), (&json!("1024"), &json!(2)));
    let block = json!({ "node": "n1", "cidr": "10.244.1.0/24" });
    assert_eq!((&status["blockCount"], &status["blocks"][0]), (&json!(2), &block));
    assert_eq!(status["conditions"][0]["status"], "True");
    replica.stop().await;
}

#[tokio::test]
async fn a_group_that_the_api_server_refuses_fails_the_policies_that_name_it() {
    let fake = cluster();
    agent(&fake, "n1", true);
    agent(&fake, "n2", true);
    policy(&fake, "closed", json!({ "podSelector": {} }));
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    report(&fake, "n1", |_| ());
    report(&fake, "n2", |_| ());
    until("both stand", || {
        ["db", "closed"].iter().all(|name| is(&fake, name, "Programmed", "True", "Programmed"))
    })
    .await;
    fake.on_call(|call| {
        (call.plural == "addressgroups" && call.verb == "update").then_some(Fault::Refuse(422))
    });
    fake.edit("pods", "a", "web", |pod| pod["status"]["podIPs"][0]["ip"] = json!("10.244.1.9"));
    until("it is told", || is(&fake, "db", "Programmed", "False", "Failed")).await;
    assert_eq!(status(&fake, "db")["nodes"]["details"][0]["reason"], "Invalid");
    assert!(is(&fake, "closed", "Programmed", "True", "Programmed"), "it names no group");
    let about = |event: &Value| event["regarding"]["kind"] == "AddressGroup";
    until("an event tells too", || fake.all("events").iter().any(about)).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_decoded_is_not_accepted() {
    let fake = cluster();
    policy(&fake, "broken", json!({ "podSelector": {}, "ingress": "all of it" }));
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    until("it is said", || is(&fake, "broken", "Accepted", "False", "Unreadable")).await;
    assert!(is(&fake, "broken", "Programmed", "False", "Invalid"));
    fake.edit("networkpolicies", "a", "broken", |policy| policy["spec"]["ingress"] = json!([]));
    until("it is read", || is(&fake, "broken", "Accepted", "True", "Accepted")).await;
    fake.edit("networkpolicies", "a", "broken", |policy| policy["spec"]["ingress"] = json!(7));
    a_while().await;
    assert!(is(&fake, "broken", "Accepted", "True", "Accepted"), "the version that is enforced");
    assert_eq!(status(&fake, "broken")["observedGeneration"], 2);
    replica.stop().await;
}
