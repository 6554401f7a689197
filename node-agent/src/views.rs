//! Views: the latest value of something, told on change.

use tokio::sync::watch;

/// Replaces the value, and wakes readers only where it differs.
pub(crate) fn replace<T: PartialEq>(view: &watch::Sender<T>, value: T) {
    view.send_if_modified(|current| {
        let changed = *current != value;
        *current = value;
        changed
    });
}
