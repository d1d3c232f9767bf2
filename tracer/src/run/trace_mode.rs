//! Chooses and loads the BPF programs of a session: those at functions, or with `--light` those at page faults.
//!
//! Takes the user's settings, hands on loaded programs, or why the kernel refuses them.

use std::num::NonZeroU32;

use anyhow::Context as _;
use tracer_common::kind::ResourceKind;

use crate::{
    error::Failure,
    kernel::{self, Failed, LoadOptions, Loaded, Objects, Programs, TraceMode},
    preflight::Facts,
    settings::Settings,
    target::{Identity, Pid},
    unwind::expected_pages,
};

/// The programs that trace memory.
pub(super) fn of(settings: &Settings) -> TraceMode {
    if settings.light {
        TraceMode::Touches
    } else if settings.kinds.iter().any(|kind| ResourceKind::PROBED.contains(kind)) {
        TraceMode::Probes
    } else {
        TraceMode::Neither
    }
}

/// Loads the programs, with maps that are large enough for these targets.
pub(super) fn load(
    settings: &Settings,
    targets: &[Identity],
    facts: &Facts,
) -> anyhow::Result<Loaded> {
    let mode = of(settings);
    let threads: usize = targets.iter().map(|target| thread_count(target.pid)).sum();
    let options = LoadOptions {
        log: log::max_level(),
        unwind_pages: expected_pages(targets.iter().map(|target| target.pid)),
        targets: u32::try_from(targets.len()).unwrap_or(u32::MAX),
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        children: settings.children,
        budget: settings.max_overhead.is_some(),
        means: mode,
        objects: match settings.traces_objects() {
            false => Objects::None,
            true if settings.objects_are_named => Objects::Named,
            true => Objects::ByDefault,
        },
        descriptors: settings.traces_descriptors(),
        backend: settings.test_options.fd_backend,
    };
    kernel::load(options).map_err(|failed| explain(failed, facts))
}

/// How many threads a process has; 0 for one that has ended.
fn thread_count(pid: Pid) -> usize {
    std::fs::read_dir(pid.proc_path("task")).map_or(0, Iterator::count)
}

/// Watches the page faults of a target.
pub(super) fn watch(programs: &mut Programs, pid: Pid) -> anyhow::Result<()> {
    let Some(number) = NonZeroU32::new(pid.0) else { return Ok(()) };
    programs
        .attach_page_faults(number)
        .with_context(|| format!("could not watch the page faults of process {pid}"))
}

/// A failure to load, with its help.
fn explain(failed: Failed, facts: &Facts) -> anyhow::Error {
    match failed {
        Failed::Program { program, verifier, source } => {
            facts.blame(&program, &verifier, source).into()
        }
        Failed::Map { map, source } => Failure::MapMemory { map, source }.into(),
        other => other.into(),
    }
}
