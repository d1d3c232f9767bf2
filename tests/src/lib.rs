//! Programs that leak on purpose, and helpers that the end-to-end tests share.
//!
//! A [`Victim`] prints its own truth, a [`Trace`] is leaktrace attached to it, a [`Report`] is leaktrace's output, and
//! [`Truth`] compares the two for equality. No test relies on sleeping: every wait is for a condition and has a time
//! limit.

pub mod allocators;
pub mod bpftrace;
pub mod census;
pub mod child;
pub mod churn;
pub mod compare;
pub mod compile;
pub mod described;
pub mod descriptors;
pub mod exam;
pub mod exam_witness;
pub mod family;
mod fetched;
pub mod gdb;
pub mod healthy;
pub mod http;
pub mod invalid_releases;
pub mod leaks;
pub mod load;
pub mod mimalloc;
pub mod network;
pub mod packages;
pub mod page;
pub mod programs;
pub mod python;
pub mod real;
pub mod report;
pub mod service;
pub mod tapes;
pub mod terminal;
pub mod trace;
pub mod trees;
pub mod uwebsockets;
pub mod victim;
pub mod vm;

pub use compare::Truth;
pub use load::Load;
pub use report::Report;
pub use service::Service;
pub use terminal::Terminal;
pub use trace::Trace;
pub use victim::Victim;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Where build products are: `CARGO_TARGET_DIR`, else `target` in the workspace.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => workspace().join(folder),
        None => workspace().join("target"),
    }
}

/// A path for a file of this test only; removes a file that an earlier run left.
pub fn scratch(name: &str) -> Result<PathBuf> {
    let folder = target_dir().join("e2e");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{}-{name}", std::process::id()));
    if path.exists() {
        std::fs::remove_file(&path)?;
    }
    Ok(path)
}

/// Processes that run the leaktrace under test.
pub fn running_leaktraces() -> Result<Vec<u32>> {
    let program = std::fs::canonicalize(trace::leaktrace()?)?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended has no executable any more.
        if std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Waits until `condition` holds, or fails with the name of the condition.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > limit {
            bail!("not met within {limit:?}: {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
