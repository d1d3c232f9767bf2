//! Addresses to names, off the hot path: the only folder that imports blazesym.
//!
//! Takes stacks of return addresses and, for each target, what is mapped where; hands on
//! [`report::Frame`]s, innermost first, and which of them "asked" ([`call_site`]). Must not hold back
//! the numbers: who cannot wait takes [`Namer::lookup`] or [`Namer::unnamed`], which look nothing
//! up, and lets [`Namer::work`] fill in names within a time budget. Must not need the target:
//! [`Namer::learn`] opens the mapped files, and keeps them open, while it lives.
//!
//! A name is looked up once per place in a file, whatever process and stack it occurs in, so that
//! many stacks with common frames cost little. blazesym keeps its own data in `Rc`s: a [`Namer`]
//! stays on the thread that made it.

pub mod call_site;
mod objects;

use std::{
    collections::{HashMap, VecDeque},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    report,
    target::{
        Pid,
        mappings::{FileId, Mapping, Mappings, open_path},
    },
};
use objects::{Level, ObjectId, Objects};

/// A call site whose frames somebody wants to see named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the call site.
    pub site: u32,
    /// Target whose addresses these are.
    pub pid: Pid,
    /// Return addresses, innermost first.
    pub addresses: Arc<[u64]>,
}

/// Names addresses.
#[derive(Debug, Default)]
pub struct Namer {
    objects: Objects,
    memories: HashMap<Pid, Memory>,
    sites: HashMap<u32, NamedSite>,
}

/// One target's memory, as last learned.
#[derive(Debug, Default)]
struct Memory {
    mappings: Mappings,
    files: HashMap<FileId, ObjectId>,
    /// What each mapping is called, by its start.
    modules: HashMap<u64, Arc<str>>,
}

#[derive(Debug)]
struct NamedSite {
    pid: Pid,
    frames: Arc<[report::Frame]>,
    /// An address lay in no mapping: worth another try when more is known of the memory.
    homeless: bool,
}

/// Where an address lies.
struct Place<'a> {
    module: Option<&'a Mapping>,
    object: Result<(ObjectId, u64), &'static str>,
}

const NOT_YET: &str = "not looked up yet";
const NO_MAPPING: &str = "not in any mapping";

impl Namer {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Learns what is mapped in a target now, and opens the objects in it. What was known before and
    /// is not mapped any more stays known as long as nothing else takes its place: addresses in an
    /// unloaded library keep their names.
    pub fn learn(&mut self, pid: Pid, mappings: &Mappings) {
        let Memory { mappings: before, files: known, .. } =
            self.memories.remove(&pid).unwrap_or_default();
        // A file that is kept open keeps its inode, so an old number still means the same file. One
        // that could not be opened is tried again.
        let mut files = known;
        files.retain(|_, object| self.objects.is_open(*object));
        for object in mappings.objects() {
            files.entry(object.file).or_insert_with(|| {
                let opened = self.objects.open(&open_path(pid, object.code));
                // A command that ended at once has left nothing in /proc, but its files are there.
                if !self.objects.is_open(opened) && is_same_file(object.path, object.file) {
                    return self.objects.open(object.path);
                }
                opened
            });
        }
        let unloaded = before.iter().filter(|old| {
            old.executable && old.path.is_some() && !mappings.overlap(old.start, old.end)
        });
        let merged: Mappings = mappings.iter().chain(unloaded).cloned().collect();
        let modules = merged.iter().filter_map(|mapping| Some((mapping.start, module(mapping)?)));
        let modules = modules.collect();
        self.memories.insert(pid, Memory { mappings: merged, files, modules });
        self.sites.retain(|_, site| site.pid != pid || !site.homeless);
    }

    /// Names a stack now, however long it takes: the first address in a large object costs the
    /// reading of its symbols or debug information.
    pub fn name(&mut self, pid: Pid, addresses: &[u64]) -> Arc<[report::Frame]> {
        for address in addresses {
            self.look_up(pid, *address);
        }
        self.unnamed(pid, addresses)
    }

    /// The frames of a call site that [`Namer::work`] has named.
    pub fn lookup(&self, site: u32) -> Option<Arc<[report::Frame]>> {
        self.sites.get(&site).map(|site| Arc::clone(&site.frames))
    }

    /// A stack without looking anything up: module and offset at once, and the names that are known
    /// already.
    pub fn unnamed(&self, pid: Pid, addresses: &[u64]) -> Arc<[report::Frame]> {
        let mut frames = Vec::with_capacity(addresses.len());
        for address in addresses {
            self.push_frames(pid, *address, &mut frames);
        }
        frames.into()
    }

