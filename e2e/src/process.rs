//! Processes that outlive the command that started them: recorded by pid and start time, since pids are used again.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::MARK;
use crate::error::{At, Error, Result};

/// Writes `pid` and its start time to a file, at once as a whole.
pub(crate) fn record(path: &Path, pid: u32) -> Result<()> {
    let start = start_time(pid).ok_or_else(|| Error::other(format!("process {pid} is not there")))?;
    let temporary = path.with_extension("new");
    fs::write(&temporary, format!("{pid} {start}\n")).at(&temporary)?;
    fs::rename(&temporary, path).at(path)
}

/// The pid in a file, if that very process is still there.
pub(crate) fn recorded(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let (pid, start) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (start_time(pid)? == start).then_some(pid)
}

/// Kills a recorded process and waits until it is gone, with all that lives in its pid namespace.
pub(crate) fn kill_recorded(path: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Some(pid) = recorded(path) {
        // It may end by itself in between, which the next look shows.
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
        if Instant::now() > deadline {
            return Err(Error::other(format!("process {pid} of {} does not end", path.display())));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Kills every process that carries the mark of bed `name` in its environment.
///
/// Processes can start others while they are looked for: it is over when none is found twice in a row.
pub(crate) fn kill_marked(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut clean = 0;
    while clean < 2 {
        let found = marked(name)?;
        clean = if found.is_empty() { clean + 1 } else { 0 };
        for pid in found {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
            if Instant::now() > deadline {
                return Err(Error::other(format!("process {pid} of bed {name} does not end")));
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The processes that carry the mark of bed `name`, but for this one.
pub(crate) fn marked(name: &str) -> Result<Vec<u32>> {
    let mark = format!("{MARK}={name}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").at("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // A process that has ended meanwhile, or a kernel thread, has no environment.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if pid != std::process::id()
            && environment.split(|&byte| byte == 0).any(|line| line == mark.as_bytes())
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// When a process started, in clock ticks since boot (proc(5), field 22 of stat); none for one that has ended.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_under_the_same_pid_is_not_taken_for_the_recorded_one() {
        let folder = std::env::temp_dir().join(format!("selvage-process-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("self.pid");
        record(&file, std::process::id()).unwrap();
        assert_eq!(recorded(&file), Some(std::process::id()));
        fs::write(&file, format!("{} 1\n", std::process::id())).unwrap();
        assert_eq!(recorded(&file), None);
        fs::remove_dir_all(&folder).unwrap();
    }
}
