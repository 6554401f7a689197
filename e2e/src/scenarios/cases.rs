//! Cases of a scenario, one after the other, each blamed for itself alone.

use std::fmt::Debug;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use selvage_e2e::{Cluster, Progress};

use crate::product;

/// Which faults are tried, and for how long.
#[derive(Debug, Clone, Copy, Args)]
pub struct Choice<C: ValueEnum + Send + Sync + 'static> {
    /// One case alone.
    #[arg(long, value_enum)]
    case: Option<C>,
    /// Longer runs of the same.
    #[arg(long)]
    pub long: bool,
}

impl<C: ValueEnum + Send + Sync + Copy + PartialEq + Debug> Choice<C> {
    /// Every case, for as long as it takes to notice what is wrong.
    pub const ALL: Self = Self { case: None, long: false };

    /// Carries out what was chosen; `aside` only where it is asked for, or in a long run.
    pub fn carry_out(
        &self,
        cluster: &Cluster,
        progress: &Progress,
        aside: C,
        mut carry_out: impl FnMut(C) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let chosen = |case: C| match self.case {
            Some(one) => one == case,
            None => self.long || case != aside,
        };
        let mut failed = Vec::new();
        for case in C::value_variants().iter().copied().filter(|case| chosen(*case)) {
            let start = Instant::now();
            if let Err(error) = carry_out(case) {
                println!("  {case:?} FAILED: {error:#}");
                failed.push(format!("{case:?}: {error:#}"));
            }
            // One case must not be blamed for what another left.
            product::wait_ready(cluster).with_context(|| format!("after {case:?}"))?;
            progress.step(format_args!("{case:?}: {:.1} s", start.elapsed().as_secs_f64()));
        }
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("\n")) }
    }
}