    /// Names call sites from the front of the queue until it is empty or the budget is spent; hands
    /// on how many it named. At least one address is looked up each time, so the budget can be
    /// overrun by one address (the first one of a large object), and work never stands still. What
    /// is not finished stays in the queue.
    pub fn work(&mut self, queue: &mut VecDeque<Wanted>, budget: Duration) -> usize {
        let limit = Instant::now() + budget;
        let mut named = 0;
        while let Some(Wanted { site, pid, addresses }) = queue.pop_front() {
            if !self.sites.contains_key(&site) {
                let looked_up = |address: &u64| {
                    // What is known costs nothing: the clock is asked after real work only.
                    !self.look_up(pid, *address) || Instant::now() < limit
                };
                if !addresses.iter().all(looked_up) && !self.all_known(pid, &addresses) {
                    queue.push_front(Wanted { site, pid, addresses });
                    return named;
                }
                let homeless =
                    addresses.iter().any(|at| self.place(pid, *at).object == Err(NO_MAPPING));
                let frames = self.unnamed(pid, &addresses);
                self.sites.insert(site, NamedSite { pid, frames, homeless });
                named += 1;
            }
            if Instant::now() >= limit {
                return named;
            }
        }
        named
    }

    /// Looks one address up; whether that was any work.
    fn look_up(&mut self, pid: Pid, address: u64) -> bool {
        match self.place(pid, address).object {
            Ok((object, offset)) => self.objects.look_up(object, offset),
            Err(_) => false,
        }
    }

    fn all_known(&self, pid: Pid, addresses: &[u64]) -> bool {
        addresses.iter().all(|address| match self.place(pid, *address).object {
            Ok((object, offset)) => self.objects.levels(object, offset).is_some(),
            Err(_) => true,
        })
    }

    /// Where the call before a return address lies. The address itself may be the next function's
    /// (after a call that never returns), or the next line's.
    fn place(&self, pid: Pid, address: u64) -> Place<'_> {
        let call = address.wrapping_sub(1);
        let memory = self.memories.get(&pid);
        let Some((memory, module)) =
            memory.and_then(|memory| Some((memory, memory.mappings.find(call)?)))
        else {
            return Place { module: None, object: Err(NO_MAPPING) };
        };
        let id = module.file().and_then(|file| memory.files.get(&file));
        let object = id.zip(module.file_offset_of(call).filter(|_| module.executable));
        let object = object.map(|(id, offset)| (*id, offset));
        let object = object.ok_or_else(|| why_no_object(module));
        Place { module: Some(module), object }
    }

    fn module(&self, pid: Pid, mapping: &Mapping) -> Option<Arc<str>> {
        self.memories.get(&pid)?.modules.get(&mapping.start).cloned()
    }

    fn push_frames(&self, pid: Pid, address: u64, frames: &mut Vec<report::Frame>) {
        let place = self.place(pid, address);
        let module = place.module.and_then(|mapping| self.module(pid, mapping));
        let module_offset = place.module.map(|mapping| {
            let inside = address.wrapping_sub(mapping.start);
            mapping.file_offset.wrapping_add(inside)
        });
        let frame = |level: &Level| report::Frame {
            address: format!("{address:#x}"),
            symbol: level.symbol.clone(),
            offset: level.offset,
            module: module.clone(),
            // An offset into anonymous memory means nothing to anybody.
            module_offset: module_offset.filter(|_| module.is_some()),
            file: level.file.clone(),
            line: level.line,
            inlined: level.inlined,
            why_unnamed: level.why_unnamed.as_deref().map(Arc::from),
        };
        match place.object {
            Err(why) => frames.push(frame(&Level::unnamed(why))),
            Ok((object, offset)) => match self.objects.levels(object, offset) {
                None => frames.push(frame(&Level::unnamed(NOT_YET))),
                Some(levels) => frames.extend(levels.iter().map(frame)),
            },
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

/// Why memory that is no object's cannot have names.
fn why_no_object(mapping: &Mapping) -> &'static str {
    match mapping.special.as_deref() {
        Some("[vdso]") => "in the kernel's vdso",
        Some("[uprobes]") => "in the kernel's trampoline for probes",
        _ if !mapping.executable => "not in executable memory",
        _ if mapping.path.is_some() => "in a mapping without a file number",
        _ => "anonymous executable memory (JIT?)",
    }
}

#[cfg(test)]
mod tests;
