//! The command line: every flag can be given by an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Selvage's node agent: enforces this node's NodePolicy with nftables.
#[derive(Debug, Parser)]
#[command(name = "selvage-node-agent", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch, enforce and report until told to stop; the rules stay in the kernel after that.
    Run(RunArgs),
}

/// Settings of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// This node's name, as in the Node object.
    #[arg(long, env = "SELVAGE_NODE_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub node_name: String,
    /// The namespace that NodePolicy and AddressGroup objects live in.
    #[arg(long, env = "SELVAGE_NAMESPACE", default_value = "selvage-system")]
    pub namespace: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "SELVAGE_LISTEN", default_value = "0.0.0.0:9441")]
    pub listen: SocketAddr,
    /// An interface that pods are behind (flannel's bridge); may be repeated.
    #[arg(
        long = "pod-interface",
        env = "SELVAGE_POD_INTERFACE",
        default_value = "cni0",
        value_delimiter = ',',
        value_parser = interface_name
    )]
    pub pod_interfaces: Vec<String>,
    /// The folder of libcni's cached results. Where it is missing, pod addresses come from the API.
    #[arg(long, env = "SELVAGE_CNI_RESULTS_DIR", default_value = "/var/lib/cni/results")]
    pub cni_results_dir: PathBuf,
    /// What happens to pods that no policy object tells of yet.
    #[arg(long, env = "SELVAGE_UNKNOWN_PODS", value_enum, default_value_t = UnknownPods::Closed)]
    pub unknown_pods: UnknownPods,
    /// Who may change the agent's tables beside the agent.
    #[arg(long, env = "SELVAGE_TABLE_OWNERSHIP", value_enum, default_value_t = TableOwnership::Owned)]
    pub table_ownership: TableOwnership,
    /// Count what rules let pass, too. Rules that drop or log always count.
    #[arg(long, env = "SELVAGE_COUNT_ALLOWED")]
    pub count_allowed: bool,
    /// Which log lines are written, as a tracing filter (`info`, `selvage_node_agent=debug`).
    #[arg(long, env = "SELVAGE_LOG_LEVEL", default_value = "info")]
    pub log_level: String,
    /// How log lines look.
    #[arg(long, env = "SELVAGE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// What happens to packets of a pod that the node does not know yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UnknownPods {
    /// Nothing passes until the pod's policy stands.
    Closed,
    /// Everything passes until the pod's policy stands.
    Open,
}

/// Who may change the agent's tables beside the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TableOwnership {
    /// Nobody, where the kernel can see to that (Linux 6.9 and later); elsewhere as `plain`.
    Owned,
    /// Whoever may change nftables at all. What others change is seen and repaired.
    Plain,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An interface name as the kernel takes it (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes, no slash, colon or
/// white space.
fn interface_name(text: &str) -> Result<String, String> {
    let valid = (1..=15).contains(&text.len())
        && !matches!(text, "." | "..")
        && !text.bytes().any(|b| matches!(b, b'/' | b':') || b.is_ascii_whitespace());
    valid
        .then(|| text.to_owned())
        .ok_or_else(|| "an interface name has 1 to 15 bytes and no slash, colon or white space".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(args: &[&str]) -> Result<RunArgs, String> {
        let line = ["selvage-node-agent", "run"].iter().chain(args).copied();
        let Command::Run(run) = Cli::try_parse_from(line).map_err(|e| e.to_string())?.command;
        Ok(run)
    }

    #[test]
    fn interfaces_can_be_repeated_or_listed() {
        let args = ["--node-name", "n", "--pod-interface", "cni0", "--pod-interface", "br0,br1"];
        assert_eq!(run(&args).unwrap().pod_interfaces, ["cni0", "br0", "br1"]);
        assert_eq!(run(&["--node-name", "n"]).unwrap().pod_interfaces, ["cni0"]);
    }

    #[test]
    fn what_is_allowed_is_counted_when_asked_for() {
        assert!(!run(&["--node-name", "n"]).unwrap().count_allowed);
        assert!(run(&["--node-name", "n", "--count-allowed"]).unwrap().count_allowed);
    }

    #[test]
    fn names_that_mean_nothing_are_refused() {
        for bad in ["", "a/b", "sixteen-letters-", "a b", ".."] {
            assert!(run(&["--node-name", "n", "--pod-interface", bad]).is_err(), "{bad:?} was taken");
        }
        assert!(run(&["--node-name", ""]).is_err());
        assert!(run(&["--node-name", "n", "--unknown-pods", "perhaps"]).is_err());
    }
}
