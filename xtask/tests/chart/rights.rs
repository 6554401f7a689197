//! What the programs may do in the cluster: exactly this.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::render::{ROOT, Render};

/// Every right is a row of the table that says why, and every row is a right.
#[test]
fn the_table_of_rights_is_the_charts() {
    let page = fs::read_to_string(format!("{ROOT}/docs/rights.md")).expect("docs/rights.md");
    let mut written = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("| selvage-")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [who, place, resource, verbs, why] = cells[..] else { panic!("{line}") };
        assert!(!why.is_empty(), "{line}");
        for verb in verbs.split(", ") {
            let right = format!("{who} | {place} | {resource} | {verb}");
            assert!(written.insert(right), "twice: {line}: {verb}");
        }
    }
    assert_eq!(written, rights(&Render::of(&[])));
}

/// The rights that the chart's bindings give to its accounts.
fn rights(render: &Render) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|text| text.as_str().expect("text").to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for binding in ["RoleBinding", "ClusterRoleBinding"].map(|kind| render.all(kind)).concat() {
        let role = &binding["roleRef"];
        let (kind, name) = (role["kind"].as_str().expect("kind"), role["name"].as_str().expect("name"));
        let scope = if binding["kind"] == "RoleBinding" { "namespace" } else { "cluster" };
        for subject in binding["subjects"].as_array().expect("subjects") {
            let who = subject["name"].as_str().expect("name");
            for rule in render.named(kind, name)["rules"].as_array().expect("rules") {
                let place = match &texts(&rule["resourceNames"])[..] {
                    [] => scope.to_owned(),
                    names => format!("{scope}, {}", names.join(" ")),
                };
                for group in texts(&rule["apiGroups"]) {
                    for resource in texts(&rule["resources"]) {
                        let resource =
                            if group.is_empty() { resource } else { format!("{resource}.{group}") };
                        for verb in texts(&rule["verbs"]) {
                            rights.insert(format!("{who} | {place} | {resource} | {verb}"));
                        }
                    }
                }
            }
        }
    }
    rights
}

#[test]
fn agents_read_what_is_published_and_patch_reports() {
    let render = Render::of(&[]);
    assert_eq!(
        render.named("Role", "selvage-agent")["rules"],
        json!([
            {"apiGroups": ["selvage.io"], "resources": ["nodepolicies", "addressgroups"], "verbs": ["list", "watch"]},
            {"apiGroups": ["selvage.io"], "resources": ["nodepolicies/status"], "verbs": ["patch"]},
        ])
    );
    let bindings = ["RoleBinding", "ClusterRoleBinding"].map(|kind| render.all(kind)).concat();
    let agents: Vec<&Value> = bindings
        .into_iter()
        .filter(|binding| binding["subjects"].to_string().contains("selvage-agent"))
        .collect();
    assert_eq!(agents.len(), 1, "one binding, and it is");
    assert_eq!(agents[0]["kind"], "RoleBinding");
    assert_eq!(agents[0]["roleRef"]["kind"], "Role");
}

#[test]
fn the_operator_writes_nothing_of_the_users() {
    let render = Render::of(&[]);
    let mut rules = Vec::new();
    for role in [render.named("ClusterRole", "selvage-operator"), render.named("Role", "selvage-operator")] {
        rules.extend(role["rules"].as_array().expect("rules").iter().cloned());
    }
    for rule in &rules {
        let text = rule.to_string();
        for word in ["\"*\"", "secrets", "pods/exec", "impersonate", "bind", "escalate", "rbac"] {
            assert!(!text.contains(word), "{text}");
        }
        let groups = rule["apiGroups"].as_array().expect("groups");
        let foreign = ["", "discovery.k8s.io", "networking.k8s.io", "policy.networking.k8s.io"];
        let resources = rule["resources"].as_array().expect("resources");
        let status = resources.iter().all(|name| name.as_str().is_some_and(|name| name.ends_with("/status")));
        if !status && groups.iter().any(|group| foreign.map(Value::from).contains(group)) {
            assert_eq!(rule["verbs"], json!(["list", "watch"]), "{text}");
        }
        if status {
            assert_eq!(rule["verbs"], json!(["update"]), "{text}");
        }
        // What users say: tiers alone get a finalizer.
        let users = ["globalnetworkpolicies", "selvagenetworkpolicies", "networksets", "globalnetworksets"];
        if resources.iter().any(|name| users.map(Value::from).contains(name)) {
            assert_eq!(rule["verbs"], json!(["list", "watch"]), "{text}");
        }
    }
    let namespaced = &render.named("Role", "selvage-operator")["rules"];
    let lease =
        namespaced.as_array().expect("rules").iter().filter(|rule| rule["resources"] == json!(["leases"]));
    for rule in lease {
        let named = rule["resourceNames"] == json!(["selvage-operator"]);
        assert!(named || rule["verbs"] == json!(["create"]), "{rule}");
    }
}

