//! Where random runs begin, and how long they are: printed by each, and set by the environment to repeat one.

use std::hash::{BuildHasher, Hasher};
use std::str::FromStr;

/// What a number in the environment says.
pub fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().ok().unwrap_or_else(|| panic!("{name}={text} is not a number")))
}

/// `SELVAGE_ORACLE_SEED`, or one that nobody has chosen. Says how to repeat the run.
pub fn seed(name: &str, clusters: u32) -> u64 {
    let chosen = setting("SELVAGE_ORACLE_SEED");
    let seed =
        chosen.unwrap_or_else(|| std::collections::hash_map::RandomState::new().build_hasher().finish());
    println!("{name}: SELVAGE_ORACLE_SEED={seed} SELVAGE_ORACLE_CLUSTERS={clusters}");
    seed
}
