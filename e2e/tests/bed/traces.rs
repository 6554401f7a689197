//! What a bed can leave behind on this host.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The bed of these tests.
pub const BED: &str = "trace-test";

/// The host, but for the bed: it must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
pub struct Host {
    mounts: BTreeSet<String>,
    links: BTreeSet<String>,
    addresses: BTreeSet<String>,
    routes: BTreeSet<String>,
}

/// The namespaces of a bed's processes, as the kernel names them (`net:[4026532177]`).
pub type Namespaces = BTreeSet<PathBuf>;

impl Host {
    pub fn now() -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Tests of other crates name namespaces for a moment; a bed's have no names.
        let mounts = mounts.lines().filter(|line| !line.contains("/run/netns/slv-"));
        Self {
            mounts: mounts.map(str::to_owned).collect(),
            links: ip(&["-o", "link"]),
            addresses: ip(&["-o", "address"]),
            routes: ip(&["route", "show", "table", "all"])
                .into_iter()
                .chain(ip(&["-6", "route", "show", "table", "all"]))
                .collect(),
        }
    }
}

/// Every namespace that a process of the bed lives in or makes its children in; the host's own are not among them.
pub fn namespaces() -> Namespaces {
    let own = of_process(Path::new("/proc/self"));
    bed_processes()
        .iter()
        .flat_map(|pid| of_process(&Path::new("/proc").join(pid)))
        .filter(|n| !own.contains(n))
        .collect()
}

/// The machines of the bed that have a process 1, sorted.
pub fn machines() -> Vec<String> {
    let mut found = Vec::new();
    for process in processes() {
        let line = fs::read(process.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        let words: Vec<&str> = line.split_terminator('\0').collect();
        if let [_, "machine", "init", BED, machine] = words.as_slice() {
            found.push((*machine).to_owned());
        }
    }
    found.sort();
    found
}

/// Checks that nothing is left of the bed, and that the host is as it was.
pub fn assert_nothing_left(before: &Host, namespaces: &Namespaces) {
    let now = ticks_since_boot();
    // The kernel takes namespaces apart in the background.
    let mut left = Vec::new();
    for _ in 0..100 {
        left = leftovers(before, namespaces, now);
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("left behind: {left:#?}");
}

fn leftovers(before: &Host, namespaces: &Namespaces, now: u64) -> Vec<String> {
    let mut left: Vec<String> = bed_processes().into_iter().map(|pid| format!("process {pid}")).collect();
    // The kernel gives a namespace's number away again, so one that was started later is another's.
    for process in processes().into_iter().filter(|process| started(process).is_some_and(|start| start < now))
    {
        let shared = of_process(&process).into_iter().filter(|namespace| namespaces.contains(namespace));
        left.extend(shared.map(|namespace| format!("{} in {}", process.display(), namespace.display())));
    }
    for tree in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let groups = fs::read_dir(tree.path()).into_iter().flatten().flatten().map(|entry| entry.path());
        let ours = groups.filter(|group| group.to_string_lossy().contains(&format!("selvage-{BED}-")));
        left.extend(ours.map(|group| format!("cgroup {}", group.display())));
    }
    for path in [format!("/var/lib/selvage-bed/{BED}"), format!("/var/lib/selvage-bed/{BED}.lock")] {
        left.extend(Path::new(&path).exists().then_some(path));
    }
    let after = Host::now();
    for (kind, before, after) in [
        ("mount", &before.mounts, &after.mounts),
        ("link", &before.links, &after.links),
        ("address", &before.addresses, &after.addresses),
        ("route", &before.routes, &after.routes),
    ] {
        left.extend(after.difference(before).map(|line| format!("{kind} {line}")));
        left.extend(before.difference(after).map(|line| format!("{kind} that was there: {line}")));
    }
    left
}

/// The pids of processes that carry the bed's mark, or its folder in their command line.
fn bed_processes() -> Vec<String> {
    let (mark, folder) = (format!("SELVAGE_BED_MARK={BED}"), format!("/selvage-bed/{BED}/"));
    let has = |process: &Path, file: &str, wanted: &str, whole: bool| {
        let content = fs::read(process.join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&content).into_owned();
        text.split('\0').any(|word| if whole { word == wanted } else { word.contains(wanted) })
    };
    let ours = processes()
        .into_iter()
        .filter(|process| has(process, "environ", &mark, true) || has(process, "cmdline", &folder, false));
    ours.filter_map(|process| Some(process.file_name()?.to_string_lossy().into_owned())).collect()
}

fn processes() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let number =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().parse::<u32>().is_ok());
    entries.filter(number).collect()
}

/// In clock ticks, of which Linux shows 100 a second.
fn ticks_since_boot() -> u64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
    (seconds * 100.0) as u64
}

/// When a process started, in the same ticks (proc(5)).
fn started(process: &Path) -> Option<u64> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn of_process(process: &Path) -> BTreeSet<PathBuf> {
    let names = ["net", "mnt", "uts", "pid", "pid_for_children"];
    // A process may have ended meanwhile, and kernel threads have none to show.
    names.iter().filter_map(|name| fs::read_link(process.join("ns").join(name)).ok()).collect()
}

fn ip(args: &[&str]) -> BTreeSet<String> {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(output.status.success(), "ip {args:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // A lifetime counts down by itself.
    let lasting = |line: &str| {
        let words = line.split_whitespace().filter(|word| !word.ends_with("sec"));
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(lasting).collect()
}
