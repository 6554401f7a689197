//! What a machine's process 1 is asked through its socket: one request and one reply, a line of JSON each.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    /// Starts a component under a name that is not running.
    Start(Component),
    /// Starts a component that has ended as it was started before.
    StartAgain { name: String },
    /// Ends a component: with SIGTERM, then SIGKILL after `grace` seconds (0: at once).
    Stop { name: String, grace: u64 },
    /// Asks how the components are.
    List,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Done,
    List(Vec<ComponentState>),
    Refused(String),
}

/// How a component is started; its output goes to the end of a log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) log: PathBuf,
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentState {
    /// Its name, as in `selvage-bed restart`.
    pub name: String,
    /// How it ended; nothing while it runs.
    pub ended: Option<String>,
}
