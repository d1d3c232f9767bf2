//! Starts the threads of a session, each with a name.

use std::thread::{self, JoinHandle};

use anyhow::Context as _;

/// Starts a thread with a name.
pub(super) fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .with_context(|| format!("could not start the {name}'s thread"))
}
