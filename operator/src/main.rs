//! The operator's program: arguments in, [`selvage_operator::run`] or [`selvage_operator::teardown`] out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use selvage_operator::args::{Args, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    args.log.install();
    match work(args.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn work(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(run) => selvage_operator::run::run(run).await?,
        Command::Teardown(teardown) => selvage_operator::teardown::run(teardown).await?,
    }
    Ok(())
}
