//! Finding and running helm.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// The helm program: the one named, the newest in the cache of built tools, or PATH's.
///
/// # Errors
/// Where there is none; says how to get it.
pub fn find(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let built = fs::read_dir(crate::cache().join("bin")).into_iter().flatten().flatten();
    let helms = built.map(|entry| entry.path().join("helm")).filter(|helm| helm.is_file());
    let newest = helms.max_by_key(|helm| fs::metadata(helm).and_then(|meta| meta.modified()).ok());
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = || env::split_paths(&path).map(|folder| folder.join("helm")).find(|helm| helm.is_file());
    match newest.or_else(in_path) {
        Some(helm) => Ok(helm),
        None => bail!("helm is missing: run `make setup`, which builds it, or name one by HELM"),
    }
}
