//! What the collector does when a target forks, becomes another program, or ends.

use std::sync::Arc;

use super::{
    collector::{Collector, TrackedProcess},
    decode::Event,
    snapshot::ProcessEvent,
};
use crate::target::{Pid, identify, watch::Watch};

impl Collector {
    /// Targets have forked, or become other programs, in the cycle that ends.
    pub(super) fn all_related(&mut self, family: &[Event]) {
        self.close_late_at_exec();
        family.iter().for_each(|event| self.related(event));
    }

    /// A target has forked, or become another program.
    fn related(&mut self, event: &Event) {
        let (pid, parent, at_ns, executed) = match *event {
            Event::Forked { parent, child, files: false, time_ns, .. } => {
                (child, Some(parent), time_ns, false)
            }
            Event::Executed { pid, parent, time_ns, .. } => (pid, parent, time_ns, true),
            _ => return,
        };
        // It may be gone by now: what it was is then what its parent is.
        let identity = identify(pid).ok();
        self.kin.push(ProcessEvent { pid, parent, identity, at_ns, executed });
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
                Err(_) => self.gone(pid),
            }
            self.changed.push((pid, mappings));
        }
        if executed {
            if let Event::Executed { position, .. } = *event {
                self.close_at_exec(pid, position);
            }
            self.executed.push(pid);
            self.look_at_targets();
        }
    }

    /// Whether a target has ended that was not known to have.
    pub(super) fn has_newly_ended(&self) -> bool {
        self.targets.iter().any(|one| !self.ended.contains(&one.pid) && one.watch.ended())
    }

    /// A target has ended.
    pub(super) fn gone(&mut self, pid: Pid) {
        self.ended.push(pid);
        self.end_connections(pid);
        self.generations.end(pid);
        self.tables.dismiss(pid.0);
    }
}
