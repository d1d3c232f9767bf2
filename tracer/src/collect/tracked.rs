//! What the collector knows of targets' memory, and tells the programs.
//!
//! Takes what is mapped, hands on code ranges with their unwind tables. A part of the collector: the one
//! that follows `/proc`.

use std::{io, sync::Arc, time::Instant};

use tracer_common::state::Process;

use super::{
    collector::{Collector, TrackedProcess},
    options::Forget,
};
use crate::target::{
    Pid,
    mappings::{self, FileId, Mappings},
};

/// A look at what targets have mapped takes at most this part of the time.
const LOOK_SHARE: u32 = 50;

impl Collector {
    /// Tells the programs where the target's code is, and its unwind tables.
    pub(super) fn admit(&mut self, target: &TrackedProcess) -> io::Result<()> {
        let is_allocator = |file| target.allocators.contains(&file);
        let ranges = self.library.ranges(target.pid, &target.mappings, is_allocator);
        let Some(next) = self.generations.next(target.pid) else {
            return Err(io::Error::other("too many targets"));
        };
        if next.again {
            self.tables.forget()?;
        }
        let mut process = Process::new(next.number, next.count, &ranges);
        process.depth = self.manner.frames;
        match self.manner.forget {
            None => process.walks = 1,
            Some(Forget::Walks) => {}
            Some(Forget::Addresses) => process.generation = 0,
        }
        process.trampoline = target
            .mappings
            .iter()
            .find(|mapping| mapping.special.as_deref() == Some("[uprobes]"))
            .map_or(0, |mapping| mapping.start);
        self.tables.admit(target.pid.0, &process)?;
        let objects = target.mappings.objects();
        let internal = objects
            .iter()
            .filter(|object| is_allocator(object.file))
            .flat_map(|object| &object.mappings)
            .filter(|mapping| mapping.executable)
            .map(|mapping| (mapping.start, mapping.end))
            .collect();
        self.ledger.set_internal(target.pid, internal);
        Ok(())
    }

    /// Tells the programs of tables that have come since.
    pub(super) fn renew_ranges(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        for target in &targets {
            if !self.ended.contains(&target.pid) {
                self.tell(target);
            }
        }
        self.targets = targets;
        self.library.tell_if_complete();
    }

    fn tell(&mut self, target: &TrackedProcess) {
        if let Err(error) = self.admit(target) {
            log::warn!("could not renew what the programs know of process {}: {error}", target.pid);
        }
    }

    /// Says which objects are a target's allocators, before their probes are on.
    pub(super) fn learn_allocators(&mut self, pid: Pid, files: Vec<FileId>) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.pid == pid) {
            target.allocators = files;
            // Looked at anew, whatever was known.
            target.mappings = Arc::default();
            self.look_at_targets();
        }
    }

    /// Notices ends, and libraries that came or went.
    pub(super) fn look_at_targets(&mut self) {
        let begun = Instant::now();
        let mut targets = std::mem::take(&mut self.targets);
        let mut any = false;
        for target in &mut targets {
            if self.ended.contains(&target.pid) {
                continue;
            }
            if target.watch.ended() {
                self.gone(target.pid);
                continue;
            }
            // It may end between the question and the reading: the next look will tell.
            let Ok(mappings) = mappings::read(target.pid) else { continue };
            if mappings.iter().next().is_none() || mappings.same_code(&target.mappings) {
                continue;
            }
            any = true;
            target.mappings = Arc::new(mappings);
            self.library.learn(target.pid, &target.mappings);
            self.tell(target);
            self.changed.push((target.pid, Arc::clone(&target.mappings)));
        }
        if any {
            let mapped: Vec<&Mappings> = targets.iter().map(|target| &*target.mappings).collect();
            self.library.forget_unmapped(&mapped);
        }
        targets.retain(|target| !self.ended.contains(&target.pid));
        self.targets = targets;
        // A memory map of many thousand lines takes a while to read.
        self.next_look = Instant::now() + begun.elapsed() * LOOK_SHARE;
    }
}
