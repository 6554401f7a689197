//! Input without a sensible meaning, and a stolen token: refused where that can be, and closed where it can't.

mod kinds;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::{Context, bail};
use selvage_e2e::{Cluster, Node, output, wait_for};
use serde_json::{Value, json};

use crate::netns::PodNet;
use crate::pods::{self, Namespaces, Pod};
use crate::probe::Seen;
use crate::product::NAMESPACE;
use crate::status;
use crate::table::Table;

const SPACE: &str = "bad-input";
const PORT: u16 = 8080;

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let _namespaces = Namespaces::create(cluster, &[SPACE])?;
    let mut table = Table::start("input without a meaning, and a stolen token");
    refused_by_definitions(cluster, &mut table)?;
    refused_by_kubernetes(cluster, &mut table)?;
    kinds::refused_when_applied(cluster, &mut table)?;
    accepted_and_closed(cluster, &mut table)?;
    kinds::accepted_and_said(cluster, &mut table)?;
    stolen_token(cluster, &mut table)?;
    table.finish()
}

/// What the definitions' schemas and rules refuse, by what they say.
fn refused_by_definitions(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let canonical = "must be a network in canonical form";
    for (cidr, says) in [
        ("10.9.0.1/16", canonical),
        ("010.0.0.0/8", canonical),
        ("::ffff:10.0.0.0/104", canonical),
        ("FD00::/56", canonical),
        ("10.0.0.0/33", canonical),
        ("pods", "spec.cidr in body should match"),
    ] {
        let pool = json!({
            "apiVersion": "selvage.io/v1alpha1", "kind": "IPPool",
            "metadata": { "name": "refused" }, "spec": { "cidr": cidr },
        });
        let seen = create(cluster, &pool)?;
        refused(table, &format!("an IPPool of {cidr}"), &seen, says);
    }
    let pools = cluster.kubectl_json(&["get", "ippools"])?;
    let pool = pools["items"][0]["metadata"]["name"].as_str().context("no IPPool")?;
    let seen = patch(cluster, &["ippool", pool], &json!({ "spec": { "cidr": "10.9.0.0/16" } }))?;
    refused(table, "another cidr for an IPPool", &seen, "can't be changed: make another pool");

    let node = cluster.nodes()?.first().context("no nodes")?.name.clone();
    let endpoint = |field: &str, value: Value| {
        let mut endpoint =
            json!({ "namespace": "n", "name": "p", "uid": "u", "profile": "0000000000000001" });
        endpoint[field] = value;
        json!({ "endpoints": [endpoint] })
    };
    let policy = json!({ "kind": "NetworkPolicy", "name": "p", "uid": "u", "generation": 1,
        "ingress": [{ "action": "Reject" }] });
    for (what, spec, says) in [
        ("an endpoint's address that is none", endpoint("addresses", json!(["somewhere"])), "should match"),
        ("an endpoint's profile that is none", endpoint("profile", json!("1")), "should match"),
        ("an endpoint without a name", endpoint("name", json!("")), "at least 1 chars long"),
        ("no digest", json!({ "digest": null }), "spec.digest: Required value"),
        ("an unknown action", json!({ "policies": [policy] }), "Unsupported value: \"Reject\""),
    ] {
        let seen =
            patch(cluster, &["nodepolicy", &node, "--namespace", NAMESPACE], &json!({ "spec": spec }))?;
        refused(table, &format!("a NodePolicy with {what}"), &seen, says);
    }
    Ok(())
}

