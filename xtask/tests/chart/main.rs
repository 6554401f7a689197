//! The chart as helm renders it. Needs helm: `make setup` builds it, or `HELM` names one.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod pods;
mod render;
mod rights;
mod values;

use render::{ROOT, Render, helm};
use serde_json::json;

#[test]
fn helm_finds_nothing_to_complain_about() {
    let output = helm(&["lint", "--strict", &format!("{ROOT}/charts/selvage")]);
    assert!(output.contains("0 chart(s) failed"), "{output}");
    assert!(!output.contains("[WARNING]"), "{output}");
}

#[test]
fn every_object_is_known_and_in_the_releases_namespace() {
    let render = Render::of(&[]);
    let mut names: Vec<String> = render
        .objects()
        .map(|object| format!("{} {}", text(object, "/kind"), text(object, "/metadata/name")))
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "ClusterRole selvage-cluster-edit",
            "ClusterRole selvage-cluster-view",
            "ClusterRole selvage-edit",
            "ClusterRole selvage-operator",
            "ClusterRole selvage-teardown",
            "ClusterRole selvage-view",
            "ClusterRoleBinding selvage-operator",
            "ClusterRoleBinding selvage-teardown",
            "CustomResourceDefinition addressgroups.selvage.io",
            "CustomResourceDefinition clusternetworkpolicies.policy.networking.k8s.io",
            "CustomResourceDefinition globalnetworkpolicies.selvage.io",
            "CustomResourceDefinition globalnetworksets.selvage.io",
            "CustomResourceDefinition ippools.selvage.io",
            "CustomResourceDefinition networkpolicystatuses.selvage.io",
            "CustomResourceDefinition networksets.selvage.io",
            "CustomResourceDefinition nodepolicies.selvage.io",
            "CustomResourceDefinition selvagenetworkpolicies.selvage.io",
            "CustomResourceDefinition tiers.selvage.io",
            "DaemonSet selvage-agent",
            "Deployment selvage-operator",
            "Job selvage-teardown",
            "PodDisruptionBudget selvage-operator",
            "Role selvage-agent",
            "Role selvage-operator",
            "Role selvage-teardown",
            "RoleBinding selvage-agent",
            "RoleBinding selvage-operator",
            "RoleBinding selvage-teardown",
            "ServiceAccount selvage-agent",
            "ServiceAccount selvage-operator",
            "ServiceAccount selvage-teardown",
            "ValidatingAdmissionPolicy selvage-agent",
            "ValidatingAdmissionPolicy selvage-clusternetworkpolicies",
            "ValidatingAdmissionPolicy selvage-policies",
            "ValidatingAdmissionPolicy selvage-tiers",
            "ValidatingAdmissionPolicyBinding selvage-agent",
            "ValidatingAdmissionPolicyBinding selvage-clusternetworkpolicies",
            "ValidatingAdmissionPolicyBinding selvage-policies",
            "ValidatingAdmissionPolicyBinding selvage-tiers",
        ]
    );
    let cluster_scoped = ["Cluster", "CustomResource", "ValidatingAdmission"];
    for object in render.objects() {
        let kind = text(object, "/kind");
        let scoped = cluster_scoped.iter().any(|prefix| kind.starts_with(prefix));
        let expected = if scoped { json!(null) } else { json!("some-namespace") };
        assert_eq!(object["metadata"]["namespace"], expected, "{kind}");
        if kind != "CustomResourceDefinition" {
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/name"], "selvage", "{kind}");
            assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/version"], env!("CARGO_PKG_VERSION"));
        }
        for subject in object["subjects"].as_array().into_iter().flatten() {
            assert_eq!(subject["namespace"], "some-namespace", "{kind}");
        }
    }
}

#[test]
fn definitions_are_the_generated_ones_and_stay_when_the_release_goes() {
    let render = Render::of(&["clusterNetworkPolicy.installCRD=false"]);
    let mut definitions = render.all("CustomResourceDefinition");
    definitions.sort_by_key(|definition| text(definition, "/metadata/name").to_owned());
    let expected = selvage_crds::schema::all();
    assert_eq!(definitions.len(), expected.len());
    for (definition, expected) in definitions.into_iter().zip(expected) {
        let expected = serde_json::to_value(expected).expect("JSON");
        assert_eq!(definition["metadata"]["name"], expected["metadata"]["name"]);
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        // Through the definition's own type: in YAML a bound is 0 where the type holds 0.0.
        let spec = |value: &serde_json::Value| {
            serde_json::from_value::<
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionSpec,
            >(value["spec"].clone())
            .expect("a definition")
        };
        assert_eq!(spec(definition), spec(&expected));
    }
    let none = Render::of(&["crds.install=false", "clusterNetworkPolicy.installCRD=false"]);
    assert!(none.all("CustomResourceDefinition").is_empty());
}

