//! Which programs a run needs: those at functions, or with `--light` those at page faults.
//!
//! Takes what was asked for, hands on loaded programs, or why the kernel refuses them.

use std::num::NonZeroU32;

use anyhow::Context as _;

use crate::{
    error::Failure,
    kernel::{self, Failed, Loaded, Means, Needs, Programs},
    preflight::Facts,
    settings::Settings,
    target::Pid,
};

/// Loads the programs. `pages` is the room for unwind tables.
pub(super) fn load(settings: &Settings, pages: u32, facts: &Facts) -> anyhow::Result<Loaded> {
    let means = if settings.light { Means::Touches } else { Means::Probes };
    let needs = Needs {
        log: log::max_level(),
        unwind_pages: pages,
        children: settings.children,
        budget: settings.max_overhead.is_some(),
        means,
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
