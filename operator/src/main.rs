//! The operator's program: arguments in, [`selvage_operator::run`] or [`selvage_operator::teardown`] out.
#![forbid(unsafe_code)]

use clap::Parser;
use selvage_operator::args::{Args, Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.log.install();
    match args.command {
        Command::Run(run) => selvage_operator::run::run(run).await?,
        Command::Teardown(teardown) => selvage_operator::teardown::run(teardown).await?,
    }
    Ok(())
}
