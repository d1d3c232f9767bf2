//! Attaches the probes of the catalog to targets.
//!
//! Takes targets and loaded programs, passes on the probes that are attached and those that are not, with the reason. A
//! probe that cannot be attached is information; only a target without any allocator is a failure. Objects that a
//! target loads later are probed then.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::Path,
};

use tracer_common::{attach::ProbeNumber, kind::ResourceKind};

use super::{
    libraries::{describe, object_functions, probed},
    pairs::ClosedGroups,
    points::Points,
    programs::watch,
    refused::reason,
    reporter::Listing,
};
use crate::{
    collector::Probed,
    error::Failure,
    format::file_name,
    kernel::{Point, Programs},
    options::{TraceMode, TraceOptions},
    packs::Pack,
    probes::{
        Absent, Function, Object, Probe, Role, Why,
        allocator::{Allocator, Source, Survey, Surveyor},
        catalog, locate,
        threads::{self, ThreadStart},
        user_defined::UserProbe,
    },
    settings::Settings,
    target::{
        Pid,
        mappings::{FileId, Mappings},
        runtime,
    },
};

/// The probes of one run.
pub(super) struct Attached {
    /// Every probe that was located, one per function and object.
    probes: Vec<Probe>,
    /// Why the kernel refused some, by number.
    refused: BTreeMap<ProbeNumber, String>,
    /// Groups that are not recorded because some of their releases are not probed, with the reason.
    closed: ClosedGroups,
    /// Why files that may contain an allocator could not be read.
    unreadable: Vec<String>,
    /// Probes by object, as indices into `probes`.
    objects: BTreeMap<FileId, Vec<usize>>,
    /// Probes that were tried: each is attached once per target, or once for all.
    tried: BTreeSet<(Option<Pid>, usize)>,
    allocators: BTreeMap<Pid, Vec<Allocator>>,
    surveyor: Surveyor,
    packs: Vec<Pack>,
    user_probes: Vec<UserProbe>,
    options: TraceOptions,
    /// Why return probes must not be used, if so.
    without: Option<Why>,
    /// Return instructions that are probed: functions may share them.
    returns: BTreeSet<(Option<Pid>, Option<FileId>, u64)>,
    next: ProbeNumber,
    /// The code that starts threads.
    thread_starts: Vec<ThreadStart>,
    /// Number of probes whose effect on objects the BPF programs know.
    described: usize,
}

impl Attached {
    /// Nothing attached yet.
    pub(super) fn new(settings: &Settings, without: Option<Why>) -> Self {
        let options = settings.options.clone();
        let packs = if options.traces_objects() { settings.packs.clone() } else { Vec::new() };
        let marks = packs.iter().map(|pack| pack.marks.clone()).collect();
        let threads = options.traces_threads();
        Self {
            probes: Vec::new(),
            refused: BTreeMap::new(),
            closed: ClosedGroups::default(),
            unreadable: Vec::new(),
            objects: BTreeMap::new(),
            tried: BTreeSet::new(),
            allocators: BTreeMap::new(),
            surveyor: Surveyor::new(options.allocator_prefixes.clone(), marks, threads),
            packs,
            user_probes: settings.functions.clone(),
            options,
            without,
            returns: BTreeSet::new(),
            next: 0,
            thread_starts: Vec::new(),
            described: 0,
        }
    }

    /// Attaches to one target for the first time. It is a failure if nothing can be probed.
    pub(super) fn attach(
        &mut self,
        programs: &mut Programs,
        pid: Pid,
        mappings: &Mappings,
    ) -> anyhow::Result<Vec<FileId>> {
        match self.options.mode() {
            TraceMode::Probes => {}
            TraceMode::PageFaults => {
                watch(programs, pid)?;
                return Ok(Vec::new());
            }
            TraceMode::None => return Ok(Vec::new()),
        }
        if let Some(object) = runtime::moving_stacks(pid, mappings) {
            let object = object.to_string_lossy().into_owned();
            return Err(Failure::MovingStacks { pid: pid.0, object }.into());
        }
        let survey = self.surveyor.survey(pid, mappings);
        if survey.allocators.is_empty() && self.user_probes.is_empty() {
            let stripped = !survey.has_symbols;
            return Err(Failure::NoAllocator { pid: pid.0, stripped }.into());
        }
        let (files, _) = self.locate_new(pid, &survey);
        describe(programs, &self.probes, &mut self.described)?;
        self.check_user_probes(pid)?;
        // A user who asked for descriptors gets them alone.
        let other_kinds = self.options.descriptors_are_named;
        let new = self.attach_all(programs, pid, &survey);
        if !new.is_empty() || other_kinds || self.is_attached(pid, &survey) {
            return Ok(files);
        }
        if !Path::new(&pid.proc_path("maps")).exists() {
            return Err(Failure::Ended { pid: pid.0 }.into());
        }
        let why = self.warnings().into_iter().chain(self.refused.values().cloned()).next();
        let why = why.unwrap_or_else(|| "none of its functions can be probed".to_owned());
        Err(Failure::NothingProbed { pid: pid.0, why }.into())
    }

