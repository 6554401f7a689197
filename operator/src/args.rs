//! Command line and environment. Every flag can be given as `SELVAGE_<FLAG>` too.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgAction, Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use crate::convert;

/// Selvage's operator: turns policies into what each node enforces.
#[derive(Debug, Parser)]
#[command(name = "selvage-operator", version, about)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How to log.
    #[command(flatten)]
    pub log: Log,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch the cluster and publish what each node enforces, until stopped.
    Run(Run),
    /// Have every agent remove its rules, then remove what the operator made.
    Teardown(Teardown),
}

/// How to log.
#[derive(Debug, ClapArgs)]
pub struct Log {
    /// A level (error, warn, info, debug, trace), or directives as tracing's EnvFilter reads them.
    #[arg(long, global = true, default_value = "info", env = "SELVAGE_LOG_LEVEL")]
    pub log_level: String,
    /// Lines for people, or JSON for programs.
    #[arg(long, global = true, default_value = "text", env = "SELVAGE_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Flags of `run`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Run {
    /// The system namespace: NodePolicies, AddressGroups, the lease and the agents' pods live there.
    #[arg(long, default_value = "selvage-system", env = "SELVAGE_NAMESPACE")]
    pub namespace: String,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:9440", env = "SELVAGE_LISTEN")]
    pub listen: SocketAddr,
    /// The Lease that replicas elect a leader by.
    #[arg(long, default_value = "selvage-operator", env = "SELVAGE_LEASE_NAME")]
    pub lease_name: String,
    /// The cluster's pod networks, for the IPPool objects; derived from the nodes' blocks where none is given.
    #[arg(long = "pod-cidr", value_delimiter = ',', value_parser = pod_cidr, env = "SELVAGE_POD_CIDR")]
    pub pod_cidrs: Vec<IpNet>,
    /// Whether to make IPPools of the pod networks where nobody made any.
    #[arg(long, default_value_t = true, action = ArgAction::Set, env = "SELVAGE_CREATE_DEFAULT_POOLS")]
    pub create_default_pools: bool,
}

/// Flags of `teardown`.
#[derive(Debug, Clone, ClapArgs)]
pub struct Teardown {
    /// The system namespace.
    #[arg(long, default_value = "selvage-system", env = "SELVAGE_NAMESPACE")]
    pub namespace: String,
    /// How long to wait for the agents, as 60s, 2m or a number of seconds.
    #[arg(long, default_value = "60s", value_parser = duration, env = "SELVAGE_TIMEOUT")]
    pub timeout: Duration,
}

impl Log {
    /// Sends log lines to standard error from here on.
    pub fn install(&self) {
        let filter = EnvFilter::try_new(&self.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
        let lines = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr);
        match self.log_format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).init(),
        }
    }
}

fn pod_cidr(text: &str) -> Result<IpNet, String> {
    match convert::block(text) {
        Ok(block) if block.masked => Err(format!("{text:?} has host bits set, meant is {}", block.net)),
        Ok(block) => Ok(block.net),
        Err(why) => Err(format!("{text:?} {why}")),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is no duration, as 60s or 2m"))?;
    let seconds = match text.get(digits.len()..) {
        Some("" | "s") => Some(number),
        Some("m") => number.checked_mul(60),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(|| format!("{text:?} is no duration, as 60s or 2m"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_flag_as_documented() {
        let line = "selvage-operator run --namespace n --listen 127.0.0.1:1 --log-level debug --log-format json \
                    --lease-name l --pod-cidr 10.0.0.0/8,fd00::/64 --create-default-pools false";
        let args = Args::try_parse_from(line.split_whitespace()).unwrap();
        let Command::Run(run) = args.command else { panic!("not run") };
        assert_eq!((run.namespace.as_str(), run.lease_name.as_str(), run.pod_cidrs.len()), ("n", "l", 2));
        assert!(!run.create_default_pools);
        assert_eq!(args.log.log_format, LogFormat::Json);
        let line = "selvage-operator teardown --namespace n --timeout 2m";
        let Command::Teardown(teardown) = Args::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("not teardown")
        };
        assert_eq!(teardown.timeout, Duration::from_secs(120));
    }

    #[rstest]
    #[case("run --pod-cidr 10.0.0.1/8")]
    #[case("run --pod-cidr 010.0.0.0/8")]
    #[case("run --log-format xml")]
    #[case("run --listen nowhere")]
    #[case("teardown --timeout 5h")]
    #[case("teardown --timeout s")]
    #[case("")]
    fn refused(#[case] line: &str) {
        assert!(
            Args::try_parse_from(["selvage-operator"].into_iter().chain(line.split_whitespace())).is_err()
        );
    }
}
