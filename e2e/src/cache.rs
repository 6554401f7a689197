//! The cache of what takes long to build, outside the source tree.
//!
//! An entry is a folder named after the hash of everything that it was made from, so an entry is right or
//! absent. It is made beside its place and renamed: a build that is interrupted leaves no half entry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{At, Result};

/// The cache's folder: `$SELVAGE_CACHE`, or `/var/cache/selvage`.
pub fn root() -> PathBuf {
    std::env::var_os("SELVAGE_CACHE").map_or_else(|| PathBuf::from("/var/cache/selvage"), PathBuf::from)
}

/// The hash of what an entry is made from.
#[derive(Default)]
pub struct Key(Sha256);

impl Key {
    /// Adds one named input. Lengths are hashed too, so that no two lists of inputs look alike.
    pub fn add(&mut self, name: &str, content: &[u8]) -> &mut Self {
        for part in [name.as_bytes(), content] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds a file's content.
    pub fn add_file(&mut self, path: &Path) -> Result<&mut Self> {
        let content = fs::read(path).at(path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(self.add(&name, &content))
    }

    /// The first 16 hexadecimal digits: enough for a few dozen entries, short enough to be read.
    pub fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The folder of entry `NAME-KEY` in part `part` of the cache; `make` fills it if it does not exist yet.
///
/// Of several processes that ask for entries of one part, one makes them while the others wait.
pub fn entry(part: &str, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    entry_in(&root().join(part), name, key, make)
}

fn entry_in(folder: &Path, name: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let entry = folder.join(format!("{name}-{key}"));
    if entry.is_dir() {
        return Ok(entry);
    }
    fs::create_dir_all(folder).at(folder)?;
    let lock = folder.join(format!(".lock-{name}"));
    let lock = File::create(&lock).at(&lock)?;
    lock.lock().at(folder)?;
    if entry.is_dir() {
        return Ok(entry);
    }
    let temporary = folder.join(format!(".making-{name}"));
    remove_if_there(&temporary)?;
    fs::create_dir_all(&temporary).at(&temporary)?;
    make(&temporary)?;
    fs::rename(&temporary, &entry).at(&entry)?;
    Ok(entry)
}

/// Removes a folder and what is in it; none there is as good.
pub(crate) fn remove_if_there(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).at(folder),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_build_that_is_interrupted_leaves_no_entry_and_the_next_starts_afresh() {
        let folder = std::env::temp_dir().join(format!("selvage-cache-{}", std::process::id()));
        let interrupted = entry_in(&folder, "thing", "1", |output| {
            fs::write(output.join("half"), "").at(output)?;
            Err(Error::Interrupted)
        });
        assert!(matches!(interrupted, Err(Error::Interrupted)));
        assert!(!folder.join("thing-1").exists());

        let whole = entry_in(&folder, "thing", "1", |output| {
            assert!(!output.join("half").exists());
            fs::write(output.join("whole"), "").at(output)
        });
        assert!(whole.unwrap().join("whole").is_file());
        let again = entry_in(&folder, "thing", "1", |_| Err(Error::other("it is there already")));
        assert!(again.unwrap().join("whole").is_file());
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_input_changes_the_key_and_so_does_where_one_ends() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = Key::default();
            for (name, content) in parts {
                key.add(name, content.as_bytes());
            }
            key.finish()
        };
        let keys =
            [key(&[("a", "bc")]), key(&[("ab", "c")]), key(&[("a", "b"), ("c", "")]), key(&[("a", "b")])];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
}
