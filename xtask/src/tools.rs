//! Finding the programs that `make setup` builds or installs.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// A program: the one named, the newest in the cache of built tools, or PATH's.
///
/// # Errors
/// Where there is none; says how to get it.
pub fn find(program: &str, named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let built = fs::read_dir(crate::cache().join("bin")).into_iter().flatten().flatten();
    let found = built.map(|entry| entry.path().join(program)).filter(|path| path.is_file());
    let newest = found.max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path =
        || env::split_paths(&path).map(|folder| folder.join(program)).find(|program| program.is_file());
    match newest.or_else(in_path) {
        Some(found) => Ok(found),
        None => bail!("{program} is missing: run `make setup`, which provides it"),
    }
}