#[test]
fn upstreams_definition_is_the_experimental_one_and_stays_when_the_release_goes() {
    let render = Render::of(&[]);
    let definition =
        render.named("CustomResourceDefinition", "clusternetworkpolicies.policy.networking.k8s.io");
    let annotations = &definition["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    assert_eq!(annotations["policy.networking.k8s.io/channel"], "experimental");
    assert!(definition["status"].is_null());
    let version = &definition["spec"]["versions"][0];
    assert_eq!(version["name"], "v1alpha2");
    let spec = "/schema/openAPIV3Schema/properties/spec/properties";
    let peer = version.pointer(&format!("{spec}/egress/items/properties/to/items/properties/nodes"));
    assert_eq!(peer.map(|nodes| &nodes["type"]), Some(&json!("object")), "the standard channel has no nodes");
    let file = std::fs::read_to_string(format!("{ROOT}/charts/selvage/files/clusternetworkpolicies.yaml"));
    let upstream: serde_json::Value = serde_saphyr::from_str(&file.expect("a file")).expect("YAML");
    assert_eq!(definition["spec"], upstream["spec"]);
}

#[test]
fn the_teardown_is_a_hook_before_anything_is_deleted() {
    let render = Render::of(&[]);
    let mut weights = Vec::new();
    for kind in ["ServiceAccount", "ClusterRole", "Role", "ClusterRoleBinding", "RoleBinding", "Job"] {
        let object = render.named(kind, "selvage-teardown");
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-delete", "{kind}");
        assert_eq!(
            annotations["helm.sh/hook-delete-policy"], "before-hook-creation,hook-succeeded",
            "{kind}"
        );
        weights.push(text(annotations, "/helm.sh~1hook-weight").parse::<i32>().expect("a number"));
    }
    assert!(weights.is_sorted() && weights[4] < weights[5], "the job runs last: {weights:?}");
    let without = Render::of(&["teardown.enabled=false"]);
    assert!(without.objects().all(|object| text(object, "/metadata/name") != "selvage-teardown"));
}

#[test]
fn notes_tell_what_the_values_leave_open() {
    let notes = |values: &[&str]| Render::of(values).notes;
    assert!(notes(&[]).contains("through kube-proxy"));
    assert!(!notes(&["apiServer.host=10.0.0.1"]).contains("through kube-proxy"));
    assert!(notes(&["agent.unknownPods=open"]).contains("agent.unknownPods is open"));
    assert!(notes(&["agent.cniResultsDir="]).contains("agent.cniResultsDir is empty"));
    assert!(notes(&["teardown.enabled=false"]).contains("teardown.enabled is false"));
}

#[test]
fn plain_manifests_are_what_helm_would_install_and_run() {
    let folder = tempdir("install-yaml");
    let output = folder.join("install.yaml");
    let args = ["install-yaml", "--image-operator", "registry.example:5000/op:1", "--output"];
    let run = std::process::Command::new(env!("CARGO_BIN_EXE_xtask")).args(args).arg(&output).output();
    let run = run.expect("xtask");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("a manifest");
    let (install, teardown) = (read("install.yaml"), read("teardown.yaml"));
    std::fs::remove_dir_all(&folder).expect("removing what was written");
    assert!(!install.contains("helm.sh/chart") && !install.contains("managed-by: Helm"));

    let (install, teardown) =
        (Render::parse(&install, String::new()), Render::parse(&teardown, String::new()));
    let namespace = install.named("Namespace", "selvage-system");
    assert_eq!(namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
    let whole = Render::of(&[]).objects().count();
    assert_eq!(install.objects().count() - 1 + teardown.objects().count(), whole, "all but the namespace");
    for (render, kind, name) in
        [(&install, "Deployment", "selvage-operator"), (&teardown, "Job", "selvage-teardown")]
    {
        let object = render.named(kind, name);
        assert_eq!(
            object["spec"]["template"]["spec"]["containers"][0]["image"],
            "registry.example:5000/op:1"
        );
        assert_eq!(object["metadata"]["namespace"], "selvage-system");
    }
    assert!(install.objects().all(|object| text(object, "/metadata/name") != "selvage-teardown"));
}

fn tempdir(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("slv-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text<'a>(object: &'a serde_json::Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(serde_json::Value::as_str).unwrap_or_default()
}
