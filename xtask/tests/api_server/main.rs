//! A real API server takes the chart, refuses what has no meaning, and lets an agent do no more than it must.
//!
//! Needs etcd, kube-apiserver, kubectl and helm, which `make setup` provides. One server serves all checks, for it
//! takes seconds to start.

// What tests share may panic as they may: that is how a test fails.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod admission;
mod refusals;
mod server;

use std::process::Command;
use std::thread;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use selvage_crds::conditions::{self, Status, Wanted, reason};
use selvage_crds::{Basis, NodePolicy, NodePolicyStatus, codec, schema};
use selvage_policy::compiled;
use serde_json::{Value, json};
use server::Server;

const NAMESPACE: &str = "selvage-system";
/// The definition that is upstream's.
const UPSTREAM: &str = "clusternetworkpolicies.policy.networking.k8s.io";
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn the_api_server_takes_the_chart_and_refuses_nonsense() {
    let server = Server::start();
    installs(&server);
    pools(&server);
    admission::at_work(&server);
    refusals::policies(&server);
    refusals::sets(&server);
    refusals::pools(&server);
    refusals::documents(&server);
    admission::tiers(&server);
    admission::cluster_network_policies(&server);
    admission::use_of_tiers(&server);
    node_policies(&server);
    rights_of_an_agent(&server);
    upgrades(&server);
    plain_manifests(&server);
}

fn installs(server: &Server) {
    let chart = format!("{ROOT}/charts/selvage");
    let answer = server.helm(&["install", "selvage", &chart, "--namespace", NAMESPACE, "--create-namespace"]);
    let text = answer.ok();
    assert!(!text.contains("arning"), "{text}");
    let mut definitions: Vec<String> =
        schema::all().iter().filter_map(|definition| definition.metadata.name.clone()).collect();
    definitions.push(UPSTREAM.to_owned());
    for definition in definitions {
        let definition = format!("crd/{definition}");
        server.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", &definition]).ok();
    }
    // By short names, as a user types them, and by category.
    let names = "nps,netpolstatus,nodepol,ag,gnp,snp,netset,gns,tier,ippool,cnp";
    server.kubectl(&["get", names, "--all-namespaces"]).ok();
    server.kubectl(&["get", "selvage", "--all-namespaces"]).ok();
}

fn pools(server: &Server) {
    let apply = |name: &str, cidr: &str| {
        let pool = json!({
            "apiVersion": "selvage.io/v1alpha1", "kind": "IPPool", "metadata": {"name": name}, "spec": {"cidr": cidr}
        });
        server.kubectl_with(&["apply", "--filename=-"], &pool)
    };
    let canonical = "must be a network in canonical form with its host bits zero, such as 10.244.0.0/16";
    for cidr in
        ["10.244.0.1/16", "fd00:0::/56", "FD00::/56", "010.0.0.0/8", "::ffff:10.0.0.0/104", "10.0.0.0/33"]
    {
        apply("refused", cidr).refused(canonical);
    }
    apply("refused", "pods").refused("spec.cidr in body should match");
    apply("v4", "10.244.0.0/16").ok();
    apply("v6", "fd00:10:244::/56").ok();
    apply("v4", "10.245.0.0/16").refused("can't be changed: make another pool");
    let table = server.kubectl(&["get", "ippool", "v4"]).ok();
    assert!(
        table.starts_with("NAME") && table.contains("CIDR") && table.contains("10.244.0.0/16"),
        "{table}"
    );
}

fn node_policies(server: &Server) {
    let policy = compiled::NodePolicy { node: "node-a".into(), ..compiled::NodePolicy::default() };
    for node in ["node-a", "node-b"] {
        let policy = compiled::NodePolicy { node: node.into(), ..policy.clone() };
        let spec = codec::encode_node_policy(&policy, Basis::from([("Pod".into(), "7".into())]), false);
        let mut object = NodePolicy::new(node, spec.expect("canonical"));
        object.metadata.namespace = Some(NAMESPACE.to_owned());
        let object = serde_json::to_value(object).expect("JSON");
        server.kubectl_with(&["create", "--filename=-"], &object).ok();
    }
    let text = server.kubectl(&["get", "nodepol", "node-a", "--namespace", NAMESPACE, "--output=json"]).ok();
    let back: NodePolicy = serde_json::from_str(&text).expect("a NodePolicy");
    assert_eq!(codec::decode_node_policy("node-a", &back.spec), Ok(policy));

    let patch = |patch: Value| {
        let patch = patch.to_string();
        server.kubectl(&[
            "patch",
            "nodepol",
            "node-a",
            "--namespace",
            NAMESPACE,
            "--type=merge",
            "--patch",
            &patch,
        ])
    };
    let endpoint = |field: &str, value: &str| {
        let mut endpoint = json!({"namespace": "n", "name": "p", "uid": "u", "profile": "0000000000000001"});
        endpoint[field] = if field == "addresses" { json!([value]) } else { json!(value) };
        patch(json!({"spec": {"endpoints": [endpoint]}}))
    };
    endpoint("addresses", "somewhere").refused("spec.endpoints[0].addresses[0] in body should match");
    endpoint("profile", "1").refused("spec.endpoints[0].profile in body should match");
    endpoint("name", "").refused("spec.endpoints[0].name in body should be at least 1 chars long");
    patch(json!({"spec": {"digest": null}})).refused("spec.digest: Required value");
    let policy = json!({"kind": "NetworkPolicy", "name": "p", "uid": "u", "generation": 1,
        "ingress": [{"action": "Reject"}]});
    patch(json!({"spec": {"policies": [policy]}}))
        .refused("spec.policies[0].ingress[0].action: Unsupported value: \"Reject\"");
}

