//! The folder of libcni's cached results, read again whenever it changes.
//!
//! inotify tells of changes at once; a slow poll finds what inotify can't tell (a folder that appears later, an
//! overflow, a file system without it).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};
use tokio::sync::watch;

use super::cni::{self, Attachment};

/// How often the folder is looked at without any event.
const POLL: Duration = Duration::from_secs(2);
/// How soon a file that could not be read is tried again at first; doubled each time up to [`POLL`].
const RETRY: Duration = Duration::from_millis(20);
/// Events within this time are answered by one look.
const GATHER: Duration = Duration::from_millis(5);
/// Longer files are no cached results: a result holds a few addresses and the network's configuration.
const MAX_FILE: u64 = 1 << 20;

/// What the folder says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CniView {
    /// Attachments of pods by file name; None where there is no such folder.
    pub attachments: Option<Vec<Attachment>>,
    /// Files that are there but can't be read (half written, empty, damaged).
    pub unreadable: usize,
}

/// Reads the folder, each file once as long as it does not change.
#[derive(Debug)]
pub struct Scanner {
    dir: PathBuf,
    seen: BTreeMap<OsString, Seen>,
    /// The folder could not be listed the last time.
    failing: bool,
}

#[derive(Debug)]
struct Seen {
    stamp: Stamp,
    /// False while the content could not be understood: it is read again each time.
    readable: bool,
    /// What the file says, or said when it was last readable.
    attachment: Option<Attachment>,
}

/// What tells that a file was written again.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
struct Stamp {
    inode: u64,
    len: u64,
    mtime: (i64, i64),
}

impl Scanner {
    /// A scanner that has read nothing yet.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, seen: BTreeMap::new(), failing: false }
    }

    /// Looks at every file that is new or changed.
    pub fn scan(&mut self) -> CniView {
        let listing = match fs::read_dir(&self.dir) {
            Ok(listing) => listing,
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    self.seen.clear();
                    return CniView::default();
                }
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(dir = %self.dir.display(), %error, "CNI results can't be listed");
                }
                return self.view();
            }
        };
        self.failing = false;
        let mut before = std::mem::take(&mut self.seen);
        for entry in listing.flatten() {
            let name = entry.file_name();
            let old = before.remove(&name);
            if let Some(seen) = look(&entry.path(), old) {
                self.seen.insert(name, seen);
            }
        }
        self.view()
    }

    fn view(&self) -> CniView {
        CniView {
            attachments: Some(self.seen.values().filter_map(|s| s.attachment.clone()).collect()),
            unreadable: self.seen.values().filter(|s| !s.readable).count(),
        }
    }
}

/// None where the file is gone or is none.
fn look(path: &Path, old: Option<Seen>) -> Option<Seen> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let stamp = Stamp { inode: meta.ino(), len: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) };
    if let Some(old) = old.as_ref().filter(|o| o.readable && o.stamp == stamp) {
        return Some(Seen { attachment: old.attachment.clone(), ..*old });
    }
    let was_readable = old.as_ref().is_none_or(|o| o.readable);
    let kept = old.and_then(|o| o.attachment);
    let written = meta.modified().unwrap_or(std::time::SystemTime::UNIX_EPOCH);
    let content = if meta.len() > MAX_FILE {
        Err(format!("{} bytes are more than {MAX_FILE}", meta.len()))
    } else {
        fs::read(path)
            .map_err(|e| e.to_string())
            .and_then(|content| cni::parse(&content, written).map_err(|e| e.to_string()))
    };
    match content {
        Ok(attachment) => Some(Seen { stamp, readable: true, attachment }),
        Err(error) => {
            if was_readable {
                tracing::debug!(file = %path.display(), error, "CNI result not readable (yet)");
            }
            Some(Seen { stamp, readable: false, attachment: kept })
        }
    }
}

