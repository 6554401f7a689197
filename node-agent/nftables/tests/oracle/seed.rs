//! Where random runs begin, and how long they are: printed by each, and set by the environment to repeat one.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::str::FromStr;

/// What a number in the environment says.
pub fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is not a number")))
}

/// `SELVAGE_ORACLE_SEED`, or one that nobody has chosen. Says how to repeat the run.
pub fn seed(name: &str) -> u64 {
    let seed = setting("SELVAGE_ORACLE_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let clusters = setting::<u32>("SELVAGE_ORACLE_CLUSTERS");
    let clusters = clusters.map(|clusters| format!(" SELVAGE_ORACLE_CLUSTERS={clusters}"));
    println!("{name}: SELVAGE_ORACLE_SEED={seed}{}", clusters.unwrap_or_default());
    seed
}
