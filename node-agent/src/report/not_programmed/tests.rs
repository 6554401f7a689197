use std::sync::Arc;

use selvage_policy::compiled::{
    Action, Endpoint, EndpointKey, Policy, PolicyKind, Profile, ProfileId, TierStep,
};

use super::*;

fn key(name: &str) -> PolicyKey {
    PolicyKey { kind: PolicyKind::NetworkPolicy, namespace: "shop".into(), name: name.into() }
}

fn pod(name: &str) -> EndpointKey {
    EndpointKey { namespace: "shop".into(), name: name.into() }
}

/// Pod `web` is selected by `in` and `out`, pod `db` by `other`, and pod `lost` has a profile that is not there.
fn node() -> NodePolicy {
    let steps = |name: &str| {
        vec![TierStep { tier: "default".into(), default_action: Action::Deny, policies: vec![key(name)] }]
    };
    let endpoint = |name: &str, profile| {
        (pod(name), Endpoint { uid: name.into(), profile: ProfileId(profile), addresses: Vec::new() })
    };
    let web = Profile { ingress: steps("in"), egress: steps("out"), ..Profile::default() };
    let db = Profile { ingress: steps("other"), ..Profile::default() };
    NodePolicy {
        endpoints: [endpoint("web", 1), endpoint("db", 2), endpoint("lost", 3)].into(),
        profiles: [(ProfileId(1), web.into()), (ProfileId(2), db.into())].into(),
        policies: ["in", "other", "out"].map(|name| (key(name), Arc::new(Policy::default()))).into(),
        ..NodePolicy::default()
    }
}

fn named(problem: Problem) -> Vec<String> {
    let told = problem.to_string();
    let list = list(&node(), &GroupView::default(), &[problem].into());
    assert!(list.iter().all(|entry| entry.message == told && !entry.reason.is_empty()), "{list:?}");
    list.into_iter().map(|entry| entry.policy.name).collect()
}

#[test]
fn what_closes_an_endpoint_is_told_by_each_of_its_policies() {
    let address = "10.244.1.2".parse().unwrap();
    assert_eq!(named(Problem::TooManyTiers { profile: ProfileId(1) }), ["in", "out"]);
    assert_eq!(named(Problem::AddressShared { endpoint: pod("web"), address }), ["in", "out"]);
    assert_eq!(named(Problem::AddressUnusable { endpoint: pod("db"), address }), ["other"]);
    assert_eq!(named(Problem::PolicyMissing { policy: key("out") }), ["out"]);
    let group = GroupId(1);
    assert_eq!(named(Problem::GroupIncomplete { policy: key("in"), group }), ["in"]);
}

#[test]
fn what_can_concern_any_policy_is_told_by_all() {
    assert_eq!(named(Problem::ProfileMissing { endpoint: pod("lost") }), ["in", "other", "out"]);
    assert_eq!(named(Problem::InterfaceName { name: "a/b".into() }), ["in", "other", "out"]);
}
