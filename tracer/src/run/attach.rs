//! Attaches the catalog to targets.
//!
//! Takes targets and loaded programs, hands on the probes that are on and those that are not, with
//! the reason. A probe that cannot be attached is information; only a target without any allocator
//! is a failure.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use tracer_common::kind::Kind;

use crate::{
    error::Failure,
    format::file_name,
    kernel::{Failed, Program, Programs},
    preflight::Facts,
    probes::{Absent, Function, Object, Place, Probe, catalog, locate, provides_allocator},
    target::{
        LIBC_NAMES, Pid,
        mappings::{FileId, MappedObject, Mapping, Mappings, open_path},
        runtime,
    },
};

/// The probes of one run.
#[derive(Default)]
pub(super) struct Attached {
    /// Every probe, one per function and object.
    pub(super) probes: Vec<Probe>,
    /// Why the kernel refused some, by number.
    pub(super) refused: BTreeMap<u8, String>,
    /// Where they are on: for one process, or for all that map the object.
    on: BTreeSet<(FileId, Option<Pid>)>,
    /// Probes by object, as indices into `probes`.
    objects: BTreeMap<FileId, Vec<usize>>,
    next: u8,
}

/// What is to be attached, and how.
#[derive(Clone, Copy)]
pub(super) struct Wish<'a> {
    /// Kinds asked for.
    pub(super) kinds: &'a [Kind],
    /// Programs that do nothing, for the benchmark.
    pub(super) bare: bool,
    /// In every process that maps the object.
    pub(super) everywhere: bool,
}

/// The object that holds the target's libc: by its name, else whatever defines the family (a static
/// executable). `open` says where a mapped file can be read.
fn allocator(mappings: &Mappings, open: impl Fn(&Mapping) -> PathBuf) -> Option<MappedObject<'_>> {
    let objects = mappings.objects();
    let defines = |object: &MappedObject<'_>| {
        std::fs::read(open(object.code)).is_ok_and(|bytes| provides_allocator(&bytes))
    };
    if let Some(libc) = objects.iter().find(|object| is_libc(object)).filter(|libc| defines(libc)) {
        return Some(libc.clone());
    }
    objects.into_iter().find(|object| defines(object))
}

fn starts_with_any(object: &MappedObject<'_>, starts: &[&str]) -> bool {
    let path = object.path.to_string_lossy();
    starts.iter().any(|start| file_name(&path).starts_with(start))
}

fn is_libc(object: &MappedObject<'_>) -> bool {
    starts_with_any(object, &LIBC_NAMES)
}

/// Whether a command that is being loaded has its allocator: its libc, or no loader at all.
pub(super) fn is_loaded(mappings: &Mappings) -> bool {
    let objects = mappings.objects();
    let loader = |object: &MappedObject<'_>| starts_with_any(object, &["ld-linux", "ld-2."]);
    !objects.is_empty() && (objects.iter().any(is_libc) || !objects.iter().any(loader))
}

/// The functions to be probed for these kinds. Memory that `malloc` maps is told apart by being
/// inside `malloc`: mappings alone cannot be traced without the heap.
fn wanted(kinds: &[Kind]) -> impl Fn(&&'static Function) -> bool {
    let mappings = kinds.contains(&Kind::Mmap);
    move |function| function.kind == Kind::Heap || mappings
}

