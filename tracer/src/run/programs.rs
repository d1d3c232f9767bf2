//! Loads the BPF programs of a session: those at functions, or with `--light` those at page faults.
//!
//! Takes the options and the targets, passes on loaded programs, or why the kernel refuses them.

use std::num::NonZeroU32;

use anyhow::Context as _;

use crate::{
    error::Failure,
    kernel::{self, Capacity, KernelError, Loaded, Programs},
    options::TraceOptions,
    preflight::Facts,
    target::{Identity, Pid},
    unwind::expected_pages,
};

/// Loads the programs, with maps that are large enough for these targets.
pub(super) fn load(
    options: &TraceOptions,
    targets: &[Identity],
    facts: &Facts,
) -> anyhow::Result<Loaded> {
    let all = |folder| {
        let entries: usize = targets.iter().map(|target| entries(target.pid, folder)).sum();
        u32::try_from(entries).unwrap_or(u32::MAX)
    };
    let capacity = Capacity {
        unwind_pages: expected_pages(targets.iter().map(|target| target.pid)),
        targets: u32::try_from(targets.len()).unwrap_or(u32::MAX),
        threads: all("task"),
        descriptors: all("fd"),
    };
    kernel::load(options, &capacity).map_err(|failed| explain(failed, facts))
}

/// How many entries a folder of a process has, such as its threads; 0 for one that has ended.
fn entries(pid: Pid, folder: &str) -> usize {
    std::fs::read_dir(pid.proc_path(folder)).map_or(0, Iterator::count)
}

/// Watches the page faults of a target.
pub(super) fn watch(programs: &mut Programs, pid: Pid) -> anyhow::Result<()> {
    let Some(number) = NonZeroU32::new(pid.0) else { return Ok(()) };
    kernel::attach_page_faults(programs, number)
        .with_context(|| format!("could not watch the page faults of process {pid}"))
}

/// A failure to load, with its help.
fn explain(failed: KernelError, facts: &Facts) -> anyhow::Error {
    match failed {
        KernelError::Program { program, verifier, source } => {
            facts.blame(&program, &verifier, source).into()
        }
        KernelError::Map { map, source } => Failure::MapMemory { map, source }.into(),
        other => other.into(),
    }
}