/// What Kubernetes' own validation keeps away from us.
fn refused_by_kubernetes(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let near = json!({ "matchExpressions": [{ "key": "a", "operator": "Near", "values": ["b"] }] });
    let rule = "spec.ingress[0]";
    for (what, spec, says) in [
        ("an empty peer", ingress(json!({ "from": [{}] })), format!("{rule}.from[0]: Required value")),
        (
            "a block and pods in one peer",
            ingress(json!({ "from": [{ "ipBlock": { "cidr": "10.0.0.0/8" }, "podSelector": {} }] })),
            format!("{rule}.from[0]: Forbidden"),
        ),
        ("an unknown operator", ingress(json!({ "from": [{ "podSelector": near }] })), "operator".to_owned()),
        (
            "an endPort without port",
            ingress(json!({ "ports": [{ "endPort": 90 }] })),
            format!("{rule}.ports[0].endPort: Invalid value"),
        ),
        (
            "an endPort below its port",
            ingress(json!({ "ports": [{ "port": 90, "endPort": 80 }] })),
            format!("{rule}.ports[0].endPort: Invalid value"),
        ),
        (
            "an unknown protocol",
            ingress(json!({ "ports": [{ "port": 80, "protocol": "tcp" }] })),
            format!("{rule}.ports[0].protocol: Unsupported value"),
        ),
        (
            "an unknown type",
            json!({ "podSelector": {}, "policyTypes": ["Sideways"] }),
            "spec.policyTypes[0]: Unsupported value".to_owned(),
        ),
    ] {
        let seen = create(cluster, &network_policy("refused", &spec))?;
        refused(table, &format!("a NetworkPolicy with {what}"), &seen, &says);
    }
    Ok(())
}

/// What API servers let in (up to 1.35 all of them, and the test bed's): said by status and an Event, and closed.
fn accepted_and_closed(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let nodes = cluster.nodes()?;
    let [near, far, ..] = nodes.as_slice() else { bail!("this scenario needs two nodes") };
    let port = PORT.to_string();
    let args = ["netexec", "--http-port", &port, "--udp-port=-1"];
    let server = Pod { args: &args, ..Pod::client(SPACE, "server", Some(&near.name)) };
    pods::start(cluster, &[server, Pod::client(SPACE, "client", Some(&far.name))])?;
    let (server, client) = (PodNet::of(cluster, SPACE, "server")?, PodNet::of(cluster, SPACE, "client")?);
    let block = block(far)?;
    let octal = format!("0{block}");
    let cidr = |cidr: &str| ingress(json!({ "from": [{ "ipBlock": { "cidr": cidr } }] }));
    let except = json!({ "cidr": "0.0.0.0/0", "except": ["172.16.0.0/12", "010.0.0.0/8"] });
    let named = json!({ "from": [{ "podSelector": {} }], "ports": [{ "port": "nobody-has-it" }] });
    let of_block = "spec.ingress[0].from[0].ipBlock";
    let cases: [(&str, Value, Option<String>, [Seen; 2]); 6] = [
        // Without it nobody would know that the probes pass where they may.
        ("readable", cidr(&block), None, [Seen::Answered, Seen::TimedOut]),
        ("leading-zero", cidr(&octal), Some(format!("{of_block}.cidr")), [Seen::TimedOut; 2]),
        ("mapped", cidr("::ffff:0.0.0.0/96"), Some(format!("{of_block}.cidr")), [Seen::TimedOut; 2]),
        (
            "except",
            ingress(json!({ "from": [{ "ipBlock": except }] })),
            Some(format!("{of_block}.except[1]")),
            [Seen::TimedOut; 2],
        ),
        // The names of ports are not known in advance: nothing is wrong with this one, and nothing matches it.
        ("named-port", ingress(named), None, [Seen::TimedOut; 2]),
        // Nothing is unclear about host bits: they are masked, and it is said.
        ("host-bits", cidr(&block.replace(".0/", ".7/")), None, [Seen::Answered, Seen::TimedOut]),
    ];
    for (name, spec, path, expected) in cases {
        cluster.apply(SPACE, &network_policy(name, &spec).to_string())?;
        status::programmed(cluster, SPACE, name)?;
        let accepted = cluster.kubectl_json(&["get", "networkpolicystatus", "--namespace", SPACE, name])?;
        let accepted = status::condition(&accepted, "Accepted").clone();
        let expects = if path.is_some() { "False" } else { "True" };
        let seen = accepted["status"].as_str().unwrap_or("none");
        table.row("closed", &format!("policy {name}, Accepted"), expects, seen);
        let message = accepted["message"].as_str().unwrap_or_default();
        println!("         {message}");
        if let Some(path) = path {
            let seen = if message.contains(&path) { "named" } else { "not named" };
            table.row("closed", &format!("  its message names {path}"), "named", seen);
            let seen = if event(cluster, "NetworkPolicy", name, &path).is_ok() { "sent" } else { "none" };
            table.row("closed", "  a Warning about the policy", "sent", seen);
        }
        for ((ipv6, family), expected) in [(false, "IPv4"), (true, "IPv6")].into_iter().zip(expected) {
            let to = SocketAddr::new(server.address(ipv6)?, PORT);
            let patience = if expected == Seen::TimedOut { 0 } else { 20 };
            let seen = client.attempt_until(to, expected, patience)?;
            table.row("closed", &format!("  a client under it, {family}"), expected.word(), seen.word());
        }
        cluster.kubectl_ok(&["delete", "networkpolicy", "--namespace", SPACE, name])?;
        status::gone(cluster, SPACE, name)?;
    }
    Ok(())
}

