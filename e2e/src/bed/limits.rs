//! What of the host runs out first when there are several beds: inotify instances.

use std::fs;
use std::path::Path;

use crate::error::{At, Error, Result};
use crate::progress::Progress;

/// A kernel-wide limit for each user. A bed does not change it: that would outlive the bed; `selvage-bed setup` does.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
/// What the control plane and a node open, an agent and a margin included; 11 and 9 were seen.
const CONTROL_PLANE: usize = 12;
const NODE: usize = 11;
/// What `setup` sets: enough for ten beds.
const WANTED: usize = 512;

/// Raises the limit where it is low. Where it can't be raised, fewer beds are up at once.
pub fn raise(progress: &Progress) -> Result<()> {
    if limit()? >= WANTED {
        return Ok(());
    }
    match fs::write(LIMIT, WANTED.to_string()) {
        Ok(()) => progress.step(format_args!("fs.inotify.max_user_instances is {WANTED} now")),
        Err(error) => progress.step(format_args!("{LIMIT} can't be written: {error}")),
    }
    Ok(())
}

/// How many more beds of so many nodes can be up at once, with room for `spare` more.
pub fn beds_that_fit(nodes: u8, spare: usize) -> Result<usize> {
    let free = limit()?.saturating_sub(in_use(Path::new("/proc")));
    Ok((free / needed(nodes)).saturating_sub(spare))
}

fn needed(nodes: u8) -> usize {
    CONTROL_PLANE + NODE * usize::from(nodes)
}

fn limit() -> Result<usize> {
    let text = fs::read_to_string(LIMIT).at(LIMIT)?;
    text.trim().parse().map_err(|_| Error::other(format!("{LIMIT}: {text:?}")))
}

/// Checks that a bed of so many nodes gets the inotify instances that it needs: the kubelet ends without them.
pub(super) fn check(nodes: u8) -> Result<()> {
    let (limit, used, needed) = (limit()?, in_use(Path::new("/proc")), needed(nodes));
    if used + needed <= limit {
        return Ok(());
    }
    Err(Error::other(format!(
        "fs.inotify.max_user_instances is {limit}, {used} are in use, and this bed needs {needed}: take another bed \
         down (selvage-bed status --names), or `sysctl fs.inotify.max_user_instances={}`",
        (used + needed).next_power_of_two()
    )))
}

/// The inotify instances that processes hold open; those of processes that end meanwhile don't count.
fn in_use(proc: &Path) -> usize {
    let files = fs::read_dir(proc).into_iter().flatten().flatten();
    let open = files.filter_map(|process| fs::read_dir(process.path().join("fd")).ok()).flatten().flatten();
    open.filter(|file| {
        fs::read_link(file.path()).is_ok_and(|target| target == Path::new("anon_inode:inotify"))
    })
    .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_counted_over_all_processes() {
        let proc = std::env::temp_dir().join(format!("selvage-limits-{}", std::process::id()));
        for (pid, fd, target) in
            [("1", "3", "anon_inode:inotify"), ("1", "4", "socket:[7]"), ("22", "9", "anon_inode:inotify")]
        {
            let folder = proc.join(pid).join("fd");
            fs::create_dir_all(&folder).unwrap();
            std::os::unix::fs::symlink(target, folder.join(fd)).unwrap();
        }
        assert_eq!(in_use(&proc), 2);
        fs::remove_dir_all(&proc).unwrap();
    }
}
