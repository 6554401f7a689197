//! Selvage's node agent.

use anyhow::Context;
use clap::Parser;
use selvage_node_agent::args::{Cli, Command};
use selvage_node_agent::{logs, run};

fn main() -> anyhow::Result<()> {
    let Command::Run(args) = Cli::parse().command;
    logs::init(&args.log_level, args.log_format).context("--log-level")?;
    // A node agent waits nearly always: two workers serve a large node, and each costs memory on every node.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(run::run(args)).context("the node agent stopped");
    // Kernel work in progress is one atomic transaction: it may be left behind.
    runtime.shutdown_background();
    result
}
