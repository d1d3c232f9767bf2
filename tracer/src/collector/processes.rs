//! Tracked processes: their code ranges, unwind tables and allocators, and what the collector does when one forks, calls
//! exec, or ends.
//!
//! Takes memory maps, hands the BPF programs code ranges with their unwind tables. A part of the collector: the one
//! that follows `/proc`.

use std::{io, sync::Arc, time::Instant};

use tracer_common::state::Process;

use super::Collector;
use crate::{
    ledger::events::Event,
    options::DisabledCache,
    snapshot::ProcessEvent,
    target::{
        Pid, identify,
        mappings::{self, FileId, Mappings},
        watch::Watch,
    },
};

/// Minimum time between scans of memory maps, in multiples of a scan's duration: they take at most 2 percent of the
/// time.
const SCAN_SHARE: u32 = 50;

/// A target process that the collector tracks.
pub struct TrackedProcess {
    /// Process id.
    pub pid: Pid,
    /// Reports its end.
    pub watch: Watch,
    /// The files that contain its allocator.
    pub allocators: Vec<FileId>,
    /// Its memory map at the last scan.
    pub mappings: Arc<Mappings>,
}

impl Collector {
    /// Passes the target's code ranges and unwind tables to the BPF programs.
    pub(super) fn write_code_ranges(&mut self, target: &TrackedProcess) -> io::Result<()> {
        let is_allocator = |file| target.allocators.contains(&file);
        let ranges = self.library.ranges(target.pid, &target.mappings, is_allocator);
        let Some(next) = self.generations.next(target.pid) else {
            return Err(io::Error::other("too many targets"));
        };
        if next.wrapped {
            self.tables.forget()?;
        }
        let mut process = Process::new(next.number, next.count, &ranges);
        process.depth = self.options.test_options.frames;
        match self.options.test_options.forget {
            None => process.walks = 1,
            Some(DisabledCache::Walks) => {}
            Some(DisabledCache::Addresses) => process.generation = 0,
        }
        process.trampoline = target
            .mappings
            .iter()
            .find(|mapping| mapping.special.as_deref() == Some("[uprobes]"))
            .map_or(0, |mapping| mapping.start);
        self.tables.write_code_ranges(target.pid.0, &process)?;
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

    /// Passes newly built unwind tables to the BPF programs.
    pub(super) fn refresh_code_ranges(&mut self) {
        let targets = std::mem::take(&mut self.targets);
        for target in &targets {
            if !self.ended.contains(&target.pid) {
                self.readmit(target);
            }
        }
        self.targets = targets;
        self.library.log_if_complete();
    }

    fn readmit(&mut self, target: &TrackedProcess) {
        if let Err(error) = self.write_code_ranges(target) {
            log::warn!("could not update code ranges of process {}: {error}", target.pid);
        }
    }

    /// Sets a target's allocators, before their probes are attached.
    pub(super) fn learn_allocators(&mut self, pid: Pid, files: Vec<FileId>) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.pid == pid) {
            target.allocators = files;
            // Forces a refresh.
            target.mappings = Arc::default();
            self.refresh_targets();
        }
    }

    /// Detects targets that have ended, and libraries that were mapped or unmapped.
    pub(super) fn refresh_targets(&mut self) {
        let begun = Instant::now();
        let mut targets = std::mem::take(&mut self.targets);
        let mut any_changed = false;
        for target in &mut targets {
            if self.ended.contains(&target.pid) {
                continue;
            }
            if target.watch.ended() {
                self.target_ended(target.pid);
                continue;
            }
            // The target may end between this check and the read: the next scan finds out.
            let Ok(mappings) = mappings::read(target.pid) else { continue };
            if mappings.iter().next().is_none() || mappings.same_code(&target.mappings) {
                continue;
            }
            any_changed = true;
            target.mappings = Arc::new(mappings);
            self.library.learn(target.pid, &target.mappings);
            self.readmit(target);
            self.changed.push((target.pid, Arc::clone(&target.mappings)));
        }
        if any_changed {
            let mapped: Vec<&Mappings> = targets.iter().map(|target| &*target.mappings).collect();
            self.library.forget_unmapped(&mapped);
        }
        targets.retain(|target| !self.ended.contains(&target.pid));
        self.targets = targets;
        // A memory map of many thousand lines takes a while to read.
        self.next_scan = Instant::now() + begun.elapsed() * SCAN_SHARE;
    }
}

impl Collector {
    /// Applies the forks and execs of the cycle that ends.
    pub(super) fn apply_process_events(&mut self, events: &[Event]) {
        if let Some(fds) = &mut self.fds {
            fds.close_at_exec_after_drain(&mut self.ledger);
        }
        events.iter().for_each(|event| self.apply_process_event(event));
    }

    /// Applies one fork or exec.
    fn apply_process_event(&mut self, event: &Event) {
        let (pid, parent, at_ns, executed) = match *event {
            Event::Forked { parent, child, files: false, time_ns, .. } => {
                (child, Some(parent), time_ns, false)
            }
            Event::Executed { pid, parent, time_ns, .. } => (pid, parent, time_ns, true),
            _ => return,
        };
        // The process may have ended by now; its identity is then its parent's.
        let identity = identify(pid).ok();
        self.process_events.push(ProcessEvent { pid, parent, identity, at_ns, executed });
        if let Some(parent) = parent {
            self.ended.retain(|one| *one != pid);
            self.targets.retain(|one| one.pid != pid);
            let from = self.targets.iter().find(|one| one.pid == parent);
            let (allocators, mappings) = from
                .map(|from| (from.allocators.clone(), Arc::clone(&from.mappings)))
                .unwrap_or_default();
            match Watch::new(pid) {
                Ok(watch) => {
                    self.targets.push(TrackedProcess {
                        pid,
                        watch,
                        allocators,
                        mappings: Arc::clone(&mappings),
                    });
                }
                Err(_) => self.target_ended(pid),
            }
            self.changed.push((pid, mappings));
        }
        if executed {
            if let Event::Executed { position, .. } = *event
                && let Some(fds) = &mut self.fds
            {
                fds.close_at_exec(&mut self.ledger, pid, position);
            }
            self.executed.push(pid);
            self.refresh_targets();
        }
    }

    /// Whether a target has ended that is not in the list of ended ones.
    pub(super) fn has_newly_ended(&self) -> bool {
        self.targets.iter().any(|one| !self.ended.contains(&one.pid) && one.watch.ended())
    }

    /// A target has ended.
    pub(super) fn target_ended(&mut self, pid: Pid) {
        self.ended.push(pid);
        if let Some(fds) = &self.fds {
            fds.end_connections(&mut self.ledger, pid, &self.ended);
        }
        self.generations.end(pid);
        self.tables.remove_target(pid.0);
    }
}