    /// Surveys a target's mappings again, reports the files that contain its allocators through `report` if any is new
    /// or if the target has `executed` another program, and attaches new probes. Returns the file names of the objects
    /// with new probes.
    pub(super) fn attach_more(
        &mut self,
        programs: &mut Programs,
        pid: Pid,
        mappings: &Mappings,
        executed: bool,
        report: impl FnOnce(&Self, Vec<FileId>),
    ) -> Vec<String> {
        if self.options.mode() != TraceMode::Probes {
            return Vec::new();
        }
        if let Some(object) = runtime::moving_stacks(pid, mappings) {
            log::warn!(
                "process {pid} is not traced in `{}`: its runtime moves stacks",
                object.display()
            );
            return Vec::new();
        }
        let survey = self.surveyor.survey(pid, mappings);
        let (files, new) = self.locate_new(pid, &survey);
        if let Err(error) = describe(programs, &self.probes, &mut self.described) {
            log::warn!("objects of libraries that were loaded later are not traced: {error:#}");
        }
        if new || executed {
            report(self, files);
        }
        self.attach_all(programs, pid, &survey)
    }

    /// The probes in order, then the functions of the family that no object defines.
    pub(super) fn listing(&self) -> Listing {
        let mut probes: Vec<Probe> = Vec::with_capacity(self.probes.len());
        let has = |name: &str| {
            self.probes.iter().any(|probe| {
                let names = std::iter::once(&probe.function.name).chain(&probe.aliases);
                probe.place != Err(Absent::Missing) && names.into_iter().any(|one| one == name)
            })
        };
        for probe in &self.probes {
            let family = catalog::LIBC.iter().any(|one| one.name == probe.function.name);
            let listed = |probes: &[Probe]| {
                probes.iter().any(|one| one.function.name == probe.function.name)
            };
            match probe.place {
                Err(Absent::Missing) if !family || has(&probe.function.name) || listed(&probes) => {
                }
                Err(Absent::Forwards) => {}
                _ => probes.push(probe.clone()),
            }
        }
        probes.sort_by_key(|probe| probe.place == Err(Absent::Missing));
        Listing {
            probes,
            refused: self.refused.clone(),
            warnings: self.warnings(),
            allocators: self.allocators.clone(),
        }
    }

    /// What the collector needs to know about the probes.
    pub(super) fn probed(&self) -> Probed {
        probed(self.next, &self.probes, &self.thread_starts, &self.packs)
    }

    /// Locates functions in a target's new objects. Returns the files that contain its allocators, and whether any
    /// probe in them is not attached yet.
    fn locate_new(&mut self, pid: Pid, survey: &Survey) -> (Vec<FileId>, bool) {
        let mut files = Vec::new();
        let mut new = false;
        for source in &survey.sources {
            let places = match self.objects.get(&source.file) {
                Some(places) => places.clone(),
                None => self.add(source),
            };
            let located: Vec<usize> = places
                .into_iter()
                .filter(|at| self.probes.get(*at).is_some_and(|probe| probe.place.is_ok()))
                .collect();
            new |= located.iter().any(|at| !self.tried.contains(&(self.scope(pid), *at)));
            let allocates = |at: &usize| {
                self.probes.get(*at).is_some_and(|probe| probe.function.is_of_allocator())
            };
            if located.iter().any(allocates) {
                files.push(source.file);
            }
        }
        self.allocators.insert(pid, survey.allocators.clone());
        (files, new)
    }

    /// The process that probes of a target apply to; `None` for every process that maps an object: only then does a
    /// child have them from its first instruction on.
    fn scope(&self, pid: Pid) -> Option<Pid> {
        (!self.options.children).then_some(pid)
    }

