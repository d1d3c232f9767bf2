//! Tracked processes: their code ranges, unwind tables and allocators, and what the collector does when one forks, calls
//! exec, or ends.
//!
//! Takes memory maps, hands the BPF programs code ranges with their unwind tables. A part of the collector: the one
//! that follows `/proc`.

use std::{io, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Collector;
use crate::{
    ledger::events::Event,
    options::TestOptions,
    snapshot::ProcessEvent,
    source::StackOptions,
    tape::Timer,
    target::{
        Pid,
        mappings::{FileId, Mappings},
    },
};

/// A target process that the collector tracks.
#[derive(Clone, Serialize, Deserialize)]
pub struct TrackedProcess {
    /// Process id.
    pub pid: Pid,
    /// The files that contain its allocator.
    pub allocators: Vec<FileId>,
    /// Its memory map at the last scan.
    pub mappings: Arc<Mappings>,
}

impl Collector {
    /// Passes the target's code ranges and unwind tables to the BPF programs.
    pub(super) fn write_code_ranges(&mut self, target: &TrackedProcess) -> io::Result<()> {
        let is_allocator = |file| target.allocators.contains(&file);
        let TestOptions { frames, forget, .. } = self.options.test_options;
        let options = StackOptions { frames, forget };
        let refused =
            self.source.write_code_ranges(target.pid, &target.mappings, options, is_allocator);
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
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
        self.source.log_tables();
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
        self.source.begin_scan(Timer::Mappings);
        let mut targets = std::mem::take(&mut self.targets);
        let mut any_changed = false;
        for target in &mut targets {
            if self.ended.contains(&target.pid) {
                continue;
            }
            if self.source.ended(target.pid) {
                self.target_ended(target.pid);
                continue;
            }
            // The target may end between this check and the read: the next scan finds out.
            let changed = self.source.changed_mappings(target.pid, &target.mappings);
            let Some(mappings) = changed else { continue };
            any_changed = true;
            target.mappings = Arc::new(mappings);
            self.source.learn_code(target.pid, &target.mappings);
            self.readmit(target);
            self.changed.push((target.pid, Arc::clone(&target.mappings)));
        }
        if any_changed {
            let mapped: Vec<&Mappings> = targets.iter().map(|target| &*target.mappings).collect();
            self.source.forget_unmapped(&mapped);
        }
        targets.retain(|target| !self.ended.contains(&target.pid));
        self.targets = targets;
        // A memory map of many thousand lines takes a while to read.
        self.source.end_scan(Timer::Mappings);
    }
}

impl Collector {
    /// Applies the forks and execs of the cycle that ends.
    pub(super) fn apply_process_events(&mut self, events: &[Event]) {
        if let Some(fds) = &mut self.fds {
            fds.close_at_exec_after_drain(&mut self.source, &mut self.ledger);
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
        let identity = self.source.identity(pid);
        self.process_events.push(ProcessEvent { pid, parent, identity, at_ns, executed });
        if let Some(parent) = parent {
            self.ended.retain(|one| *one != pid);
            self.targets.retain(|one| one.pid != pid);
            let from = self.targets.iter().find(|one| one.pid == parent);
            let (allocators, mappings) = from
                .map(|from| (from.allocators.clone(), Arc::clone(&from.mappings)))
                .unwrap_or_default();
            if self.source.watch(pid) {
                let mappings = Arc::clone(&mappings);
                self.targets.push(TrackedProcess { pid, allocators, mappings });
            } else {
                self.target_ended(pid);
            }
            self.changed.push((pid, mappings));
        }
        if executed {
            if let Event::Executed { position, .. } = *event
                && let Some(fds) = &mut self.fds
            {
                fds.close_at_exec(&mut self.source, &mut self.ledger, pid, position);
            }
            self.executed.push(pid);
            self.refresh_targets();
        }
    }

    /// A target has ended.
    pub(super) fn target_ended(&mut self, pid: Pid) {
        self.ended.push(pid);
        if let Some(fds) = &self.fds {
            let now_ns = self.source.now_ns();
            fds.end_connections(&mut self.ledger, pid, &self.ended, now_ns);
        }
        self.source.remove_target(pid);
    }
}
