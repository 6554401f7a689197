//! One line for each step, with the seconds since the start, on standard error.

use std::time::Instant;

/// A clock that prints.
#[derive(Debug, Clone, Copy)]
pub struct Progress(Instant);

impl Default for Progress {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Progress {
    /// Says what has been reached or is being done.
    pub fn step(&self, what: impl std::fmt::Display) {
        eprintln!("[{:6.1}s] {what}", self.0.elapsed().as_secs_f64());
    }
}
