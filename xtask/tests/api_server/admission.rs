//! What the chart's admission policies hold: tiers that always exist, selectors of ClusterNetworkPolicies, and who may use
//! which tier.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::refusals::try_out;
use crate::server::{Answer, Server};

/// Admission policies are read by a watch of the server's own: until then nothing is refused.
pub fn until_refused(what: &str, mut ask: impl FnMut() -> Answer) {
    let mut tries = 0..100;
    while ask().success {
        assert!(tries.next().is_some(), "is taken: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until every admission policy of the chart is at work.
pub fn at_work(server: &Server) {
    until_refused("an unreadable network", || {
        let spec = json!({"ingress": [{"action": "Allow", "source": {"nets": ["10.0.0.0/33"]}}]});
        try_out(server, "GlobalNetworkPolicy", "refused", &spec)
    });
    until_refused("an unreadable selector", || {
        let subject = json!({"namespaces": {"matchLabels": {"no key": ""}}});
        try_out(server, "ClusterNetworkPolicy", "refused", &cluster_policy(&subject, json!([])))
    });
}

const BUILT_IN: [(&str, u32, &str); 3] =
    [("kube-admin", 1_000, "Pass"), ("default", 1_000_000, "Deny"), ("kube-baseline", 10_000_000, "Pass")];

pub fn tiers(server: &Server) {
    let always = "this tier always exists and can't be changed";
    for (name, order, action) in BUILT_IN {
        let other = if action == "Pass" { "Deny" } else { "Pass" };
        for spec in
            [json!({"order": order, "defaultAction": other}), json!({"order": 1, "defaultAction": action})]
        {
            try_out(server, "Tier", name, &spec).refused(always);
        }
        create_tier(server, name, &json!({"order": order, "defaultAction": action})).ok();
    }
    until_refused("that a tier goes", || server.kubectl(&["delete", "tier", "default", "--dry-run=server"]));
    create_tier(server, "mine", &json!({"order": -0.5, "defaultAction": "Pass"})).ok();
    create_tier(server, "last", &json!({})).ok();
    for (name, ..) in BUILT_IN {
        for spec in
            [json!({"order": 5}), json!({"order": null}), json!({"defaultAction": "Deny", "order": 1_000})]
        {
            let patch = json!({"spec": spec}).to_string();
            server.kubectl(&["patch", "tier", name, "--type=merge", "--patch", &patch]).refused(always);
        }
        let words = format!("the tier {name} always exists: it can not be deleted");
        server.kubectl(&["delete", "tier", name]).refused(&words);
        server
            .kubectl(&["delete", "--raw", &format!("/apis/selvage.io/v1alpha1/tiers/{name}")])
            .refused(&words);
    }
    // Labels are not what it is.
    server.kubectl(&["label", "tier", "default", "team=network"]).ok();
    let table = server.kubectl(&["get", "tiers"]).ok();
    for column in ["ORDER", "DEFAULT", "ACCEPTED", "PROGRAMMED", "NODES", "POLICIES", "1000000", "Deny"] {
        assert!(table.contains(column), "{column}: {table}");
    }
    server.kubectl(&["patch", "tier", "mine", "--type=merge", "--patch", r#"{"spec":{"order":7}}"#]).ok();
    server.kubectl(&["delete", "tiers", "--all"]).refused("always exists: it can not be deleted");
    let left = server.kubectl(&["get", "tiers", "--output=name"]).ok();
    assert_eq!(left.lines().count(), 3, "{left}");

    let name = "a tier's name has at most 63 letters, digits and dashes, and no dots";
    try_out(server, "Tier", "with.dots", &json!({})).refused(name);
    try_out(server, "Tier", &"a".repeat(64), &json!({})).refused(name);
    let action = json!({"defaultAction": "Allow"});
    try_out(server, "Tier", "refused", &action).refused("spec.defaultAction: Unsupported value: \"Allow\"");
}

/// Once the release is gone nothing holds the tiers.
pub fn tiers_can_go_with_the_release(server: &Server) {
    let mut tries = 0..100;
    while !server.kubectl(&["delete", "tiers", "--all", "--dry-run=server"]).success {
        assert!(tries.next().is_some(), "the tiers are still held");
        thread::sleep(Duration::from_millis(100));
    }
    server.kubectl(&["delete", "tiers", "--all", "--timeout=10s"]).ok();
}

fn create_tier(server: &Server, name: &str, spec: &Value) -> Answer {
    let object = json!({"apiVersion": "selvage.io/v1alpha1", "kind": "Tier", "metadata": {"name": name}, "spec": spec});
    server.kubectl_with(&["create", "--filename=-"], &object)
}

fn cluster_policy(subject: &Value, egress: Value) -> Value {
    json!({"tier": "Admin", "priority": 1, "subject": subject, "egress": egress})
}

pub fn cluster_network_policies(server: &Server) {
    let everywhere = json!({"namespaces": {}});
    let rule = |peers: &str, peer: Value| json!([{"action": "Deny", peers: [{"namespaces": {}}, peer]}]);
    let long = "v".repeat(64);
    let selectors = [
        (json!({"matchLabels": {"no key": "v"}}), "matchLabels: \"no key\" is no label key"),
        (json!({"matchLabels": {"k": "no value"}}), "matchLabels: \"no value\" is no label value"),
        (json!({"matchLabels": {"k": long}}), "is no label value"),
        (
            json!({"matchExpressions": [{"key": "-k", "operator": "Exists"}]}),
            "matchExpressions: \"-k\" is no label key",
        ),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "in", "values": ["v"]}]}),
            "matchExpressions: the operator \"in\" is none of In, NotIn, Exists and DoesNotExist",
        ),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "In"}]}),
            "matchExpressions: In of \"k\" needs values",
        ),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "DoesNotExist", "values": ["v"]}]}),
            "matchExpressions: DoesNotExist of \"k\" takes no values",
        ),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["v", "no value"]}]}),
            "matchExpressions: a value of \"k\" is no label value",
        ),
    ];
    for (selector, words) in &selectors {
        let in_pods = |field: &str| {
            let mut pods = json!({"namespaceSelector": {}, "podSelector": {}});
            pods[field] = selector.clone();
            json!({"pods": pods})
        };
        let whole = json!({"namespaces": selector});
        let nodes = json!({"nodes": selector});
        let (of_namespace, of_pod) = (in_pods("namespaceSelector"), in_pods("podSelector"));
        let mut places = vec![
            ("spec.subject.namespaces".to_owned(), cluster_policy(&whole, json!([]))),
            ("spec.subject.pods.namespaceSelector".to_owned(), cluster_policy(&of_namespace, json!([]))),
            ("spec.subject.pods.podSelector".to_owned(), cluster_policy(&of_pod, json!([]))),
            ("spec.egress[].to[].nodes".to_owned(), cluster_policy(&everywhere, rule("to", nodes))),
        ];
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            for (field, peer) in [
                ("namespaces", &whole),
                ("pods.namespaceSelector", &of_namespace),
                ("pods.podSelector", &of_pod),
            ] {
                let mut spec = cluster_policy(&everywhere, json!([]));
                spec[direction] = rule(peers, peer.clone());
                places.push((format!("spec.{direction}[].{peers}[].{field}"), spec));
            }
        }
        for (place, spec) in places {
            let answer = try_out(server, "ClusterNetworkPolicy", "refused", &spec);
            assert!(answer.text.contains(&format!("{place}.match")), "{place}: {}", answer.text);
            answer.refused(words);
        }
    }
    let good = json!({
        "matchLabels": {"k": "", "example.com/name": "v_1.2"},
        "matchExpressions": [
            {"key": "k", "operator": "In", "values": ["", "v"]}, {"key": "k", "operator": "NotIn", "values": ["w"]},
            {"key": "k", "operator": "Exists"}, {"key": "k", "operator": "DoesNotExist", "values": []},
        ],
    });
    let mut spec =
        cluster_policy(&json!({"pods": {"podSelector": good}}), rule("to", json!({"nodes": good})));
    spec["ingress"] = rule("from", json!({"pods": {"namespaceSelector": good, "podSelector": good}}));
    try_out(server, "ClusterNetworkPolicy", "good", &spec).ok();
}