    /// Attaches the located probes that are not attached: releases before acquisitions, which are left out where a
    /// release cannot be seen. Returns the file names of the objects.
    fn attach_all(&mut self, programs: &mut Programs, pid: Pid, survey: &Survey) -> Vec<String> {
        let mut all: Vec<(usize, &Source)> = Vec::new();
        for source in &survey.sources {
            let places = self.objects.get(&source.file).into_iter().flatten();
            all.extend(places.map(|index| (*index, source)));
        }
        let indices: Vec<usize> = all.iter().map(|(index, _)| *index).collect();
        self.close_what_cannot_be_probed(pid, &indices);
        all.retain(|(index, _)| self.needs_attaching(pid, *index));
        let mut on = BTreeSet::new();
        for role in Role::ALL {
            for source in &survey.sources {
                let mut fresh: Vec<usize> = all
                    .iter()
                    .filter(|(_, of)| of.file == source.file)
                    .map(|(at, _)| *at)
                    .collect();
                fresh.retain(|index| self.may_attach(pid, *index, role));
                on.extend(self.attach_probes(programs, pid, &fresh, &source.open));
            }
        }
        self.withdraw_closed(programs, pid, &mut on);
        let file = |index: &usize| self.probes.get(*index)?.object.as_ref();
        let mut probed: Vec<String> = on
            .iter()
            .filter_map(file)
            .map(|(_, path)| file_name(&path.to_string_lossy()).to_owned())
            .collect();
        probed.dedup();
        probed
    }

    /// Whether a probe in one of these objects is attached for a target: those of children's are attached once for all.
    fn is_attached(&self, pid: Pid, survey: &Survey) -> bool {
        let scope = self.scope(pid);
        let places = survey.sources.iter().filter_map(|source| self.objects.get(&source.file));
        let mut tried = places.flatten().filter(|index| self.tried.contains(&(scope, **index)));
        let on = |probe: &Probe| probe.place.is_ok() && self.closed_by(pid, probe).is_none();
        tried.any(|index| {
            let probe = self.probes.get(*index).filter(|probe| on(probe));
            probe.is_some_and(|probe| !self.refused.contains_key(&probe.number))
        })
    }

    /// Forgets a target that has ended.
    pub(super) fn forget(&mut self, pid: Pid) {
        self.allocators.remove(&pid);
    }

    /// Closes the groups that lack a needed probe, as far as that is known before anything is attached.
    fn close_what_cannot_be_probed(&mut self, pid: Pid, indices: &[usize]) {
        for index in indices {
            let Some(probe) = self.probes.get(*index) else { continue };
            if let Err(Absent::Refused(why)) = &probe.place {
                let why = why.clone();
                self.close(pid, *index, &why);
            }
        }
    }

    /// Closes the group of a probe that is not attached: what the probe would release must not be recorded.
    fn close(&mut self, pid: Pid, index: usize, why: &str) {
        let scope = self.scope(pid);
        // What is not asked for would not be recorded anyway.
        let probe = self.probes.get(index).filter(|probe| self.is_asked_for(probe));
        if let Some(probe) = probe {
            self.closed.close(scope, probe, &self.user_probes, why);
        }
    }

    /// Why a probe must not be attached to a target, if so.
    fn closed_by(&self, pid: Pid, probe: &Probe) -> Option<&String> {
        self.closed.closes(self.scope(pid), probe, &self.user_probes)
    }

    fn may_attach(&self, pid: Pid, index: usize, role: Role) -> bool {
        self.probes.get(index).is_some_and(|probe| {
            Role::of(&probe.function) == role && self.closed_by(pid, probe).is_none()
        })
    }

    /// Detaches probes that were attached before another probe of their group was refused.
    fn withdraw_closed(&mut self, programs: &mut Programs, pid: Pid, on: &mut BTreeSet<usize>) {
        let scope = self.scope(pid);
        let process = scope.and_then(|pid| NonZeroU32::new(pid.0));
        let detach = |numbers: &BTreeSet<ProbeNumber>| {
            let refused = programs.detach(process, |probe| numbers.contains(&probe));
            refused.iter().map(|(number, failed)| (*number, reason(failed))).collect()
        };
        let off = self.closed.withdraw(scope, &self.probes, &self.user_probes, detach);
        on.retain(|index| {
            self.probes.get(*index).is_some_and(|probe| !off.contains_key(&probe.number))
        });
        for (number, why) in off {
            self.refused.entry(number).or_insert(why);
        }
    }

    /// Sentences about what is not traced, and why.
    fn warnings(&self) -> Vec<String> {
        self.closed.reasons().into_iter().chain(self.unreadable.iter().cloned()).collect()
    }

    /// Whether to attach a probe to a target, if that was not tried before. leaktrace recognizes memory that `malloc`
    /// maps by the surrounding call of `malloc`: it cannot trace mappings without the heap.
    fn needs_attaching(&mut self, pid: Pid, index: usize) -> bool {
        let scope = self.scope(pid);
        let Some(probe) = self.probes.get(index).filter(|probe| probe.place.is_ok()) else {
            return false;
        };
        if !self.is_asked_for(probe) {
            if let Some(probe) = self.probes.get_mut(index) {
                probe.place = Err(Absent::NotRequested);
            }
            return false;
        }
        self.tried.insert((scope, index))
    }

