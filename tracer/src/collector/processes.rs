//! Tracked processes: their code ranges, unwind tables and allocators, and what the collector does when one forks, calls
//! exec, or ends.
//!
//! Takes events and memory maps, hands the BPF programs code ranges with their unwind tables. A part of the collector:
//! the one that follows `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    ledger::{
        Ledger,
        events::{Block, Event, Handle},
    },
    reconcile::fds::FdReconciliation,
    snapshot::ProcessEvent,
    source::{RecordSource, StackOptions},
    tape::Timer,
    target::{
        Pid,
        code_history::{CodeHistory, Load},
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

/// Cycles after which the end of a process counts whose record was lost: so many bring all that came before it.
const CYCLES_TO_END: u32 = 3;

/// Ended processes that the next snapshot lists: more than reports show. A server may have had thousands since the last one.
const GONE: usize = 200;

/// The target processes.
pub(super) struct Processes {
    targets: Vec<TrackedProcess>,
    options: StackOptions,
    /// Whether children are followed: then a process that ends gives back what it held, while another one lives.
    children: bool,
    /// Targets that have ended, whose figures are final.
    ended: Vec<Pid>,
    /// Those that have ended since the last snapshot, and gave back what they held.
    gone: Vec<Pid>,
    /// Ended, with the number of cycles since: the record of the end may be lost.
    awaited: BTreeMap<Pid, u32>,
    /// Code that was mapped after the attach, of the targets that did so.
    histories: HashMap<Pid, CodeHistory>,
    /// Targets that have mapped code which is in none of their memory maps.
    loading: BTreeSet<Pid>,
    /// Resources whose call site was not known when they arrived, where code has taken the place of other code.
    unassigned: Vec<(Handle, Block)>,
    /// Memory maps that are new since the last snapshot, with code that was unloaded.
    changed: Vec<(Pid, Arc<Mappings>)>,
    /// Forks and execs since the last snapshot.
    events: Vec<ProcessEvent>,
    /// The code that starts threads: file, offset and length.
    pub(super) thread_starts: Vec<(FileId, (u64, u64))>,
    /// Targets that called exec and of which the attacher has not been notified yet.
    executed: Vec<Pid>,
}

impl Processes {
    /// No target yet.
    pub(super) fn new(options: StackOptions, children: bool) -> Self {
        Self {
            targets: Vec::new(),
            options,
            children,
            ended: Vec::new(),
            gone: Vec::new(),
            awaited: BTreeMap::new(),
            histories: HashMap::new(),
            loading: BTreeSet::new(),
            unassigned: Vec::new(),
            changed: Vec::new(),
            events: Vec::new(),
            thread_starts: Vec::new(),
            executed: Vec::new(),
        }
    }

    /// Adds a target at the start, and its future children too if they are followed: then all targets are one service.
    pub(super) fn add(
        &mut self,
        target: TrackedProcess,
        source: &mut RecordSource,
        ledger: &mut Ledger,
    ) -> io::Result<()> {
        write_code_ranges(&target, &target.mappings, self.options, source, ledger)?;
        ledger.set_thread_starts(target.pid, self.thread_starts(&target.mappings));
        source.add_target(target.pid, self.children)?;
        match self.targets.first() {
            Some(first) if self.children => ledger.adopt(first.pid, target.pid),
            _ => ledger.begin(target.pid),
        }
        self.changed.push((target.pid, Arc::clone(&target.mappings)));
        self.targets.push(target);
        Ok(())
    }

    /// The targets that have not ended.
    pub(super) fn running(&self) -> Vec<Pid> {
        self.targets.iter().map(|one| one.pid).collect()
    }

    /// Their memory maps.
    pub(super) fn mappings(&self) -> BTreeMap<Pid, Arc<Mappings>> {
        self.targets.iter().map(|one| (one.pid, Arc::clone(&one.mappings))).collect()
    }

    /// The targets that have ended, and whose figures are final.
    pub(super) fn ended(&self) -> &[Pid] {
        &self.ended
    }

    /// Those that have ended since the last call, and gave back what they held.
    pub(super) fn take_gone(&mut self) -> Vec<Pid> {
        let mut gone = std::mem::take(&mut self.gone);
        gone.retain(|pid| self.targets.iter().all(|target| target.pid != *pid));
        gone
    }

    /// Memory maps that are new since the last call. A process that has given back what it held needs no names.
    pub(super) fn take_changed(&mut self, gone: &[Pid]) -> Vec<(Pid, Arc<Mappings>)> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.retain(|(pid, _)| !gone.contains(pid));
        changed
    }

    /// Keeps only the newest of the processes that have ended since the last snapshot, once there are twice as many.
    fn forget_gone(&mut self) {
        if self.gone.len() <= 2 * GONE {
            return;
        }
        let surplus = self.gone.len() - GONE;
        let mut old: HashSet<Pid> = self.gone.drain(..surplus).collect();
        // Their ids may be others' by now.
        let later = self.gone.iter().copied().chain(self.targets.iter().map(|one| one.pid));
        let later: HashSet<Pid> = later.collect();
        old.retain(|pid| !later.contains(pid));
        self.events.retain(|event| !old.contains(&event.pid));
        self.changed.retain(|(pid, _)| !old.contains(pid));
        self.executed.retain(|pid| !old.contains(pid));
    }

    /// Forks and execs since the last call.
    pub(super) fn take_events(&mut self) -> Vec<ProcessEvent> {
        std::mem::take(&mut self.events)
    }

    /// The targets that have called exec since the last call.
    pub(super) fn take_executed(&mut self) -> Vec<Pid> {
        std::mem::take(&mut self.executed)
    }

    /// Passes newly built unwind tables to the BPF programs.
    pub(super) fn refresh_code_ranges(&self, source: &mut RecordSource, ledger: &mut Ledger) {
        for target in &self.targets {
            readmit(target, &self.returning(target), self.options, source, ledger);
        }
        source.log_tables();
    }

    /// Sets a target's allocators, before their probes are attached.
    pub(super) fn learn_allocators(
        &mut self,
        pid: Pid,
        files: Vec<FileId>,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        fds: Option<&FdReconciliation>,
    ) {
        if let Some(target) = self.targets.iter_mut().find(|target| target.pid == pid) {
            target.allocators = files;
            // Forces a refresh.
            target.mappings = Arc::default();
            self.refresh(source, ledger, fds);
        }
    }

    /// Detects targets that have ended, and libraries that were mapped or unmapped.
    pub(super) fn refresh(
        &mut self,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        fds: Option<&FdReconciliation>,
    ) {
        source.begin_scan(Timer::Mappings);
        let mut targets = std::mem::take(&mut self.targets);
        let (mut any_changed, mut ended) = (false, Vec::new());
        let former: Vec<(Pid, Arc<Mappings>)> =
            targets.iter().map(|target| (target.pid, Arc::clone(&target.mappings))).collect();
        for target in &mut targets {
            if source.ended(target.pid) {
                ended.push(target.pid);
                continue;
            }
            // The target may end between this check and the read: the next scan finds out.
            let changed = source.changed_mappings(target.pid, &target.mappings);
            // Before the map replaces the former one: it has what was mapped until it was read.
            for load in source.code_loads() {
                if let Some((_, mappings)) = former.iter().find(|(pid, _)| *pid == load.pid) {
                    self.add_to_history(&load, mappings);
                }
            }
            let is_loading = self.loading.remove(&target.pid);
            match changed {
                Some(mappings) => target.mappings = Arc::new(mappings),
                None if is_loading => {}
                None => continue,
            }
            any_changed = true;
            let returning = self.returning(target);
            source.learn_code(target.pid, &returning);
            readmit(target, &returning, self.options, source, ledger);
            ledger.set_thread_starts(target.pid, self.thread_starts(&target.mappings));
            let history = self.histories.get(&target.pid);
            let all = history.map(|history| Arc::new(history.with_unloaded(&target.mappings)));
            self.changed.push((target.pid, all.unwrap_or_else(|| Arc::clone(&target.mappings))));
        }
        if any_changed {
            let mapped: Vec<_> = targets.iter().map(|target| self.returning(target)).collect();
            source.forget_unmapped(&mapped.iter().map(|mapped| &**mapped).collect::<Vec<_>>());
        }
        self.targets = targets;
        for pid in ended {
            self.target_ended(pid, source, ledger, fds);
        }
        // A memory map of many thousand lines takes a while to read.
        source.end_scan(Timer::Mappings);
    }

    /// The code that starts threads where these mappings have it, as ranges `[start, end)`.
    fn thread_starts(&self, mappings: &Mappings) -> Vec<(u64, u64)> {
        let mut starts = Vec::new();
        for mapping in mappings.iter().filter(|mapping| mapping.executable) {
            let of_file =
                self.thread_starts.iter().filter(|(file, _)| mapping.file() == Some(*file));
            for (_, (offset, length)) in of_file {
                if let Some(within) = offset.checked_sub(mapping.file_offset)
                    && within < mapping.end - mapping.start
                {
                    let start = mapping.start + within;
                    starts.push((start, start + length));
                }
            }
        }
        starts
    }

    /// The mappings of a target with code that is unloaded and may return.
    fn returning(&self, target: &TrackedProcess) -> Arc<Mappings> {
        match self.histories.get(&target.pid) {
            Some(history) => Arc::new(history.with_returning(&target.mappings)),
            None => Arc::clone(&target.mappings),
        }
    }

    /// Records that a target has mapped code. Returns whether that code is new.
    pub(super) fn loaded(&mut self, load: &Load) -> bool {
        let target = self.targets.iter().find(|target| target.pid == load.pid);
        let Some(mappings) = target.map(|target| Arc::clone(&target.mappings)) else {
            return false;
        };
        self.add_to_history(load, &mappings)
    }

    fn add_to_history(&mut self, load: &Load, current: &Mappings) -> bool {
        let is_new = self.histories.entry(load.pid).or_default().add(load, current);
        if is_new {
            self.loading.insert(load.pid);
        }
        is_new
    }

    /// Gives what was acquired through code that took the place of other code a call site of its own.
    pub(super) fn assign_generation(&mut self, event: &mut Event, ledger: &mut Ledger) {
        let history = |pid| self.histories.get(&pid).filter(|history| history.has_generations());
        match event {
            Event::Site(site) => {
                if let Some(history) = history(site.pid) {
                    site.frames = history.stack(&site.unwound, u64::MAX);
                }
            }
            Event::Acquired { handle, block } => {
                let Some(history) = history(handle.pid) else { return };
                match ledger.unwound(block.site) {
                    Some(unwound) => {
                        let frames = history.stack(unwound, block.time_ns);
                        block.site = ledger.generation(block.site, frames);
                    }
                    // Its record is read later in this cycle.
                    None => self.unassigned.push((*handle, *block)),
                }
            }
            _ => {}
        }
    }

    /// The same for what arrived before its call site.
    pub(super) fn assign_generations(&mut self, ledger: &mut Ledger) {
        for (handle, block) in std::mem::take(&mut self.unassigned) {
            let stack = ledger.unwound(block.site).zip(self.histories.get(&handle.pid));
            let Some((unwound, history)) = stack else { continue };
            let frames = history.stack(unwound, block.time_ns);
            let site = ledger.generation(block.site, frames);
            if site != block.site {
                ledger.apply(Event::Retagged { handle, site, position: block.position });
            }
        }
    }

    /// Applies the forks and execs of the cycle that ends.
    pub(super) fn apply(
        &mut self,
        events: &[Event],
        source: &mut RecordSource,
        ledger: &mut Ledger,
        mut fds: Option<&mut FdReconciliation>,
    ) {
        if let Some(fds) = &mut fds {
            fds.close_at_exec_after_drain(source, ledger);
        }
        self.end_without_record(source, ledger);
        for event in events {
            if let Event::Ended { pid, .. } = *event {
                if self.targets.iter().any(|target| target.pid == pid) {
                    self.target_ended(pid, source, ledger, fds.as_deref());
                }
                // The programs have removed it, and the ledger knows its end.
                self.awaited.remove(&pid);
            } else {
                self.apply_one(event, source, ledger, fds.as_deref_mut());
            }
        }
    }

    /// Ends the processes of which no record says that they have ended.
    fn end_without_record(&mut self, source: &mut RecordSource, ledger: &mut Ledger) {
        self.awaited.retain(|pid, cycles| {
            *cycles += 1;
            if *cycles > CYCLES_TO_END {
                ledger.ended(*pid, u64::MAX);
                source.remove_target(*pid);
            }
            *cycles <= CYCLES_TO_END
        });
    }

    /// Applies one fork or exec.
    fn apply_one(
        &mut self,
        event: &Event,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        mut fds: Option<&mut FdReconciliation>,
    ) {
        let (pid, parent, at_ns, executed) = match *event {
            Event::Forked { parent, child, files: false, time_ns, .. } => {
                (child, Some(parent), time_ns, false)
            }
            Event::Executed { pid, parent, time_ns, .. } => (pid, parent, time_ns, true),
            _ => return,
        };
        // The process may have ended by now; its identity is then its parent's.
        let identity = source.identity(pid);
        self.events.push(ProcessEvent { pid, parent, identity, at_ns, executed });
        if let Some(parent) = parent {
            self.ended.retain(|one| *one != pid);
            self.targets.retain(|one| one.pid != pid);
            self.awaited.remove(&pid);
            let from = self.targets.iter().find(|one| one.pid == parent);
            let (allocators, mappings) = from
                .map(|from| (from.allocators.clone(), Arc::clone(&from.mappings)))
                .unwrap_or_default();
            if let Some(history) = self.histories.get(&parent).cloned() {
                self.histories.insert(pid, history);
            }
            if source.watch(pid) {
                let mappings = Arc::clone(&mappings);
                self.targets.push(TrackedProcess { pid, allocators, mappings });
            } else {
                self.target_ended(pid, source, ledger, fds.as_deref());
            }
            self.changed.push((pid, mappings));
        }
        if executed {
            self.histories.remove(&pid);
            if let Event::Executed { position, .. } = *event
                && let Some(fds) = &mut fds
            {
                fds.close_at_exec(source, ledger, pid, position);
            }
            self.executed.push(pid);
            self.refresh(source, ledger, fds.as_deref());
        }
    }

    /// A target has ended.
    fn target_ended(
        &mut self,
        pid: Pid,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        fds: Option<&FdReconciliation>,
    ) {
        if let Some(fds) = fds {
            let now_ns = source.now_ns();
            let others = self.targets.iter().map(|target| target.pid);
            let others: HashSet<Pid> = others.filter(|other| *other != pid).collect();
            fds.end_connections(ledger, pid, &others, now_ns);
        }
        source.forget_target(pid);
        self.histories.remove(&pid);
        self.loading.remove(&pid);
        self.targets.retain(|target| target.pid != pid);
        if self.children && !self.targets.is_empty() {
            self.gone.push(pid);
            self.awaited.insert(pid, 0);
            self.forget_gone();
        } else {
            self.ended.push(pid);
            source.remove_target(pid);
        }
    }
}

/// Passes the target's code ranges and unwind tables to the BPF programs.
fn write_code_ranges(
    target: &TrackedProcess,
    mappings: &Mappings,
    options: StackOptions,
    source: &mut RecordSource,
    ledger: &mut Ledger,
) -> io::Result<()> {
    let is_allocator = |file| target.allocators.contains(&file);
    let refused = source.write_code_ranges(target.pid, mappings, options, is_allocator);
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
    ledger.set_internal(target.pid, internal);
    Ok(())
}

/// The same for a target that is traced already, which stays as it was if that fails.
fn readmit(
    target: &TrackedProcess,
    mappings: &Mappings,
    options: StackOptions,
    source: &mut RecordSource,
    ledger: &mut Ledger,
) {
    if let Err(error) = write_code_ranges(target, mappings, options, source, ledger) {
        log::warn!("could not update code ranges of process {}: {error}", target.pid);
    }
}
