//! The chart as plain manifests, for those who install without Helm: what is installed, and the teardown that Helm
//! would run as a hook.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, tools};

/// What to render.
#[derive(clap::Args)]
pub struct Args {
    /// The helm program; looked for among the cached tools and in PATH if not given
    #[arg(long, env = "HELM")]
    helm: Option<PathBuf>,
    /// The namespace to install into
    #[arg(long, default_value = "selvage-system")]
    namespace: String,
    /// The operator's image as NAME:TAG, where it is not the chart's own
    #[arg(long)]
    image_operator: Option<String>,
    /// The agent's image as NAME:TAG, where it is not the chart's own
    #[arg(long)]
    image_agent: Option<String>,
    /// A value of the chart as KEY=VALUE; may be repeated
    #[arg(long = "set")]
    values: Vec<String>,
    /// Where to write; the teardown is written beside it as `teardown.yaml`
    #[arg(long, short, default_value = "out/install.yaml")]
    output: PathBuf,
}

/// Writes the manifests.
pub fn write(root: &Path, args: &Args) -> Result<()> {
    let mut helm = Command::new(tools::find("helm", args.helm.as_deref())?);
    helm.args(["template", "selvage"]).arg(root.join("charts/selvage"));
    helm.args(["--namespace", &args.namespace]);
    for (part, image) in [("operator", &args.image_operator), ("agent", &args.image_agent)] {
        let Some(image) = image else { continue };
        let split = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let (repository, tag) = split.with_context(|| format!("{image}: an image is NAME:TAG"))?;
        helm.arg(format!("--set-string={part}.image.repository={repository},{part}.image.tag={tag}"));
    }
    helm.args(args.values.iter().map(|value| format!("--set={value}")));
    let manifest = command::output(&mut helm)?;
    let documents = manifest.split("---\n").filter(|document| !document.trim().is_empty());
    let (hooks, installed): (Vec<&str>, Vec<&str>) =
        documents.partition(|document| document.contains("\n    helm.sh/hook:"));
    let output = root.join(&args.output);
    write_file(&output, &install_header(&args.namespace), &installed)?;
    write_file(&output.with_file_name("teardown.yaml"), &teardown_header(&args.namespace), &hooks)
}

fn write_file(path: &Path, header: &str, documents: &[&str]) -> Result<()> {
    let documents: String =
        documents.iter().map(|document| format!("---\n{}", without_helm(document))).collect();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(path, format!("{header}{documents}")).with_context(|| format!("writing {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(())
}

/// Leaves out the labels that say that Helm looks after an object.
fn without_helm(document: &str) -> String {
    let helms = ["helm.sh/chart:", "app.kubernetes.io/managed-by: Helm"];
    let lines = document.trim().lines();
    lines
        .filter(|line| !helms.iter().any(|label| line.trim_start().starts_with(label)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn install_header(namespace: &str) -> String {
    format!(
        "# Selvage {version}, for `kubectl apply --server-side -f`. Made by `cargo xtask install-yaml`.\n\
         ---\n\
         apiVersion: v1\n\
         kind: Namespace\n\
         metadata:\n  \
           name: {namespace}\n  \
           labels:\n    \
             app.kubernetes.io/name: selvage\n    \
             pod-security.kubernetes.io/enforce: privileged\n",
        version = env!("CARGO_PKG_VERSION"),
    )
}

fn teardown_header(namespace: &str) -> String {
    format!(
        "# Before install.yaml is deleted: has every node's agent remove its rules, and waits for it.\n\
         #   kubectl apply -f teardown.yaml\n\
         #   kubectl -n {namespace} wait --for=condition=Complete --timeout=3m job/selvage-teardown\n\
         #   kubectl delete -f teardown.yaml -f install.yaml\n"
    )
}
