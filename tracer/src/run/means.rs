//! Which programs a run needs: those at functions, or with `--light` those at page faults.
//!
//! Takes what was asked for, hands on loaded programs, or why the kernel refuses them.

use std::num::NonZeroU32;

use anyhow::Context as _;
use tracer_common::kind::Kind;

use crate::{
    error::Failure,
    kernel::{self, Backend, Failed, Loaded, Means, Needs, Programs},
    preflight::Facts,
    settings::{FdBackend, Settings},
    target::Pid,
};

/// Which programs look at memory.
pub(super) fn of(settings: &Settings) -> Means {
    if settings.light {
        Means::Touches
    } else if settings.kinds.iter().any(|kind| Kind::PROBED.contains(kind)) {
        Means::Probes
    } else {
        Means::Neither
    }
}

/// Loads the programs. `pages` is the room for unwind tables.
pub(super) fn load(settings: &Settings, pages: u32, facts: &Facts) -> anyhow::Result<Loaded> {
    let means = of(settings);
    let needs = Needs {
        log: log::max_level(),
        unwind_pages: pages,
        children: settings.children,
        budget: settings.max_overhead.is_some(),
        means,
        objects: settings.traces_objects(),
        descriptors: settings.traces_descriptors(),
        backend: match settings.trial.fd_backend {
            FdBackend::Auto => None,
            FdBackend::Kprobe => Some(Backend::Kprobe),
            FdBackend::Tracepoint => Some(Backend::Tracepoint),
        },
    };
    kernel::load(needs).map_err(|failed| explain(failed, facts))
}

/// Watches the page faults of a target.
pub(super) fn watch(programs: &mut Programs, pid: Pid) -> anyhow::Result<()> {
    let Some(number) = NonZeroU32::new(pid.0) else { return Ok(()) };
    programs
        .watch_touches(number)
        .with_context(|| format!("could not watch the page faults of process {pid}"))
}

/// A failure to load, with the help that goes with it.
fn explain(failed: Failed, facts: &Facts) -> anyhow::Error {
    match failed {
        Failed::Program { program, verifier, source } => {
            facts.blame(&program, &verifier, source).into()
        }
        Failed::Map { map, source } => Failure::MapMemory { map, source }.into(),
        other => other.into(),
    }
}