/// The token of one node's agent reads what nodes enforce, and no more.
fn stolen_token(cluster: &Cluster, table: &mut Table) -> anyhow::Result<()> {
    let selector = "app.kubernetes.io/component=agent";
    let agents = cluster.kubectl_json(&["get", "pods", "--namespace", NAMESPACE, "--selector", selector])?;
    let agent = &agents["items"][0];
    let pod = agent["metadata"]["name"].as_str().context("no agent")?;
    let own = agent["spec"]["nodeName"].as_str().context("an agent without node")?;
    let nodes = cluster.nodes()?;
    let other = nodes.iter().find(|node| node.name != own).context("there is one node alone")?;
    let name = format!("--bound-object-name={pod}");
    let words =
        ["create", "token", "selvage-agent", "--namespace", NAMESPACE, "--bound-object-kind=Pod", &name];
    let stolen = Stolen::new(cluster, cluster.kubectl_ok(&words)?.trim())?;
    let thief = Cluster::external(&stolen.kubeconfig)?;
    let read =
        thief.kubectl_ok(&["get", "nodepolicies,addressgroups", "--namespace", NAMESPACE, "-o", "name"]);
    let seen = if read.as_ref().is_ok_and(|names| names.contains(own)) { "allowed" } else { "refused" };
    table.row("token", "reads node policies and groups", "allowed", seen);
    // kubectl patch reads first, which is refused by itself; an apply on the server's side writes at once.
    let write = |node: &str, part: &str, what: Value, more: &[&str]| {
        let object = json!({
            "apiVersion": "selvage.io/v1alpha1", "kind": "NodePolicy",
            "metadata": { "name": node, "namespace": NAMESPACE }, part: what,
        });
        let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server"];
        send(&thief, &[&apply, more].concat(), &object)
    };
    let report = |node: &str| write(node, "status", json!({ "revision": 1 }), &["--subresource=status"]);
    let seen = if report(own)?.is_empty() { "allowed" } else { "refused" };
    table.row("token", "reports for its own node", "allowed", seen);
    let other = other.name.as_str();
    refused(table, "reports for another node", &report(other)?, &format!("may not report for {other}"));
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "any", "namespace": NAMESPACE } });
    refused(table, "makes a secret", &create(&thief, &secret)?, "orbidden");
    let in_ours = ["--namespace", NAMESPACE];
    for (what, words) in [
        ("lists secrets", vec!["get", "secrets", "--all-namespaces"]),
        ("lists secrets of its own namespace", [&["get", "secrets"], &in_ours[..]].concat()),
        ("lists pods", vec!["get", "pods", "--all-namespaces"]),
        ("lists namespaces", vec!["get", "namespaces"]),
        ("lists network policies", vec!["get", "networkpolicies", "--all-namespaces"]),
        ("reads its node", vec!["get", "node", own]),
        ("runs something in its own pod", [&["exec", pod], &in_ours[..], &["--", "true"]].concat()),
        ("deletes a node policy", [&["delete", "nodepolicy", own], &in_ours[..]].concat()),
        ("deletes all groups", [&["delete", "addressgroups", "--all"], &in_ours[..]].concat()),
    ] {
        refused(table, what, &text(&thief, &words)?, "orbidden");
    }
    for (what, node) in [("writes its own node's policy", own), ("writes another node's policy", other)] {
        let seen = write(node, "spec", json!({ "teardown": true }), &[])?;
        refused(table, what, &seen, "cannot patch resource \"nodepolicies\"");
    }
    Ok(())
}

