//! Every kind that people write: enforced, and told what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::fake::{Fake, Fault};
use crate::world::*;

fn global_policy(fake: &Fake, name: &str, spec: Value) {
    fake.put("globalnetworkpolicies", json!({ "metadata": { "name": name }, "spec": spec }));
}

fn set(fake: &Fake, name: &str, nets: Value) {
    let metadata = json!({ "name": name, "labels": { "list": "bad" } });
    fake.put("globalnetworksets", json!({ "metadata": metadata, "spec": { "nets": nets } }));
}

fn admin_policy(fake: &Fake) {
    let rule = json!({ "action": "Deny", "from": [{ "namespaces": {} }] });
    let spec = json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "ingress": [rule] });
    fake.put("clusternetworkpolicies", json!({ "metadata": { "name": "admin" }, "spec": spec }));
}

/// The kinds of the policies that a node enforces.
fn enforced(fake: &Fake, node: &str) -> Vec<String> {
    let policies = node_policy(fake, node).map(|policy| policy["spec"]["policies"].clone());
    let policies = policies.and_then(|policies| policies.as_array().cloned()).unwrap_or_default();
    policies.iter().map(|policy| policy["kind"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn policies_of_every_kind_are_enforced_and_carry_their_status() {
    let fake = cluster();
    for node in ["n1", "n2"] {
        agent(&fake, node, true);
    }
    let rule = json!({ "action": "Allow", "source": { "selector": "app == 'web'" } });
    global_policy(&fake, "g", json!({ "selector": "app == 'db'", "ingress": [rule] }));
    let spec = json!({ "selector": "app == 'db'", "types": ["Ingress"] });
    fake.put(
        "selvagenetworkpolicies",
        json!({ "metadata": { "namespace": "a", "name": "s" }, "spec": spec }),
    );
    admin_policy(&fake);
    let replica = Replica::start(&fake, "one");
    let all = ["ClusterNetworkPolicy", "GlobalNetworkPolicy", "NetworkPolicy", "SelvageNetworkPolicy"];
    until("all are enforced", || {
        all.iter().all(|kind| enforced(&fake, "n2").iter().any(|found| found == kind))
    })
    .await;
    let basis = node_policy(&fake, "n2").unwrap()["spec"]["basis"].clone();
    assert!(basis["ClusterNetworkPolicy"].is_string() && basis["GlobalNetworkPolicy"].is_string(), "{basis}");
    until_is(&fake, "globalnetworkpolicies", "", "g", "Programmed", ("False", "Pending")).await;
    report(&fake, "n1", |_| ());
    report(&fake, "n2", |_| ());
    for (plural, namespace, name) in [
        ("globalnetworkpolicies", "", "g"),
        ("selvagenetworkpolicies", "a", "s"),
        ("clusternetworkpolicies", "", "admin"),
    ] {
        until_is(&fake, plural, namespace, name, "Programmed", ("True", "Programmed")).await;
        until_is(&fake, plural, namespace, name, "Accepted", ("True", "Accepted")).await;
    }
    let status = |plural: &str, name: &str| fake.get(plural, "", name).unwrap()["status"].clone();
    let global = status("globalnetworkpolicies", "g");
    assert_eq!((&global["nodes"]["summary"], &global["endpoints"]), (&json!("1/1"), &json!(1)));
    let fields: Vec<String> =
        status("clusternetworkpolicies", "admin").as_object().unwrap().keys().cloned().collect();
    assert_eq!(fields, ["conditions"], "upstream's status has no other field");
    a_while().await;
    fake.forget_calls();
    a_while().await;
    assert_eq!(fake.writes(), [], "nothing is written without a change");
    replica.stop().await;
}

#[tokio::test]
async fn what_a_policy_of_ours_says_wrongly_is_named_there_and_by_an_event() {
    let fake = cluster();
    let rule = json!({ "action": "Allow", "source": { "nets": ["010.0.0.0/8"] } });
    global_policy(&fake, "odd", json!({ "selector": "all()", "ingress": [rule] }));
    global_policy(&fake, "unreadable", json!({ "selector": "app ==" }));
    let replica = Replica::start(&fake, "one");
    until_is(&fake, "globalnetworkpolicies", "", "odd", "Accepted", ("False", "PartiallyInvalid")).await;
    until_is(&fake, "globalnetworkpolicies", "", "unreadable", "Accepted", ("False", "Invalid")).await;
    until("both are told", || fake.all("events").len() == 2).await;
    a_while().await;
    assert_eq!(fake.all("events").len(), 2, "told once");
    let kinds: Vec<Value> =
        fake.all("events").iter().map(|event| event["regarding"]["kind"].clone()).collect();
    assert_eq!(kinds, [json!("GlobalNetworkPolicy"), json!("GlobalNetworkPolicy")]);
    replica.stop().await;
}

#[tokio::test]
async fn a_set_reaches_the_nodes_and_says_who_uses_it() {
    let fake = cluster();
    agent(&fake, "n2", true);
    set(&fake, "bad", json!(["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/32"]));
    let rule = json!({ "action": "Deny", "source": { "selector": "list == 'bad'" } });
    global_policy(&fake, "g", json!({ "selector": "app == 'db'", "ingress": [rule] }));
    let replica = Replica::start(&fake, "one");
    until("its members are published", || members(&fake).iter().any(|member| member == "2001:db8::/32"))
        .await;
    until("n2 is sent it", || enforced(&fake, "n2").contains(&"GlobalNetworkPolicy".to_owned())).await;
    report(&fake, "n2", |_| ());
    until_is(&fake, "globalnetworksets", "", "bad", "Programmed", ("True", "Programmed")).await;
    let status = fake.get("globalnetworksets", "", "bad").unwrap()["status"].clone();
    assert_eq!((&status["members"], &status["nodes"]["summary"]), (&json!(3), &json!("1/1")));
    assert_eq!(status["policies"], json!({ "count": 1, "names": ["GlobalNetworkPolicy g"] }));

    fake.edit("globalnetworksets", "", "bad", |set| {
        set["spec"]["nets"] = json!(["198.51.100.0/24", "nowhere"])
    });
    until("the change is published", || members(&fake).contains(&"198.51.100.0/24".to_owned())).await;
    until_is(&fake, "globalnetworksets", "", "bad", "Accepted", ("False", "PartiallyInvalid")).await;
    until_is(&fake, "globalnetworksets", "", "bad", "Programmed", ("True", "Programmed")).await;
    assert_eq!(fake.get("globalnetworksets", "", "bad").unwrap()["status"]["observedGeneration"], 2);
    replica.stop().await;
}

#[tokio::test]
async fn service_accounts_and_backends_reach_the_policies_that_name_them() {
    let fake = cluster();
    fake.edit("pods", "a", "web", |pod| pod["spec"]["serviceAccountName"] = json!("front"));
    let metadata = json!({ "namespace": "a", "name": "front", "labels": { "trusted": "yes" } });
    fake.put("serviceaccounts", json!({ "metadata": metadata }));
    let source = json!({ "serviceAccounts": { "selector": "trusted == 'yes'" } });
    let ingress = json!([{ "action": "Allow", "source": source }]);
    let service = json!({ "services": { "name": "out", "namespace": "a" } });
    let egress = json!([{ "action": "Allow", "destination": service }]);
    fake.remove("networkpolicies", "a", "db");
    let spec = json!({ "selector": "app == 'db'", "ingress": ingress, "egress": egress });
    global_policy(&fake, "g", spec);
    let metadata = json!({
        "namespace": "a", "name": "out-1", "labels": { "kubernetes.io/service-name": "out" },
    });
    let slice = json!({
        "metadata": metadata, "addressType": "IPv4",
        "endpoints": [{ "addresses": ["203.0.113.9"] }], "ports": [{ "protocol": "TCP", "port": 443 }],
    });
    fake.put("endpointslices", slice);
    let replica = Replica::start(&fake, "one");
    let is = |wanted: &[&str]| {
        let found = members(&fake);
        wanted.len() == found.len()
            && wanted.iter().all(|part| found.iter().any(|member| member.contains(part)))
    };
    until("both are published", || is(&["10.244.1.2", "203.0.113.9"])).await;
    fake.edit("serviceaccounts", "a", "front", |account| account["metadata"]["labels"] = json!({}));
    until("the account is not trusted any more", || is(&["203.0.113.9"])).await;
    fake.remove("endpointslices", "a", "out-1");
    until("the backend is gone", || is(&[])).await;
    replica.stop().await;
}

#[tokio::test]
async fn nothing_is_published_before_every_kind_is_listed() {
    let fake = cluster();
    let held = Arc::new(AtomicBool::new(true));
    let holds = held.clone();
    fake.on_call(move |call| {
        (call.plural == "globalnetworksets" && call.verb == "list" && holds.load(Ordering::SeqCst))
            .then_some(Fault::Refuse(500))
    });
    let replica = Replica::start(&fake, "one");
    a_while().await;
    assert_eq!(fake.writes(), []);
    held.store(false, Ordering::SeqCst);
    settled(&fake).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_cluster_without_cluster_network_policies_waits_for_none() {
    let fake = cluster();
    let served = Arc::new(AtomicBool::new(false));
    let serves = served.clone();
    fake.on_call(move |call| {
        (call.plural == "clusternetworkpolicies" && !serves.load(Ordering::SeqCst))
            .then_some(Fault::Refuse(404))
    });
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let lists = || fake.calls().iter().filter(|call| call.plural == "clusternetworkpolicies").count();
    let before = lists();
    a_while().await;
    assert!(lists() - before <= 1, "it is not asked for again and again");
    // The definition comes, and with it a policy.
    admin_policy(&fake);
    served.store(true, Ordering::SeqCst);
    until("it is enforced", || enforced(&fake, "n2").contains(&"ClusterNetworkPolicy".to_owned())).await;
    // It is not served any more, without a word about its objects.
    served.store(false, Ordering::SeqCst);
    fake.break_watches();
    pod(&fake, "new", "n2", "10.244.2.9");
    until("publishing goes on", || node_policy(&fake, "n2").unwrap()["spec"]["endpoints"][1].is_object())
        .await;
    assert!(enforced(&fake, "n2").contains(&"ClusterNetworkPolicy".to_owned()), "what was known stays");
    replica.stop().await;
}