    /// Whether the user wants the resources of a probe, or leaktrace needs them: the heap always.
    fn is_asked_for(&self, probe: &Probe) -> bool {
        probe.function.kind == ResourceKind::Heap
            || self.options.kinds.contains(&probe.function.kind)
    }

    /// Attaches probes of one object to a target, outcomes before entries. Returns those that are attached.
    fn attach_probes(
        &mut self,
        programs: &mut Programs,
        pid: Pid,
        indices: &[usize],
        path: &Path,
    ) -> Vec<usize> {
        let scope = self.scope(pid);
        let mut points = Points::default();
        for index in indices {
            let Some(probe) = self.probes.get(*index) else { continue };
            let Ok(place) = &probe.place else { continue };
            let (bare, taken) = (self.options.test_options.bare_traps, &mut self.returns);
            points.add(probe, place, bare, |file, offset| taken.insert((scope, file, offset)));
        }
        let process = scope.and_then(|pid| NonZeroU32::new(pid.0));
        let mut refused = BTreeMap::new();
        for (program, mut points) in points.in_order() {
            // If the end of a call cannot be seen, its beginning is not probed.
            points.retain(|(number, _)| !refused.contains_key(number));
            let (numbers, points): (Vec<ProbeNumber>, Vec<Point>) = points.into_iter().unzip();
            let outcomes = programs.attach(program, process, path, &points);
            for (number, outcome) in numbers.into_iter().zip(outcomes) {
                if let Err(failed) = outcome {
                    refused.insert(number, reason(&failed));
                }
            }
        }
        let (off, on): (Vec<usize>, Vec<usize>) = indices.iter().partition(|index| {
            self.probes.get(**index).is_none_or(|probe| refused.contains_key(&probe.number))
        });
        // For a target that has ended, every attach fails: that says nothing about its functions.
        let ended = !Path::new(&pid.proc_path("maps")).exists();
        for index in off.iter().filter(|_| !ended) {
            let why = self.probes.get(*index).and_then(|probe| refused.get(&probe.number)).cloned();
            self.close(pid, *index, &why.unwrap_or_default());
        }
        // Not a warning: the report contains it.
        for (number, why) in &refused {
            log::info!("could not attach probe {number}: {why}");
        }
        self.refused.extend(refused);
        on
    }

    /// Locates the functions of an object that has not been seen before.
    fn add(&mut self, source: &Source) -> Vec<usize> {
        let first = self.probes.len();
        let user_defined = source.user_defined(&self.user_probes);
        if source.may_have_probes() || !user_defined.is_empty() {
            match std::fs::read(&source.open) {
                Ok(bytes) => self.locate(source, user_defined, &bytes),
                Err(error) => {
                    let path = source.path.display();
                    self.unreadable.push(format!(
                        "functions of `{path}` are not traced: could not read the file: {error}"
                    ));
                }
            }
        }
        let places: Vec<usize> = (first..self.probes.len()).collect();
        self.objects.insert(source.file, places.clone());
        places
    }

    fn locate(&mut self, source: &Source, user_defined: Vec<Function>, bytes: &[u8]) {
        let object = Object { file: source.file, path: source.path.clone(), bytes };
        let threads = source.starts_threads.then(|| threads::functions(&object));
        let (of_threads, start) = threads.unwrap_or_default();
        self.thread_starts.extend(start);
        let wanted = |defined: &[&str], build_id: Option<&[u8]>| {
            let mut functions = source.functions(defined);
            functions.retain(|one| !user_defined.iter().any(|user| user.name == one.name));
            functions.extend(user_defined);
            functions.extend(of_threads);
            let packs = source.libraries.iter().filter_map(|at| self.packs.get(*at));
            functions.extend(object_functions(&packs.collect::<Vec<_>>(), defined, build_id));
            functions
        };
        let probes = locate(&object, wanted, self.next, self.without);
        let placed = probes.iter().filter(|probe| probe.place.is_ok());
        let last = placed.map(|probe| probe.number.saturating_add(1)).max();
        self.next = last.unwrap_or(self.next);
        self.probes.extend(probes);
    }

    /// Fails if the target does not define a function that the user named: probably a typing mistake.
    fn check_user_probes(&self, pid: Pid) -> Result<(), Failure> {
        let found = |name: &str| {
            self.probes.iter().any(|probe| {
                probe.function.name == name && probe.place != Err(Absent::Missing)
                    || probe.aliases.iter().any(|alias| alias == name)
            })
        };
        match self.user_probes.iter().find(|user| !found(&user.function.name)) {
            None => Ok(()),
            Some(user) => {
                let function = user.function.name.clone().into_owned();
                Err(Failure::NoFunction { pid: pid.0, function, library: user.library.clone() })
            }
        }
    }
}