/// A kubeconfig with an agent's token, until it is dropped.
struct Stolen {
    kubeconfig: PathBuf,
}

impl Stolen {
    fn new(cluster: &Cluster, token: &str) -> anyhow::Result<Self> {
        let mut config = cluster.kubectl_json(&["config", "view", "--raw", "--minify"])?;
        config["users"][0]["user"] = json!({ "token": token });
        let kubeconfig = std::env::temp_dir().join(format!("slv-stolen-{}", std::process::id()));
        let stolen = Self { kubeconfig };
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create_new(true).mode(0o600).open(&stolen.kubeconfig);
        std::io::Write::write_all(&mut file.context("a kubeconfig")?, config.to_string().as_bytes())?;
        Ok(stolen)
    }
}

impl Drop for Stolen {
    fn drop(&mut self) {
        // One that was never written leaves nothing behind.
        fs::remove_file(&self.kubeconfig).ok();
    }
}

/// A policy for the server that lets in what a rule says.
fn ingress(rule: Value) -> Value {
    json!({ "podSelector": { "matchLabels": { "pod": "server" } }, "ingress": [rule] })
}

fn network_policy(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": { "name": name, "namespace": SPACE }, "spec": spec,
    })
}

/// The IPv4 block of a node's pods.
fn block(node: &Node) -> anyhow::Result<String> {
    let block = node.pod_cidrs.iter().find(|cidr| !cidr.contains(':')).cloned();
    block.with_context(|| format!("node {} has no IPv4 pod block", node.name))
}

/// What the API server says to an object, which is not kept.
fn create(cluster: &Cluster, object: &Value) -> anyhow::Result<String> {
    send(cluster, &["create", "--dry-run=server"], object)
}

/// What kubectl says when it fails with an object to read.
fn send(cluster: &Cluster, words: &[&str], object: &Value) -> anyhow::Result<String> {
    let mut kubectl = cluster.kubectl_command(&[words, &["--filename=-"]].concat());
    let seen = output(&mut kubectl, Some(object.to_string().as_bytes()))?;
    Ok(if seen.success() { String::new() } else { seen.stderr })
}

/// What the API server says to a change, which is not made.
fn patch(cluster: &Cluster, target: &[&str], change: &Value) -> anyhow::Result<String> {
    let change = change.to_string();
    text(cluster, &[&["patch", "--dry-run=server", "--type=merge", "--patch", &change], target].concat())
}

/// What kubectl says when it fails.
fn text(cluster: &Cluster, words: &[&str]) -> anyhow::Result<String> {
    let seen = cluster.kubectl(words)?;
    Ok(if seen.success() { String::new() } else { seen.stderr })
}

/// A row for what must be refused with these words, and the message itself.
fn refused(table: &mut Table, what: &str, message: &str, says: &str) {
    let seen = match message {
        "" => "taken",
        message if message.contains(says) => "refused",
        _ => "otherwise",
    };
    table.row("refuse", what, "refused", seen);
    for line in message.lines().filter(|line| !line.trim().is_empty()).take(3) {
        println!("         {line}");
    }
}

/// Waits for a Warning about the object that names the field.
fn event(cluster: &Cluster, kind: &str, name: &str, path: &str) -> anyhow::Result<()> {
    let about =
        format!("--field-selector=type=Warning,involvedObject.kind={kind},involvedObject.name={name}");
    wait_for("an Event about the object", 20, || {
        let words = ["get", "events", "--all-namespaces", about.as_str()];
        let events = cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let mut all = events["items"].as_array().into_iter().flatten();
        let found = all.any(|event| event["message"].as_str().is_some_and(|text| text.contains(path)));
        if found { Ok(()) } else { Err(events.to_string()) }
    })?;
    Ok(())
}
