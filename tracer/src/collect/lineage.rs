//! Process events: what the collector does when a target forks, calls exec, or ends.

use std::sync::Arc;

use super::collector::{Collector, TrackedProcess};
use crate::{
    ledger::events::Event,
    snapshot::ProcessEvent,
    target::{Pid, identify, watch::Watch},
};

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
