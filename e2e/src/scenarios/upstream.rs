//! The NetworkPolicy specs that Kubernetes itself comes with.

use anyhow::{Context, bail};
use selvage_e2e::{Cluster, output};

/// How many specs run side by side. They wait more than they work.
const PROCESSES: usize = 4;
/// Everything but SCTP, which kernels may lack.
const FLAGS: [&str; 3] = ["--focus=Feature:NetworkPolicy", "--skip=SCTPConnectivity", "--silence-skips"];

/// The scenario.
pub fn run(cluster: &Cluster) -> anyhow::Result<()> {
    let seen = output(&mut cluster.netpol_command(PROCESSES, &FLAGS)?, None)?;
    let text = format!("{}{}", seen.stdout, seen.stderr);
    let summary = text.lines().position(|line| line.contains("Summarizing") || line.starts_with("Ran "));
    let closing = summary.with_context(|| format!("ginkgo has no closing lines: {text}"))?;
    for line in text.lines().skip(closing).filter(|line| !line.trim().is_empty()) {
        println!("  {line}");
    }
    if !seen.success() || !text.contains("SUCCESS!") || text.contains("Ran 0 of") {
        println!("{text}");
        bail!("the upstream suite failed");
    }
    Ok(())
}
