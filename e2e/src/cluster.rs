//! A cluster as the scenarios see it: one of our beds, or any other that a kubeconfig leads to.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bed::Bed;
use crate::command::{Output, command, output, run, run_with_input};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::setup::{self, Clients};

/// A cluster and the programs to talk to it.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    clients: Clients,
    bed: Option<Bed>,
}

/// A node, as the API server tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its internal addresses.
    pub addresses: Vec<IpAddr>,
    /// Its blocks of the pod networks, as CIDRs.
    pub pod_cidrs: Vec<String>,
}

impl Cluster {
    /// The cluster of a bed that is up.
    pub fn of_bed(name: &str) -> Result<Self> {
        let bed = Bed::open(name)?;
        let clients = Clients { kubernetes: bed.tools().kubernetes.clone(), helm: bed.tools().helm.clone() };
        Ok(Self { kubeconfig: bed.kubeconfig(), clients, bed: Some(bed) })
    }

    /// Any cluster: kind, k3d, a cloud. What is done to machines is not possible there.
    pub fn external(kubeconfig: &Path) -> Result<Self> {
        if !kubeconfig.is_file() {
            return Err(Error::other(format!("KUBECONFIG: {} is no file", kubeconfig.display())));
        }
        let clients = setup::clients(&Progress::default())?;
        Ok(Self { kubeconfig: kubeconfig.to_owned(), clients, bed: None })
    }

    /// The bed, if the cluster is one.
    pub fn bed(&self) -> Option<&Bed> {
        self.bed.as_ref()
    }

    /// The bed, or an error that says that the cluster is none.
    pub fn require_bed(&self) -> Result<&Bed> {
        self.bed().ok_or_else(|| Error::other("this needs a cluster of the test bed (selvage-bed up)"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl with this cluster's kubeconfig.
    pub fn kubectl_command(&self, args: &[impl AsRef<str>]) -> Command {
        self.client(self.clients.kubernetes.join("kubectl"), args)
    }

    /// Runs kubectl, whatever its status.
    pub fn kubectl(&self, args: &[impl AsRef<str>]) -> Result<Output> {
        output(&mut self.kubectl_command(args), None)
    }

    /// Runs kubectl and returns its standard output; another status than 0 is an error.
    pub fn kubectl_ok(&self, args: &[impl AsRef<str>]) -> Result<String> {
        run(&mut self.kubectl_command(args))
    }

    /// `kubectl ... -o json`, parsed.
    pub fn kubectl_json(&self, args: &[impl AsRef<str>]) -> Result<Value> {
        let mut kubectl = self.kubectl_command(args);
        let text = run(kubectl.args(["-o", "json"]))?;
        serde_json::from_str(&text).map_err(|error| Error::other(format!("kubectl's JSON: {error}")))
    }

    /// `kubectl apply` of a manifest, in a namespace.
    pub fn apply(&self, namespace: &str, manifest: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command(&["apply", "--namespace", namespace, "-f", "-"]);
        run_with_input(&mut kubectl, manifest.as_bytes())
    }

    /// Runs a command in a pod, whatever its status.
    pub fn pod_exec(&self, namespace: &str, pod: &str, words: &[impl AsRef<str>]) -> Result<Output> {
        let mut kubectl = self.kubectl_command(&["exec", "--namespace", namespace, pod, "--"]);
        output(kubectl.args(words.iter().map(AsRef::as_ref)), None)
    }

    /// helm with this cluster's kubeconfig.
    pub fn helm_command(&self, args: &[impl AsRef<str>]) -> Command {
        self.client(self.clients.helm.join("helm"), args)
    }

    /// Runs helm, whatever its status.
    pub fn helm(&self, args: &[impl AsRef<str>]) -> Result<Output> {
        output(&mut self.helm_command(args), None)
    }

    /// The upstream NetworkPolicy specs against this cluster, in `processes` processes side by side. `flags`
    /// are ginkgo's, such as `--focus=...`, `--skip=...` and `--junit-report=...`.
    pub fn netpol_command(&self, processes: usize, flags: &[impl AsRef<str>]) -> Result<Command> {
        let nodes = self.nodes()?.len();
        let mut ginkgo = self.client(self.clients.kubernetes.join("ginkgo"), &["run", "--no-color"]);
        ginkgo.arg(format!("--procs={processes}")).args(flags.iter().map(AsRef::as_ref));
        ginkgo.arg(self.clients.kubernetes.join("netpol.test")).args(["--", "--provider=skeleton"]);
        ginkgo.arg(format!("--num-nodes={nodes}")).arg(format!("--kubeconfig={}", self.kubeconfig.display()));
        Ok(ginkgo)
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> Result<Vec<Node>> {
        let list = self.kubectl_json(&["get", "nodes"])?;
        let mut nodes: Vec<Node> = array(&list["items"]).iter().map(node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    fn client(&self, program: PathBuf, args: &[impl AsRef<str>]) -> Command {
        let mut client = command(program, args.iter().map(AsRef::as_ref));
        client.env("KUBECONFIG", &self.kubeconfig);
        if let Some(bed) = &self.bed {
            // A bed leaves nothing in anybody's home.
            let cache = bed.client_cache();
            client.env("KUBECACHEDIR", &cache);
            for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
                client.env(name, cache.join("helm"));
            }
        }
        client
    }
}

fn node(value: &Value) -> Node {
    let addresses = array(&value["status"]["addresses"]).iter();
    let internal = addresses.filter(|address| address["type"] == "InternalIP");
    Node {
        name: text(&value["metadata"]["name"]),
        addresses: internal.filter_map(|address| address["address"].as_str()?.parse().ok()).collect(),
        pod_cidrs: array(&value["spec"]["podCIDRs"]).iter().map(text).collect(),
    }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_are_read_with_both_families() {
        let value = json!({
            "metadata": { "name": "n1" },
            "spec": { "podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"] },
            "status": { "addresses": [
                { "type": "InternalIP", "address": "172.31.250.11" },
                { "type": "InternalIP", "address": "fd00::11" },
                { "type": "Hostname", "address": "n1" },
            ] },
        });
        let expected = Node {
            name: "n1".into(),
            addresses: vec!["172.31.250.11".parse().unwrap(), "fd00::11".parse().unwrap()],
            pod_cidrs: vec!["10.244.0.0/24".into(), "fd00:10:244::/64".into()],
        };
        assert_eq!(node(&value), expected);
    }
}
