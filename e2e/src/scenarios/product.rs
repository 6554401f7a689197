//! Selvage on the cluster: installed with Helm, and waited for.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use selvage_e2e::{Cluster, POD_NETWORKS, Progress, crate_folder, wait_for};

/// Where Selvage is installed.
pub const NAMESPACE: &str = "selvage-system";
/// The Helm release.
pub const RELEASE: &str = "selvage";

/// How long everything may take to be Ready after an install or upgrade.
const READY: u64 = 120;

/// Which images are installed.
#[derive(Debug, Clone, Args)]
pub struct Images {
    /// Archives to import into the bed's nodes first; made by `make images`.
    #[arg(long, global = true, default_values = ["out/images/operator.tar", "out/images/node-agent.tar"])]
    archives: Vec<PathBuf>,
    /// The operator's image, where it is not the chart's own.
    #[arg(long, global = true)]
    operator_image: Option<String>,
    /// The agent's image, where it is not the chart's own.
    #[arg(long, global = true)]
    agent_image: Option<String>,
}

impl Images {
    /// The Helm values that name them.
    fn values(&self) -> anyhow::Result<Vec<String>> {
        let mut values = Vec::new();
        for (component, image) in [("operator", &self.operator_image), ("agent", &self.agent_image)] {
            if let Some(image) = image {
                let (repository, tag) = image.rsplit_once(':').with_context(|| format!("{image}: no tag"))?;
                values.push(format!("{component}.image.repository={repository}"));
                values.push(format!("{component}.image.tag={tag}"));
            }
        }
        Ok(values)
    }
}

/// The tree that is worked on.
pub fn root() -> PathBuf {
    crate_folder().join("..")
}

/// The chart in it.
pub fn chart() -> PathBuf {
    root().join("charts/selvage")
}

/// Imports the images where the cluster is a bed, installs or upgrades the release, and waits until it is ready.
pub fn install(cluster: &Cluster, images: &Images, progress: &Progress) -> anyhow::Result<()> {
    if let Some(bed) = cluster.bed() {
        progress.step("importing the images into the nodes");
        for archive in &images.archives {
            bed.load_image(archive)?;
        }
    }
    progress.step("helm upgrade --install");
    helm_upgrade(cluster, &chart(), &values(cluster, images)?)?;
    wait_ready(cluster)
}

/// The Helm values for a cluster.
pub fn values(cluster: &Cluster, images: &Images) -> anyhow::Result<Vec<String>> {
    let mut values = images.values()?;
    if let Some(bed) = cluster.bed() {
        values.push(format!("apiServer.host={}", bed.api_server_address()));
        values.push("apiServer.port=6443".to_owned());
        values.push(format!("podCidrs={{{}}}", POD_NETWORKS.join(",")));
    }
    Ok(values)
}

/// `helm upgrade --install` of a chart with values, without waiting for what it starts.
pub fn helm_upgrade(cluster: &Cluster, chart: &Path, values: &[String]) -> anyhow::Result<()> {
    let chart = chart.to_str().context("the chart's path is no text")?;
    let mut words = vec![
        "upgrade",
        "--install",
        RELEASE,
        chart,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
        "--timeout=3m",
    ];
    for value in values {
        words.extend(["--set", value]);
    }
    let done = cluster.helm(&words)?;
    if !done.success() {
        bail!("helm: {}{}", done.stdout, done.stderr);
    }
    Ok(())
}

/// Waits until the operator and every agent are Ready and every node's policy is Programmed.
pub fn wait_ready(cluster: &Cluster) -> anyhow::Result<()> {
    let timeout = format!("--timeout={READY}s");
    for workload in ["deployment/selvage-operator", "daemonset/selvage-agent"] {
        cluster.kubectl_ok(&["rollout", "status", "--namespace", NAMESPACE, &timeout, workload])?;
    }
    let nodes = cluster.nodes()?.len();
    wait_for("every node's policy to be Programmed", READY, || {
        let list = cluster
            .kubectl_json(&["get", "nodepolicies", "--namespace", NAMESPACE])
            .map_err(|error| error.to_string())?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let ready = items.iter().filter(|item| {
            let programmed = crate::status::condition(item, "Programmed");
            programmed["status"] == "True"
                && item["status"]["observedGeneration"] == item["metadata"]["generation"]
        });
        let ready = ready.count();
        if ready == nodes { Ok(()) } else { Err(format!("{ready} of {nodes} nodes: {list}")) }
    })?;
    Ok(())
}
