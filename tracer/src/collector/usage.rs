//! The kernel's figures for the targets: resident memory, and in light mode memory and descriptors by type.
//!
//! A part of the collector: takes the targets that run, passes on figures from `/proc` for the snapshot.

use std::{collections::BTreeMap, sync::Arc};

use super::{Collector, cycle::Drains};
use crate::{
    snapshot::TargetUsage,
    source::RecordSource,
    target::{Pid, usage},
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
}

impl Collector {
    /// The targets that have not ended.
    pub(super) fn running(&self) -> impl Iterator<Item = Pid> {
        self.targets.iter().map(|one| one.pid).filter(|pid| !self.ended.contains(pid))
    }

    /// Resident memory of the targets, bytes.
    pub(super) fn resident(&mut self) -> BTreeMap<Pid, u64> {
        let running: Vec<Pid> = self.running().collect();
        let source = &mut self.source;
        running.into_iter().filter_map(|pid| Some((pid, source.rss_bytes(pid)?))).collect()
    }

    /// In light mode: memory and descriptors of the targets. A target with very many descriptors takes a while.
    pub(super) fn usage(&mut self) -> std::io::Result<Option<TargetUsage>> {
        let Some(FirstUsage { figures, frames_are_shown }) = &self.first_usage else {
            return Ok(None);
        };
        let (start, frames_are_shown) = (Arc::clone(figures), *frames_are_shown);
        let (mut now, mut drains) = (BTreeMap::new(), Drains::new());
        for pid in self.running().collect::<Vec<_>>() {
            if let Some(usage) = self.source.usage(pid) {
                now.insert(pid, usage);
            }
            drains.keep_up(&mut self.source, &mut self.drained_batch);
        }
        drains.result().map(|()| Some(TargetUsage { start, now, frames_are_shown }))
    }
}
