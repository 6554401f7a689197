//! Namespaces and pods of the scenarios' own.

use std::net::IpAddr;

use anyhow::Context;
use selvage_e2e::{Cluster, wait_for};
use serde_json::{Value, json};

/// The image of clients and servers; it has ping and a shell too, as upstream's has.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.63.0";

/// How long a pod may take to be Running, in seconds.
const POD_START: u64 = 90;

/// Namespaces that are removed when the scenario ends, however it ends.
pub struct Namespaces<'a> {
    cluster: &'a Cluster,
    names: Vec<&'static str>,
}

impl<'a> Namespaces<'a> {
    /// Makes namespaces; what an earlier run left of them is removed first.
    pub fn create(cluster: &'a Cluster, names: &[&'static str]) -> anyhow::Result<Self> {
        delete(cluster, names)?;
        let made = Self { cluster, names: names.to_vec() };
        for name in names {
            cluster.kubectl_ok(&["create", "namespace", name])?;
            // A pod can't be made before its namespace has the default service account.
            wait_for("the default service account", 30, || {
                let seen = cluster.kubectl(&["get", "serviceaccount", "default", "--namespace", name]);
                match seen {
                    Ok(output) if output.success() => Ok(()),
                    Ok(output) => Err(output.stderr),
                    Err(error) => Err(error.to_string()),
                }
            })?;
        }
        Ok(made)
    }
}

impl Drop for Namespaces<'_> {
    fn drop(&mut self) {
        if let Err(error) = delete(self.cluster, &self.names) {
            eprintln!("  clean-up: {error:#}");
        }
    }
}

fn delete(cluster: &Cluster, names: &[&str]) -> anyhow::Result<()> {
    let mut words = vec!["delete", "namespace", "--ignore-not-found", "--wait"];
    words.extend(names);
    cluster.kubectl_ok(&words)?;
    Ok(())
}

/// A pod to be made: agnhost with these arguments.
pub struct Pod<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The node it must run on.
    pub node: Option<&'a str>,
    /// Its labels.
    pub labels: Value,
    /// agnhost's arguments; none means a client that waits.
    pub args: &'a [&'a str],
    /// Container ports: name, protocol, number.
    pub ports: &'a [(&'a str, &'a str, u16)],
}

impl<'a> Pod<'a> {
    /// A client that does nothing by itself.
    pub fn client(namespace: &'a str, name: &'a str, node: Option<&'a str>) -> Self {
        Self { namespace, name, node, labels: json!({ "pod": name }), args: &["pause"], ports: &[] }
    }

    /// The nodeSelector for a node, or for any.
    pub fn pinned(node: Option<&str>) -> Value {
        node.map_or_else(|| json!({}), |node| json!({ "kubernetes.io/hostname": node }))
    }

    /// The object.
    pub fn manifest(&self) -> Value {
        let ports = self.ports.iter().map(
            |(name, protocol, port)| json!({ "name": name, "protocol": protocol, "containerPort": port }),
        );
        let mut spec = json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "agnhost", "image": AGNHOST, "imagePullPolicy": "IfNotPresent",
                "args": self.args, "ports": ports.collect::<Vec<_>>(),
            }],
        });
        spec["nodeSelector"] = Self::pinned(self.node);
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": self.name, "labels": self.labels },
            "spec": spec,
        })
    }
}

/// Makes pods and waits until all are Ready.
pub fn start(cluster: &Cluster, pods: &[Pod<'_>]) -> anyhow::Result<()> {
    for pod in pods {
        cluster.apply(pod.namespace, &pod.manifest().to_string())?;
    }
    pods.iter().try_for_each(|pod| wait_ready(cluster, pod.namespace, pod.name))
}

/// Waits until a pod is Ready.
pub fn wait_ready(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<()> {
    let pod = format!("pod/{name}");
    let timeout = format!("--timeout={POD_START}s");
    cluster
        .kubectl_ok(&["wait", "--namespace", namespace, "--for=condition=Ready", &timeout, &pod])
        .with_context(|| format!("pod {namespace}/{name} did not become Ready"))?;
    Ok(())
}

/// A pod's addresses, IPv4 first.
pub fn addresses(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Vec<IpAddr>> {
    let pod = cluster.kubectl_json(&["get", "pod", "--namespace", namespace, name])?;
    let list = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
    let mut addresses = list.iter().filter_map(|ip| ip["ip"].as_str()?.parse().ok()).collect::<Vec<IpAddr>>();
    addresses.sort_by_key(IpAddr::is_ipv6);
    Ok(addresses)
}

/// A pod's IPv4 address.
pub fn ipv4(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<IpAddr> {
    let found = addresses(cluster, namespace, name)?.into_iter().find(IpAddr::is_ipv4);
    found.with_context(|| format!("pod {namespace}/{name} has no IPv4 address"))
}

/// The node that a pod runs on.
pub fn node(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<String> {
    let pod = cluster.kubectl_json(&["get", "pod", "--namespace", namespace, name])?;
    let node = pod["spec"]["nodeName"].as_str().map(str::to_owned);
    node.with_context(|| format!("pod {namespace}/{name} is not bound to a node"))
}
