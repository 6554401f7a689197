//! Tiers and pools that the operator keeps.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::world::*;

const FINALIZER: &str = "selvage.io/policies";

fn spec(fake: &Fake, tier: &str) -> Value {
    fake.get("tiers", "", tier).map(|tier| tier["spec"].clone()).unwrap_or_default()
}

fn policy_in(fake: &Fake, tier: &str) {
    let spec = json!({ "tier": tier, "selector": "app == 'db'", "types": ["Ingress"] });
    fake.put("globalnetworkpolicies", json!({ "metadata": { "name": "g" }, "spec": spec }));
}

fn tier(fake: &Fake, name: &str) {
    fake.put("tiers", json!({ "metadata": { "name": name }, "spec": { "order": 5.0 } }));
}

fn finalizers(fake: &Fake, name: &str) -> Option<Value> {
    fake.get("tiers", "", name).map(|tier| tier["metadata"]["finalizers"].clone())
}

/// The names of the policies that n2 enforces.
fn enforced(fake: &Fake) -> Vec<String> {
    let policies = node_policy(fake, "n2").map(|policy| policy["spec"]["policies"].clone());
    let policies = policies.and_then(|policies| policies.as_array().cloned()).unwrap_or_default();
    policies.iter().map(|policy| policy["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn the_three_tiers_always_exist_as_they_are() {
    let fake = cluster();
    let replica = Replica::start(&fake, "one");
    let all = |fake: &Fake| {
        spec(fake, "kube-admin") == json!({ "order": 1000.0, "defaultAction": "Pass" })
            && spec(fake, "default") == json!({ "order": 1_000_000.0, "defaultAction": "Deny" })
            && spec(fake, "kube-baseline") == json!({ "order": 10_000_000.0, "defaultAction": "Pass" })
    };
    until("they are there", || all(&fake)).await;
    until_is(&fake, "tiers", "", "kube-admin", "Programmed", ("True", "NoEndpoints")).await;
    fake.edit("tiers", "", "default", |tier| tier["spec"] = json!({ "order": 1.0, "defaultAction": "Pass" }));
    until("what was changed is as before", || all(&fake)).await;
    fake.remove("tiers", "", "kube-admin");
    until("what was deleted is back", || all(&fake)).await;
    assert_eq!(finalizers(&fake, "default"), Some(Value::Null));
    replica.stop().await;
}

#[tokio::test]
async fn a_tier_with_policies_is_not_deleted() {
    let fake = cluster();
    tier(&fake, "t");
    policy_in(&fake, "t");
    let replica = Replica::start(&fake, "one");
    until("it is held", || finalizers(&fake, "t") == Some(json!([FINALIZER]))).await;
    until("it is enforced", || enforced(&fake).contains(&"g".to_owned())).await;
    fake.remove("tiers", "", "t");
    until_is(&fake, "tiers", "", "t", "DeletionHeld", ("True", "InUse")).await;
    let told = |event: &Value| event["regarding"]["kind"] == "Tier" && event["reason"] == "InUse";
    until("an event tells", || fake.all("events").iter().any(told)).await;
    let note = fake.all("events").iter().find(|event| told(event)).map(|event| event["note"].clone());
    assert!(note.unwrap().as_str().unwrap().contains("GlobalNetworkPolicy g"));
    a_while().await;
    assert!(enforced(&fake).contains(&"g".to_owned()), "its policies stay in force");
    fake.edit("globalnetworkpolicies", "", "g", |policy| policy["spec"]["tier"] = json!("default"));
    until("it goes when no policy names it", || fake.get("tiers", "", "t").is_none()).await;
    replica.stop().await;
}

#[tokio::test]
async fn a_policy_in_a_missing_tier_is_enforced_when_the_tier_comes() {
    let fake = cluster();
    policy_in(&fake, "later");
    let replica = Replica::start(&fake, "one");
    until_is(&fake, "globalnetworkpolicies", "", "g", "Accepted", ("False", "TierNotFound")).await;
    settled(&fake).await;
    assert_eq!(enforced(&fake), ["db"]);
    tier(&fake, "later");
    until("it is enforced", || enforced(&fake).contains(&"g".to_owned())).await;
    until_is(&fake, "globalnetworkpolicies", "", "g", "Accepted", ("True", "Accepted")).await;
    until("the tier counts it", || {
        fake.get("tiers", "", "later").unwrap()["status"]["policies"]["count"] == 1
    })
    .await;
    replica.stop().await;
}

#[tokio::test]
async fn a_users_pool_is_masqueraded_and_replaces_the_default_one() {
    let fake = cluster();
    agent(&fake, "n1", true);
    agent(&fake, "n2", true);
    let replica = Replica::start(&fake, "one");
    settled(&fake).await;
    let spec = json!({ "cidr": "10.244.0.0/16", "natOutgoing": true });
    fake.put("ippools", json!({ "metadata": { "name": "mine" }, "spec": spec }));
    until("the default one is gone", || fake.all("ippools").len() == 1).await;
    until_is(&fake, "ippools", "", "mine", "Accepted", ("True", "Accepted")).await;
    let from = |node: &str| node_policy(&fake, node).unwrap()["spec"]["masquerade"]["from"].clone();
    until("nodes masquerade", || from("n1") == json!(["10.244.0.0/16"]) && from("n2") == from("n1")).await;
    until_is(&fake, "ippools", "", "mine", "Programmed", ("False", "Pending")).await;
    for node in ["n1", "n2"] {
        let digest = node_policy(&fake, node).unwrap()["spec"]["digest"].clone();
        report(&fake, node, |status| status["digest"] = digest);
    }
    until_is(&fake, "ippools", "", "mine", "Programmed", ("True", "Programmed")).await;
    replica.stop().await;
}

#[tokio::test]
async fn the_younger_of_two_pools_is_told_so_and_not_used() {
    let fake = cluster();
    for (name, cidr, created) in
        [("old", "10.244.0.0/16", "2026-01-01T00:00:00Z"), ("young", "10.244.1.0/24", "2026-01-02T00:00:00Z")]
    {
        let metadata = json!({ "name": name, "creationTimestamp": created });
        fake.put("ippools", json!({ "metadata": metadata, "spec": { "cidr": cidr, "natOutgoing": true } }));
    }
    let replica = Replica::start(&fake, "one");
    until_is(&fake, "ippools", "", "young", "Accepted", ("False", "Overlap")).await;
    until_is(&fake, "ippools", "", "old", "Accepted", ("True", "Accepted")).await;
    fake.remove("ippools", "", "old");
    until_is(&fake, "ippools", "", "young", "Accepted", ("True", "Accepted")).await;
    replica.stop().await;
}