/// Who may write policies of a namespace may not get before what administrators say.
pub fn use_of_tiers(server: &Server) {
    let bind = |role: &str, kind: &[&str]| {
        let role = ["create", role, &format!("--clusterrole={role}"), "--user=alice"].map(str::to_owned);
        let [verb, name, role, user] = &role;
        server.kubectl(&[&[verb.as_str()], &kind[..1], &[name, role, user], &kind[1..]].concat()).ok();
    };
    bind("selvage-edit", &["rolebinding", "--namespace=default"]);
    let ask = |name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "selvage.io/v1alpha1", "kind": "SelvageNetworkPolicy",
            "metadata": {"name": name, "namespace": "default"}, "spec": spec,
        });
        server.kubectl_with(&["create", "--as=alice", "--dry-run=server", "--filename=-"], &object)
    };
    ask("own", json!({})).ok();
    ask("named", json!({"tier": "default"})).ok();
    let words =
        "spec.tier: alice may not use the tier platform: ask for the verb \"use\" on it, or leave tier out";
    ask("before", json!({"tier": "platform"})).refused(words);
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "platform"},
        "rules": [{
            "apiGroups": ["selvage.io"], "resources": ["tiers"], "resourceNames": ["platform"], "verbs": ["use"]
        }],
    });
    server.kubectl_with(&["create", "--filename=-"], &role).ok();
    bind("platform", &["clusterrolebinding"]);
    ask("before", json!({"tier": "platform"})).ok();
    ask("elsewhere", json!({"tier": "kube-admin"})).refused("alice may not use the tier kube-admin");

    let may = |verb: &str, what: &str| {
        let operator = format!("--as=system:serviceaccount:{}:selvage-operator", crate::NAMESPACE);
        server.kubectl(&["auth", "can-i", verb, what, &operator, "--all-namespaces", "--quiet"]).success
    };
    for what in ["globalnetworkpolicies", "selvagenetworkpolicies", "networksets", "globalnetworksets"] {
        let kind = format!("{what}.selvage.io");
        assert!(may("watch", &kind) && !may("update", &kind) && !may("delete", &kind), "{kind}");
    }
    for (verb, what) in [
        ("create", "tiers.selvage.io"),
        ("patch", "tiers.selvage.io"),
        ("watch", "clusternetworkpolicies.policy.networking.k8s.io"),
        ("watch", "endpointslices.discovery.k8s.io"),
        ("watch", "serviceaccounts"),
    ] {
        assert!(may(verb, what), "{verb} {what}");
    }
    assert!(!may("delete", "tiers.selvage.io"));
}