/// Keeps `view` current until nobody listens any more.
pub async fn follow(dir: PathBuf, view: watch::Sender<CniView>) {
    let mut scanner = Scanner::new(dir.clone());
    let mut events: Option<EventStream<[u8; 4096]>> = None;
    let mut pause = POLL;
    // The first look is told even where it finds no folder: who waits for it must go on.
    let mut first = true;
    while !view.is_closed() {
        if events.is_none() {
            events = subscribe(&dir);
        }
        let scan = tokio::task::spawn_blocking(move || {
            let seen = scanner.scan();
            (scanner, seen)
        });
        let Ok((back, seen)) = scan.await else {
            tracing::error!("reading the CNI results failed; they are not followed any more");
            return;
        };
        scanner = back;
        pause = match seen.unreadable {
            0 => POLL,
            _ if pause == POLL => RETRY,
            _ => (pause * 2).min(POLL),
        };
        view.send_if_modified(|current| {
            let changed = first || *current != seen;
            *current = seen;
            changed
        });
        first = false;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = view.closed() => {}
            alive = changed(&mut events) => {
                if !alive {
                    events = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

/// Waits for events and gathers those that follow at once; false when the watch is gone.
async fn changed(events: &mut Option<EventStream<[u8; 4096]>>) -> bool {
    let Some(stream) = events else { return std::future::pending().await };
    let mut alive = matches!(stream.next().await, Some(Ok(_)));
    tokio::time::sleep(GATHER).await;
    while let Some(event) = futures::FutureExt::now_or_never(stream.next()) {
        match event {
            Some(Ok(event)) => alive &= !event.mask.contains(inotify::EventMask::IGNORED),
            _ => return false,
        }
    }
    alive
}

fn subscribe(dir: &Path) -> Option<EventStream<[u8; 4096]>> {
    let mask = WatchMask::CLOSE_WRITE
        | WatchMask::MOVED_TO
        | WatchMask::MOVED_FROM
        | WatchMask::DELETE
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF;
    let subscribed = Inotify::init().and_then(|inotify| {
        inotify.watches().add(dir, mask)?;
        inotify.into_event_stream([0; 4096])
    });
    match subscribed {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(dir = %dir.display(), %error, "no inotify on the CNI results; polling");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = include_str!("testdata/cbr0-flannel-eth0.json");

    /// A folder that is removed with the test.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("slv-cni-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        fn write(&self, name: &str, content: &str) {
            fs::write(self.0.join(name), content).unwrap();
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn bad_files_do_not_hide_good_ones_and_heal() {
        let dir = Dir::new("heal");
        dir.write("good", SOUND);
        dir.write("empty", "");
        dir.write("half", &SOUND[..SOUND.len() / 2]);
        fs::create_dir(dir.0.join("folder")).unwrap();
        let mut scanner = Scanner::new(dir.0.clone());
        let view = scanner.scan();
        assert_eq!((view.attachments.as_ref().unwrap().len(), view.unreadable), (1, 2));
        dir.write("half", &SOUND.replace("shop", "bank"));
        fs::remove_file(dir.0.join("empty")).unwrap();
        let view = scanner.scan();
        let pods: Vec<String> = view.attachments.unwrap().iter().map(|a| a.pod.to_string()).collect();
        assert_eq!(pods, ["shop/web-7d4b9c6f5-x2x9k", "bank/web-7d4b9c6f5-x2x9k"]);
        assert_eq!(view.unreadable, 0);
    }

    #[test]
    fn a_file_that_is_being_rewritten_keeps_what_it_said() {
        let dir = Dir::new("rewrite");
        dir.write("a", SOUND);
        let mut scanner = Scanner::new(dir.0.clone());
        let before = scanner.scan();
        dir.write("a", &SOUND[..10]);
        let during = scanner.scan();
        assert_eq!((during.attachments, during.unreadable), (before.attachments, 1));
        fs::remove_file(dir.0.join("a")).unwrap();
        assert_eq!(scanner.scan().attachments, Some(vec![]));
    }

    #[test]
    fn no_folder_is_not_an_empty_folder() {
        let dir = Dir::new("missing");
        assert_eq!(Scanner::new(dir.0.join("results")).scan().attachments, None);
        assert_eq!(Scanner::new(dir.0.clone()).scan().attachments, Some(vec![]));
    }

    #[tokio::test]
    async fn changes_are_seen_also_in_a_folder_that_appears_later() {
        let dir = Dir::new("follow");
        let results = dir.0.join("results");
        let (sender, mut view) = watch::channel(CniView::default());
        let task = tokio::spawn(follow(results.clone(), sender));
        fs::create_dir(&results).unwrap();
        fs::write(results.join("a"), SOUND).unwrap();
        let pods = |v: &CniView| v.attachments.as_ref().map(Vec::len);
        view.wait_for(|v| pods(v) == Some(1)).await.unwrap();
        fs::write(results.join("b"), SOUND).unwrap();
        view.wait_for(|v| pods(v) == Some(2)).await.unwrap();
        fs::remove_file(results.join("a")).unwrap();
        view.wait_for(|v| pods(v) == Some(1)).await.unwrap();
        drop(view);
        task.await.unwrap();
    }
}