#[test]
fn the_teardown_removes_what_the_operator_made_and_no_more() {
    let render = Render::of(&[]);
    assert_eq!(
        render.named("Role", "selvage-teardown")["rules"],
        json!([
            {"apiGroups": ["selvage.io"], "resources": ["nodepolicies"], "verbs": ["list", "patch", "delete"]},
            {"apiGroups": ["selvage.io"], "resources": ["addressgroups"], "verbs": ["list", "delete"]},
        ])
    );
    assert_eq!(
        render.named("ClusterRole", "selvage-teardown")["rules"],
        json!([
            {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]},
            {"apiGroups": ["selvage.io"], "resources": ["networkpolicystatuses", "ippools"], "verbs": ["list", "delete"]},
            {"apiGroups": ["selvage.io"], "resources": ["tiers"], "verbs": ["list", "patch"]},
        ])
    );
}

#[test]
fn who_may_edit_in_a_namespace_may_write_what_is_the_namespaces() {
    let render = Render::of(&[]);
    let write = json!(["create", "update", "patch", "delete", "deletecollection"]);
    let edit = render.named("ClusterRole", "selvage-edit");
    assert_eq!(
        edit["rules"],
        json!([{
            "apiGroups": ["selvage.io"], "resources": ["networksets", "selvagenetworkpolicies"], "verbs": write
        }])
    );
    for (role, to) in [("selvage-edit", "edit"), ("selvage-edit", "admin"), ("selvage-view", "view")] {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
        assert_eq!(render.named("ClusterRole", role)["metadata"]["labels"][label], "true", "{role} {to}");
    }
    for role in ["selvage-cluster-edit", "selvage-cluster-view"] {
        let labels = render.named("ClusterRole", role)["metadata"]["labels"].to_string();
        assert!(!labels.contains("aggregate-to"), "{role} is bound to nobody");
    }
}

#[test]
fn admission_policies_fail_closed_and_deny() {
    let render = Render::of(&[]);
    for name in ["selvage-clusternetworkpolicies", "selvage-policies", "selvage-tiers"] {
        assert_eq!(
            render.named("ValidatingAdmissionPolicy", name)["spec"]["failurePolicy"],
            "Fail",
            "{name}"
        );
        let binding = &render.named("ValidatingAdmissionPolicyBinding", name)["spec"];
        assert_eq!(binding, &json!({"policyName": name, "validationActions": ["Deny"]}));
    }
}

#[test]
fn tokens_are_mounted_where_they_are_used_alone() {
    let render = Render::of(&[]);
    for account in render.all("ServiceAccount") {
        assert_eq!(account["automountServiceAccountToken"], false, "{}", account["metadata"]["name"]);
    }
    for (name, pod) in render.pods() {
        assert_eq!(pod["automountServiceAccountToken"], true, "{name}");
    }
}

#[test]
fn an_agent_reports_for_its_own_node_alone() {
    let render = Render::of(&[]);
    let policy = &render.named("ValidatingAdmissionPolicy", "selvage-agent")["spec"];
    assert_eq!(policy["failurePolicy"], "Fail");
    assert_eq!(
        policy["matchConstraints"]["resourceRules"],
        json!([{
            "apiGroups": ["selvage.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
            "resources": ["nodepolicies/status"]
        }])
    );
    let condition = policy["matchConditions"][0]["expression"].as_str().expect("a condition");
    assert_eq!(
        condition,
        "request.userInfo.username == 'system:serviceaccount:some-namespace:selvage-agent'"
    );
    assert!(
        policy["variables"][0]["expression"].to_string().contains("authentication.kubernetes.io/node-name")
    );
    let binding = &render.named("ValidatingAdmissionPolicyBinding", "selvage-agent")["spec"];
    assert_eq!(binding, &json!({"policyName": "selvage-agent", "validationActions": ["Deny"]}));
}
