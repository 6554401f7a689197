//! What the programs may do in the cluster: exactly this.

use serde_json::{Value, json};

use crate::render::Render;

#[test]
fn agents_read_what_is_published_and_patch_reports() {
    let render = Render::of(&[]);
    assert_eq!(
        render.named("Role", "selvage-agent")["rules"],
        json!([
            {"apiGroups": ["selvage.io"], "resources": ["nodepolicies", "addressgroups"], "verbs": ["get", "list", "watch"]},
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
        let foreign = groups.iter().any(|group| ["", "networking.k8s.io"].map(Value::from).contains(group));
        if foreign {
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
        ])
    );
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