impl Attached {
    /// Attaches to one target; with `everywhere`, to every process that has the same allocator: only so
    /// are the probes in a child from its first instruction on. Returns the file that is its allocator.
    pub(super) fn attach(
        &mut self,
        programs: &mut Programs,
        pid: Pid,
        mappings: &Mappings,
        Wish { kinds, bare, everywhere }: Wish<'_>,
    ) -> anyhow::Result<FileId> {
        if let Some(object) = runtime::moving_stacks(pid, mappings) {
            let object = object.to_string_lossy().into_owned();
            return Err(Failure::MovingStacks { pid: pid.0, object }.into());
        }
        let Some(object) = allocator(mappings, |mapping| open_path(pid, mapping)) else {
            return Err(Failure::NoAllocator { pid: pid.0 }.into());
        };
        let scope = (!everywhere).then_some(pid);
        if self.on.contains(&(object.file, scope)) {
            return Ok(object.file);
        }
        let path = open_path(pid, object.code);
        let places = match self.objects.get(&object.file) {
            Some(places) => places.clone(),
            None => self.add(object.file, object.path.to_owned(), &path)?,
        };
        let is_wanted = wanted(kinds);
        let mut on = false;
        for index in places {
            let Some(probe) = self.probes.get_mut(index) else { continue };
            let Ok(place) = probe.place else { continue };
            if !is_wanted(&probe.function) {
                probe.place = Err(Absent::Refused("not of the kinds asked for".to_owned()));
                continue;
            }
            match attach_one(programs, scope, &path, probe, &place, bare) {
                Ok(()) => on = true,
                Err(failed) => {
                    let why = reason(&failed);
                    // Not a warning: the report says it, and a target that has ended refuses all.
                    log::info!("could not attach to `{}`: {why}", probe.function.name);
                    self.refused.insert(probe.number, why);
                }
            }
        }
        if on {
            self.on.insert((object.file, scope));
            return Ok(object.file);
        }
        let why = self.refused.values().next().cloned().unwrap_or_default();
        if !Path::new(&pid.proc_path("maps")).exists() {
            return Err(Failure::Ended { pid: pid.0 }.into());
        }
        anyhow::bail!("could not attach to process {pid}: {why}")
    }

    /// Number of numbers given to probes.
    pub(super) const fn numbers(&self) -> u8 {
        self.next
    }

    fn add(&mut self, file: FileId, shown: PathBuf, path: &Path) -> anyhow::Result<Vec<usize>> {
        let bytes = std::fs::read(path).map_err(|source| {
            anyhow::Error::from(source).context(format!("could not read `{}`", shown.display()))
        })?;
        let object = Object { file, path: shown, bytes: &bytes };
        let probes = locate(&object, &catalog::LIBC, self.next);
        self.next = probes.last().map_or(self.next, |probe| probe.number.saturating_add(1));
        let first = self.probes.len();
        self.probes.extend(probes);
        let places: Vec<usize> = (first..self.probes.len()).collect();
        self.objects.insert(file, places.clone());
        Ok(places)
    }
}

fn attach_one(
    programs: &mut Programs,
    scope: Option<Pid>,
    path: &Path,
    probe: &Probe,
    place: &Place,
    bare: bool,
) -> Result<(), Failed> {
    use tracer_common::attach::Shape;
    let process = scope.and_then(|pid| NonZeroU32::new(pid.0));
    let entry = match probe.function.shape {
        _ if bare => Program::BareEntry,
        Shape::Size | Shape::CountSize | Shape::OutPointer | Shape::Map => Program::AcquireEntry,
        Shape::Resize | Shape::CountResize | Shape::Remap => Program::ResizeEntry,
        Shape::Release | Shape::Unmap => Program::ReleaseEntry,
    };
    let cookie = probe.cookie(place);
    if probe.function.shape.needs_return() {
        let back = if bare { Program::BareReturn } else { Program::CallReturn };
        programs.attach(back, process, path, place.offset, cookie)?;
    }
    programs.attach(entry, process, path, place.offset, cookie)
}

/// The kernel's own words.
fn reason(failed: &Failed) -> String {
    let source = std::error::Error::source(failed);
    source.map_or_else(|| failed.to_string(), ToString::to_string)
}

/// A failure to load, with the help that goes with it.
pub(super) fn explain(failed: Failed, facts: &Facts) -> anyhow::Error {
    match failed {
        Failed::Program { program, verifier, source } => {
            facts.blame(&program, &verifier, source).into()
        }
        Failed::Map { map, source } => Failure::MapMemory { map, source }.into(),
        other => other.into(),
    }
}
