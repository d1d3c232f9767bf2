//! The kernel's figures for the targets: resident memory, limits, and in light mode memory and descriptors by type.
//!
//! A part of the collector: takes the targets that run, passes on figures from `/proc` for the snapshot.

use std::{collections::BTreeMap, io, sync::Arc};

use super::cycle::Drains;
use crate::{
    kernel::Drained,
    snapshot::{LimitReadings, TargetUsage},
    source::RecordSource,
    tape::Timer,
    target::{Pid, limits::Wanted, usage},
};

/// The figures at the start.
pub(super) struct FirstUsage {
    figures: Arc<(u64, BTreeMap<Pid, usage::ProcessUsage>)>,
    frames_are_shown: bool,
}

impl FirstUsage {
    /// Reads the figures of these targets.
    pub(super) fn read(source: &mut RecordSource, targets: &[Pid]) -> Self {
        let figures = targets.iter().filter_map(|pid| Some((*pid, source.usage(*pid)?))).collect();
        let frames_are_shown = source.frames_are_shown();
        Self { figures: Arc::new((source.now_ns(), figures)), frames_are_shown }
    }

    /// Memory and descriptors of the targets that run, beside those at the start. A target with very many descriptors
    /// takes a while: meanwhile the young generation is drained into `drained`.
    pub(super) fn compare(
        &self,
        source: &mut RecordSource,
        drained: &mut Vec<Drained>,
        running: &[Pid],
    ) -> io::Result<TargetUsage> {
        let Self { figures, frames_are_shown } = self;
        let (start, frames_are_shown) = (Arc::clone(figures), *frames_are_shown);
        let (mut now, mut drains) = (BTreeMap::new(), Drains::new());
        for pid in running {
            if let Some(usage) = source.usage(*pid) {
                now.insert(*pid, usage);
            }
            drains.keep_up(source, drained);
        }
        drains.result().map(|()| TargetUsage { start, now, frames_are_shown })
    }
}

/// Resident memory of the targets that run, bytes.
pub(super) fn resident(source: &mut RecordSource, running: &[Pid]) -> BTreeMap<Pid, u64> {
    running.iter().filter_map(|pid| Some((*pid, source.rss_bytes(*pid)?))).collect()
}

/// Memory and limits of the targets that run; `None` while the last reading was a short while ago, unless fresh ones are
/// wanted. Many targets take a while: meanwhile the young generation is drained into `drained`.
pub(super) fn limits(
    source: &mut RecordSource,
    drained: &mut Vec<Drained>,
    running: &[Pid],
    wanted: Wanted,
) -> io::Result<Option<LimitReadings>> {
    if running.is_empty() || !source.limits_are_due(wanted.fresh) {
        return Ok(None);
    }
    source.begin_scan(Timer::Limits);
    let (mut processes, mut drains) = (BTreeMap::new(), Drains::new());
    let mut zombies = BTreeMap::new();
    for pid in running {
        if let Some(reading) = source.limits(*pid, wanted) {
            processes.insert(*pid, reading);
        }
        zombies.insert(*pid, source.zombies(*pid));
        drains.keep_up(source, drained);
    }
    let shared = source.shared_limits(running);
    source.end_scan(Timer::Limits);
    drains.result().map(|()| Some(LimitReadings { processes, zombies, shared }))
}
