//! The chart as one plain manifest, for those who install without Helm.

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
    /// Where to write
    #[arg(long, short, default_value = "out/install.yaml")]
    output: PathBuf,
}

/// Writes the manifest.
pub fn write(root: &Path, args: &Args) -> Result<()> {
    let mut helm = Command::new(tools::find("helm", args.helm.as_deref())?);
    helm.args(["template", "selvage"]).arg(root.join("charts/selvage"));
    // The hook is Helm's: without Helm, `kubectl delete` asks nobody first.
    helm.args(["--no-hooks", "--namespace", &args.namespace]);
    for (part, image) in [("operator", &args.image_operator), ("agent", &args.image_agent)] {
        let Some(image) = image else { continue };
        let split = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let (repository, tag) = split.with_context(|| format!("{image}: an image is NAME:TAG"))?;
        helm.arg(format!("--set-string={part}.image.repository={repository},{part}.image.tag={tag}"));
    }
    helm.args(args.values.iter().map(|value| format!("--set={value}")));
    let manifest = command::output(&mut helm)?;
    let text = header(&args.namespace) + &without_helm(&manifest);
    let output = root.join(&args.output);
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    }
    fs::write(&output, text).with_context(|| format!("writing {}", output.display()))?;
    println!("wrote {}", output.display());
    Ok(())
}

/// Leaves out the labels that say that Helm looks after an object.
fn without_helm(manifest: &str) -> String {
    let helms = ["helm.sh/chart:", "app.kubernetes.io/managed-by: Helm"];
    let lines = manifest.trim_end().lines();
    lines
        .filter(|line| !helms.iter().any(|label| line.trim_start().starts_with(label)))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn header(namespace: &str) -> String {
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
