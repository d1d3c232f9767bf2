//! One target's memory, as last read: which object, vdso or JIT code is at which address.
//!
//! Takes mappings, opens their objects and keeps them open; returns which source can name an address. Does no symbol
//! lookup of objects itself.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::Arc,
};

use super::{
    debug_file::Origin,
    levels::Level,
    modules::{JitFacts, Runtime},
    objects::{ObjectId, Objects},
    perf_map::PerfMap,
};
use crate::target::{
    Pid,
    mappings::{FileId, Mapping, Mappings, open_path},
    root::Root,
};

/// An upper bound for the vdso, which has 2 to 4 pages.
const VDSO_BYTES: u64 = 1 << 16;

/// One target's memory, as last read.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) mappings: Mappings,
    pub(super) files: HashMap<FileId, ObjectId>,
    /// The objects with code, in address order: a program is below its libraries.
    pub(super) objects: Vec<ObjectId>,
    /// The name of each mapping, by its start.
    pub(super) modules: HashMap<u64, Arc<str>>,
    root: Option<Arc<Root>>,
    vdso: Option<ObjectId>,
    jit: Option<PerfMap>,
    runtime: Runtime,
}

/// Where a call is, which decides the source of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Location {
    /// An object, at this offset of its file.
    Object(ObjectId, u64),
    /// The runtime that generated the code.
    Jit,
    /// Not in nameable code, and why.
    Unknown(&'static str),
}

/// A process's mappings with its code of `before` that is no longer mapped, where nothing else is now.
pub fn with_unloaded(before: &Mappings, mappings: &Mappings) -> Mappings {
    let unloaded = before.iter().filter(|old| {
        old.executable && old.path.is_some() && !mappings.overlap(old.start, old.end)
    });
    mappings.iter().chain(unloaded).cloned().collect()
}

impl Memory {
    /// The state after these mappings were read; `self` is the state before.
    pub(super) fn learn(self, pid: Pid, mappings: &Mappings, objects: &mut Objects) -> Self {
        let before = self;
        let root = Root::of(pid).ok().map(Arc::new).or(before.root);
        // A file kept open keeps its inode, so an inode number already known still means the same file. A file that
        // could not be opened is tried again.
        let mut files = before.files;
        files.retain(|_, object| objects.is_open(*object));
        for object in mappings.objects() {
            files.entry(object.file).or_insert_with(|| {
                let origin = root
                    .as_ref()
                    .map(|root| Origin { root: Arc::clone(root), path: object.path.to_owned() });
                let opened = objects.open(&open_path(pid, object.code), origin.clone());
                // A command that ended at once has no /proc entry any more, but its files still exist.
                if !objects.is_open(opened) && is_same_file(object.path, object.file) {
                    return objects.open(object.path, origin);
                }
                opened
            });
        }
        let merged = with_unloaded(&before.mappings, mappings);
        let modules = merged.iter().filter_map(|mapping| Some((mapping.start, module(mapping)?)));
        let modules = modules.collect();
        let vdso = read_vdso(pid, mappings).map(|image| objects.image(image)).or(before.vdso);
        let with_code = merged.objects().iter().map(|object| object.file).collect::<Vec<_>>();
        let in_order = with_code.iter().filter_map(|file| files.get(file).copied()).collect();
        let runtime =
            mappings.iter().find_map(|mapping| Runtime::by_file(mapping.path.as_deref()?));
        let runtime = runtime.unwrap_or_default();
        let mut jit = before.jit;
        if mappings.iter().any(|mapping| mapping.executable && is_anonymous(mapping)) {
            // Opened early: the target's root may be gone when names are needed.
            jit.get_or_insert_with(|| PerfMap::of(pid)).refresh(root.as_deref());
        }
        Self { mappings: merged, files, objects: in_order, modules, root, vdso, jit, runtime }
    }

