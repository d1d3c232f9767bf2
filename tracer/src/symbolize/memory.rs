//! One target's memory, as last learned: which object, vdso or run-time code lies where.
//!
//! Takes mappings, opens the objects in them and keeps them open; hands on who may know the name of
//! an address. Looks no name of an object up.

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
    modules::{JitFacts, Maker},
    objects::{ObjectId, Objects},
    perf_map::PerfMap,
};
use crate::target::{
    Pid,
    mappings::{FileId, Mapping, Mappings, open_path},
    root::Root,
};

/// No vdso is larger: it has 2 to 4 pages.
const VDSO_BYTES: u64 = 1 << 16;

/// One target's memory, as last learned.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) mappings: Mappings,
    pub(super) files: HashMap<FileId, ObjectId>,
    /// What each mapping is called, by its start.
    pub(super) modules: HashMap<u64, Arc<str>>,
    root: Option<Arc<Root>>,
    vdso: Option<ObjectId>,
    jit: Option<PerfMap>,
    maker: Maker,
}

/// Who may know the name of what is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// An object, at this offset of its file.
    Object(ObjectId, u64),
    /// Whoever made the code while the target ran.
    Jit,
    /// Nobody, and why.
    Nobody(&'static str),
}

impl Memory {
    /// What is known when this is mapped, now; `self` is what was known before.
    pub(super) fn learn(self, pid: Pid, mappings: &Mappings, objects: &mut Objects) -> Self {
        let before = self;
        let root = Root::of(pid).ok().map(Arc::new).or(before.root);
        // A file that is kept open keeps its inode, so an old number still means the same file. One
        // that could not be opened is tried again.
        let mut files = before.files;
        files.retain(|_, object| objects.is_open(*object));
        for object in mappings.objects() {
            files.entry(object.file).or_insert_with(|| {
                let origin = root
                    .as_ref()
                    .map(|root| Origin { root: Arc::clone(root), path: object.path.to_owned() });
                let opened = objects.open(&open_path(pid, object.code), origin.clone());
                // A command that ended at once has left nothing in /proc, but its files are there.
                if !objects.is_open(opened) && is_same_file(object.path, object.file) {
                    return objects.open(object.path, origin);
                }
                opened
            });
        }
        let unloaded = before.mappings.iter().filter(|old| {
            old.executable && old.path.is_some() && !mappings.overlap(old.start, old.end)
        });
        let merged: Mappings = mappings.iter().chain(unloaded).cloned().collect();
        let modules = merged.iter().filter_map(|mapping| Some((mapping.start, module(mapping)?)));
        let modules = modules.collect();
        let vdso = read_vdso(pid, mappings).map(|image| objects.image(image)).or(before.vdso);
        let maker = mappings.iter().find_map(|mapping| Maker::by_file(mapping.path.as_deref()?));
        let maker = maker.unwrap_or_default();
        let mut jit = before.jit;
        if mappings.iter().any(|mapping| mapping.executable && is_anonymous(mapping)) {
            // Opened early: the target's root may be gone when names are wanted.
            jit.get_or_insert_with(|| PerfMap::of(pid)).refresh(root.as_deref());
        }
        Self { mappings: merged, files, modules, root, vdso, jit, maker }
    }

    /// Who may know what is at an address of a mapping.
    pub(super) fn home(&self, module: &Mapping, call: u64, objects: &Objects) -> Home {
        if !module.executable {
            return Home::Nobody("not in executable memory");
        }
        let object = module.file().and_then(|file| self.files.get(&file));
        match (object, module.file_offset_of(call), module.special.as_deref(), self.vdso) {
            // Memory with a name, in which some run times keep their code; but some programs run
            // from such memory, too.
            (Some(id), ..) if is_anonymous(module) && !objects.is_elf(*id) => Home::Jit,
            (Some(id), Some(offset), ..) => Home::Object(*id, offset),
            (.., Some("[vdso]"), Some(id)) => Home::Object(id, call - module.start),
            (.., Some("[vdso]"), None) => {
                Home::Nobody("in the kernel's vdso, which is not readable")
            }
            (.., Some("[uprobes]"), _) => Home::Nobody("in the kernel's trampoline for probes"),
            (.., Some("[vsyscall]"), _) => {
                Home::Nobody("in the kernel's page for old system calls")
            }
            _ if is_anonymous(module) => Home::Jit,
            _ => Home::Nobody("in a mapping without a file number"),
        }
    }

    /// Reads on in the perf map; whether there was anything new.
    pub(super) fn refresh(&mut self) -> bool {
        let root = self.root.as_deref();
        self.jit.as_mut().is_some_and(|jit| jit.refresh(root))
    }

    /// What the target tells of code that it made.
    pub(super) fn jit_facts(&self) -> JitFacts {
        let mapped = self.jit.as_ref().is_some_and(PerfMap::is_known);
        JitFacts { mapped, maker: self.maker }
    }

    /// The function that a return address in run-time code belongs to.
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

/// What a mapping is called: its file, or what the kernel calls it.
fn module(mapping: &Mapping) -> Option<Arc<str>> {
    match (&mapping.path, &mapping.special) {
        (Some(path), _) => Some(Arc::from(path.to_string_lossy())),
        (None, special) => special.as_deref().map(Arc::from),
    }
}

/// Whether what is at `path` for us is the file that was mapped. (Devices are numbered differently in
/// `stat` and in memory maps on some file systems.)
fn is_same_file(path: &Path, file: FileId) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.ino() == file.inode)
}

/// Whether a program made what is in it: no file is behind it, or one that has no name and never had.
fn is_anonymous(mapping: &Mapping) -> bool {
    match (&mapping.path, mapping.special.as_deref()) {
        (Some(path), _) => path.to_string_lossy().starts_with("/memfd:"),
        (None, None) => true,
        (None, Some(special)) => special.starts_with("[anon") || special == "[heap]",
    }
}

/// The kernel's own object in a target, as it is mapped there.
fn read_vdso(pid: Pid, mappings: &Mappings) -> Option<Vec<u8>> {
    let vdso = mappings.iter().find(|mapping| mapping.special.as_deref() == Some("[vdso]"))?;
    let size = vdso.end.checked_sub(vdso.start).filter(|size| *size <= VDSO_BYTES)?;
    let mut image = vec![0; usize::try_from(size).ok()?];
    let memory = File::open(pid.proc_path("mem")).ok()?;
    memory.read_exact_at(&mut image, vdso.start).ok()?;
    Some(image)
}