fn rights_of_an_agent(server: &Server) {
    for node in ["node-a", "node-b"] {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}});
        server.kubectl_with(&["create", "--filename=-"], &object).ok();
    }
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agent", "namespace": NAMESPACE},
        "spec": {"nodeName": "node-a", "serviceAccountName": "selvage-agent", "containers": [{"name": "c", "image": "i"}]}
    });
    server.kubectl_with(&["create", "--filename=-"], &pod).ok();
    let of_pod = ["--bound-object-kind=Pod", "--bound-object-name=agent"];
    let token = |bound: &[&str]| {
        let args = ["create", "token", "selvage-agent", "--namespace", NAMESPACE];
        server.kubectl(&[&args, bound].concat()).ok().trim().to_owned()
    };
    let (agents, unbound) = (token(&of_pod), token(&[]));

    let mut status = NodePolicyStatus { revision: 1, ..NodePolicyStatus::default() };
    let wanted = Wanted {
        kind: conditions::PROGRAMMED,
        status: Status::True,
        reason: reason::PROGRAMMED,
        message: "",
        observed_generation: Some(1),
    };
    conditions::set(&mut status.conditions, &wanted, &Time(Timestamp::UNIX_EPOCH));
    let report = |token: &str, node: &str| server.report(token, node, &status);
    // Admission policies are read by a watch of the server's own: until then nothing is forbidden.
    let mut tries = 0..100;
    while report(&agents, "node-b").is_ok() {
        assert!(tries.next().is_some(), "an agent may report for another node");
        thread::sleep(Duration::from_millis(100));
    }
    let refused = |token: &str, node: &str, words: &str| {
        let error = report(token, node).expect_err("was taken");
        assert!(error.contains(words), "without {words:?}: {error}");
    };
    refused(&agents, "node-b", "the agent of node node-a may not report for node-b");
    refused(&unbound, "node-a", "the agent of node (none) may not report for node-a");
    report(&agents, "node-a").expect("its own node");
    let wait =
        ["wait", "--for=condition=Programmed", "nodepol/node-a", "--timeout=10s", "--namespace", NAMESPACE];
    server.kubectl(&wait).ok();

    let namespace = format!("--namespace={NAMESPACE}");
    let may = |verb: &str, what: &str, scope: &str| {
        let args = ["auth", "can-i", verb, what, scope, "--quiet"];
        server.kubectl_as(&agents, &args).success
    };
    for what in ["nodepolicies.selvage.io", "addressgroups.selvage.io"] {
        for verb in ["list", "watch"] {
            assert!(may(verb, what, &namespace), "{verb} {what}");
            assert!(!may(verb, what, "--namespace=default"), "{verb} {what} elsewhere");
        }
        for verb in ["get", "create", "update", "patch", "delete", "deletecollection"] {
            assert!(!may(verb, what, &namespace), "{verb} {what}");
        }
    }
    for what in
        ["pods", "nodes", "secrets", "configmaps", "networkpolicies.networking.k8s.io", "ippools.selvage.io"]
    {
        for verb in ["get", "list", "watch", "create", "patch", "delete"] {
            assert!(!may(verb, what, &namespace), "{verb} {what}");
        }
    }
}

fn upgrades(server: &Server) {
    let chart = format!("{ROOT}/charts/selvage");
    server
        .helm(&["upgrade", "selvage", &chart, "--namespace", NAMESPACE, "--set", "apiServer.host=192.0.2.1"])
        .ok();
    server.helm(&["rollback", "selvage", "1", "--namespace", NAMESPACE]).ok();
    // The hook is a Job, which nobody runs here; what is asked is what stays.
    server.helm(&["uninstall", "selvage", "--namespace", NAMESPACE, "--no-hooks"]).ok();
    let left = server.kubectl(&["get", "crd,nodepol,ippool", "--namespace", NAMESPACE, "--output=name"]).ok();
    for kept in ["nodepolicies.selvage.io", "nodepolicy.selvage.io/node-a", "ippool.selvage.io/v4"] {
        assert!(left.contains(kept), "{kept} is gone: {left}");
    }
    let gone = server.kubectl(&[
        "get",
        "all,sa,pdb",
        "--selector=app.kubernetes.io/name=selvage",
        "--namespace",
        NAMESPACE,
    ]);
    assert!(gone.text.contains("No resources found"), "{}", gone.text);
    admission::tiers_can_go_with_the_release(server);
    // What was kept is taken over by the next release of that name.
    server.helm(&["install", "selvage", &chart, "--namespace", NAMESPACE]).ok();
    let manifest = || server.helm(&["get", "manifest", "selvage", "--namespace", NAMESPACE]).ok();
    assert!(manifest().contains(&format!("name: {UPSTREAM}")));
    // A definition that somebody else looks after is left to them.
    let owner = "meta.helm.sh/release-name=other";
    server.kubectl(&["annotate", "--overwrite", "crd", UPSTREAM, owner]).ok();
    server.helm(&["upgrade", "selvage", &chart, "--namespace", NAMESPACE]).ok();
    assert!(!manifest().contains(&format!("name: {UPSTREAM}")));
    server.kubectl(&["get", "crd", UPSTREAM]).ok();
}

/// What `kubectl apply` makes of the manifests for those without Helm.
fn plain_manifests(server: &Server) {
    let folder = server.folder();
    let output = folder.join("install.yaml").display().to_string();
    let run = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["install-yaml", "--output", &output]).output();
    assert!(run.expect("xtask").status.success());
    for name in ["install.yaml", "teardown.yaml"] {
        let file = folder.join(name).display().to_string();
        // Helm owns the fields of the release that stands there still.
        server.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", &file]).ok();
    }
}