    /// The address behind an instruction, by the offset in an object's file where the instruction ends.
    pub(super) fn behind(&self, object: ObjectId, offset: u64) -> Option<u64> {
        let last = offset.checked_sub(1)?;
        let code = self.mappings.iter().find(|mapping| {
            let bytes = mapping.end - mapping.start;
            mapping.executable
                && (mapping.file_offset..mapping.file_offset.saturating_add(bytes)).contains(&last)
                && mapping.file().is_some_and(|file| self.files.get(&file) == Some(&object))
        })?;
        Some(offset - code.file_offset + code.start)
    }

    /// Where an address of a mapping is.
    pub(super) fn location(&self, module: &Mapping, call: u64, objects: &Objects) -> Location {
        if !module.executable {
            return Location::Unknown("not in executable memory");
        }
        let object = module.file().and_then(|file| self.files.get(&file));
        match (object, module.file_offset_of(call), module.special.as_deref(), self.vdso) {
            // Some runtimes keep their code in named memory (memfd); but some programs also run from such memory.
            (Some(id), ..) if is_anonymous(module) && !objects.is_elf(*id) => Location::Jit,
            (Some(id), Some(offset), ..) => Location::Object(*id, offset),
            (.., Some("[vdso]"), Some(id)) => Location::Object(id, call - module.start),
            (.., Some("[vdso]"), None) => {
                Location::Unknown("in the kernel's vdso, which is not readable")
            }
            (.., Some("[uprobes]"), _) => {
                Location::Unknown("in the kernel's trampoline for probes")
            }
            (.., Some("[vsyscall]"), _) => {
                Location::Unknown("in the kernel's page for old system calls")
            }
            _ if is_anonymous(module) => Location::Jit,
            _ => Location::Unknown("in a mapping without a file number"),
        }
    }

    /// Reads new entries of the perf map; returns whether there were any.
    pub(super) fn refresh(&mut self) -> bool {
        let root = self.root.as_deref();
        self.jit.as_mut().is_some_and(|jit| jit.refresh(root))
    }

    /// Facts about the target's JIT code.
    pub(super) fn jit_facts(&self) -> JitFacts {
        let mapped = self.jit.as_ref().is_some_and(PerfMap::is_known);
        JitFacts { mapped, runtime: self.runtime }
    }

    /// The function that a return address in JIT code belongs to.
    pub(super) fn made_at_run_time(&self, address: u64) -> Level {
        let Some(jit) = &self.jit else { return Level::unnamed("anonymous executable memory") };
        match jit.find(address.wrapping_sub(1)) {
            Some((start, name)) => Level {
                symbol: Some(name),
                offset: Some(address.wrapping_sub(start)),
                ..Level::default()
            },
            None => Level::unnamed(jit.why_unknown()),
        }
    }
}

/// The name of a mapping: its file, or the kernel's name for it.
fn module(mapping: &Mapping) -> Option<Arc<str>> {
    match (&mapping.path, &mapping.special) {
        (Some(path), _) => Some(Arc::from(path.to_string_lossy())),
        (None, special) => special.as_deref().map(Arc::from),
    }
}

/// Whether `path` in our namespace is the mapped file. (On some file systems, `stat` and memory maps number devices
/// differently.)
fn is_same_file(path: &Path, file: FileId) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.ino() == file.inode)
}

/// Whether the mapping holds generated code: no file backs it, or one that never had a name.
fn is_anonymous(mapping: &Mapping) -> bool {
    match (&mapping.path, mapping.special.as_deref()) {
        (Some(path), _) => path.to_string_lossy().starts_with("/memfd:"),
        (None, None) => true,
        (None, Some(special)) => special.starts_with("[anon") || special == "[heap]",
    }
}

/// The vdso image, read from the target's memory.
fn read_vdso(pid: Pid, mappings: &Mappings) -> Option<Vec<u8>> {
    let vdso = mappings.iter().find(|mapping| mapping.special.as_deref() == Some("[vdso]"))?;
    let size = vdso.end.checked_sub(vdso.start).filter(|size| *size <= VDSO_BYTES)?;
    let mut image = vec![0; usize::try_from(size).ok()?];
    let memory = File::open(pid.proc_path("mem")).ok()?;
    memory.read_exact_at(&mut image, vdso.start).ok()?;
    Some(image)
}
