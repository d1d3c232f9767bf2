//! Addresses to names, off the hot path: the only folder that imports blazesym.
//!
//! Takes stacks of return addresses and each target's mappings; returns [`report::Frame`]s, innermost first, and
//! which of them "asked" ([`call_site`]). Must not delay the figures: callers that cannot wait use [`Namer::lookup`]
//! or [`Namer::unnamed`], which do no symbol lookup, and let [`Namer::work`] add names within a time budget. Must not
//! need the target to be alive: [`Namer::learn`] opens the mapped files, and keeps them open, while it lives.
//!
//! A place in a file is looked up once, whichever processes and stacks it occurs in, so many stacks with common
//! frames cost little. blazesym keeps its own data in `Rc`s: a [`Namer`] stays on the thread that created it.

pub mod call_site;
mod debug_file;
mod levels;
mod mangled;
mod memory;
mod modules;
mod objects;
mod packages;
mod perf_map;
pub mod runtimes;
mod sources;
mod tail;
pub mod wrappers;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use tracer_common::stack::INTERRUPTED;

use crate::{
    report,
    target::{
        Pid,
        mappings::{FileId, Mapping, Mappings},
    },
};
use levels::Level;
pub use memory::with_unloaded;
use memory::{Location, Memory};
use modules::{Packages, Part, Tally};
use objects::Objects;
use tail::{Spot, Tails};

/// A call site whose frames should be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Number of the call site.
    pub site: u32,
    /// Target whose addresses these are.
    pub pid: Pid,
    /// Return addresses, innermost first.
    pub addresses: Arc<[u64]>,
    /// The probed function that the innermost address returns from: its file, and an offset in its code. `None` if the
    /// innermost address is the running function's own.
    pub probed: Option<(FileId, u64)>,
}

/// Names addresses.
#[derive(Debug, Default)]
pub struct Namer {
    objects: Objects,
    memories: HashMap<Pid, Memory>,
    /// By call site number. The kernel programs assign at most [`tracer_common::limits::SITES`] numbers, each once:
    /// this cache needs no other bound.
    sites: HashMap<u32, NamedSite>,
    packages: Packages,
    tails: Tails,
}

#[derive(Debug)]
struct NamedSite {
    pid: Pid,
    frames: Arc<[report::Frame]>,
    /// An address was in no mapping: retry when more of the memory is known.
    unmapped: bool,
    /// An address in JIT code had no name: retry when the perf map grows.
    anonymous: bool,
    /// Frames per module that the stack runs through.
    tallies: Box<[(Part, Tally)]>,
}

/// Where an address lies.
struct Place<'a> {
    module: Option<&'a Mapping>,
    location: Location,
}

const NOT_YET: &str = "not looked up yet";
const NO_MAPPING: &str = "not in any mapping";

/// Where the call before a return address is. The return address itself may belong to the next function (after a call
/// that never returns) or the next line. An address that a signal interrupted follows no call.
pub const fn called_from(frame: u64) -> u64 {
    match frame & INTERRUPTED {
        0 => frame.wrapping_sub(1),
        _ => frame & !INTERRUPTED,
    }
}

impl Namer {
    /// An empty namer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the memory of a process whose call sites need no more names.
    pub fn forget(&mut self, pid: Pid) {
        self.memories.remove(&pid);
    }

    /// Reads a target's current mappings and opens their objects. Mappings that have gone stay known as long as no
    /// other takes their place: addresses in an unloaded library keep their names. Returns the call sites that have to
    /// be named again.
    pub fn learn(&mut self, pid: Pid, mappings: &Mappings) -> Vec<u32> {
        let before = self.memories.remove(&pid).unwrap_or_default();
        self.memories.insert(pid, before.learn(pid, mappings, &mut self.objects));
        self.sites
            .extract_if(|_, site| site.pid == pid && site.unmapped)
            .map(|(site, _)| site)
            .collect()
    }

    /// Reads new entries of the perf maps of targets with unnamed code. Returns the call sites that have to be named
    /// again. Costs one file check per such target.
    pub fn refresh(&mut self) -> Vec<u32> {
        let mut forgotten = Vec::new();
        for (pid, memory) in &mut self.memories {
            let waits = |site: &NamedSite| site.pid == *pid && site.anonymous;
            if self.sites.values().any(waits) && memory.refresh() {
                forgotten
                    .extend(self.sites.extract_if(|_, site| waits(site)).map(|(site, _)| site));
            }
        }
        forgotten
    }

    /// Missing names of these call sites, by module; counts named call sites only.
    pub fn modules(&mut self, sites: impl Iterator<Item = u32>) -> Vec<report::Module> {
        let named = sites.filter_map(|site| self.sites.get(&site));
        let tallies: Vec<&(Part, Tally)> = named.flat_map(|site| &site.tallies).collect();
        modules::describe(&tallies, &self.objects, &mut self.packages, |pid| {
            self.memories.get(&pid).map(Memory::jit_facts).unwrap_or_default()
        })
    }

    /// A stack with the functions inserted that left by a tail jump, each marked.
    fn with_tails(
        &mut self,
        pid: Pid,
        probed: Option<(FileId, u64)>,
        addresses: &[u64],
    ) -> Vec<(u64, bool)> {
        let mut all: Vec<(u64, bool)> = Vec::with_capacity(addresses.len());
        let in_object = |(file, offset): (FileId, u64)| {
            Some((*self.memories.get(&pid)?.files.get(&file)?, offset))
        };
        // Where the function runs that the next address returns from.
        let mut running: Option<Spot> = probed.and_then(in_object);
        for address in addresses {
            let spot = match self.place(pid, *address).location {
                Location::Object(object, offset) => Some((object, offset)),
                _ => None,
            };
            // No call is before an address that a signal interrupted, or that made a system call.
            let call = spot.filter(|_| address & INTERRUPTED == 0);
            if let (Some((object, last)), Some(running), Some(memory)) =
                (call, running, self.memories.get(&pid))
            {
                let outer = (object, last + 1);
                let jumps = self.tails.between(&self.objects, &memory.objects, outer, running);
                let behind = |(object, offset): &Spot| memory.behind(*object, *offset);
                all.extend(jumps.iter().filter_map(behind).map(|address| (address, true)));
            }
            all.push((*address, false));
            running = spot;
        }
        all
    }

    /// Names a stack now, however long it takes: the first address in a large object requires reading its symbols or
    /// debug information.
    pub fn name(&mut self, pid: Pid, addresses: &[u64]) -> Arc<[report::Frame]> {
        for address in addresses {
            self.look_up(pid, *address);
        }
        self.named_site(pid, None, addresses).frames
    }

    /// The frames of a call site that [`Namer::work`] has named.
    pub fn lookup(&self, site: u32) -> Option<Arc<[report::Frame]>> {
        self.sites.get(&site).map(|site| Arc::clone(&site.frames))
    }

    /// A stack without any lookup: module and offset, and the names already known.
    pub fn unnamed(&self, pid: Pid, addresses: &[u64]) -> Arc<[report::Frame]> {
        let mut frames = Vec::with_capacity(addresses.len());
        for address in addresses {
            self.push_frames(pid, *address, false, &mut frames);
        }
        frames.into()
    }

    /// Names call sites from the front of the queue until it is empty or the budget is spent; returns how many it
    /// named. It looks up at least one address each time, so it can exceed the budget by one address (the first one
    /// of a large object) but always makes progress. Unfinished call sites stay in the queue.
    pub fn work(&mut self, queue: &mut VecDeque<Wanted>, budget: Duration) -> usize {
        let limit = Instant::now() + budget;
        let mut named = 0;
        while let Some(Wanted { site, pid, addresses, probed }) = queue.pop_front() {
            if !self.sites.contains_key(&site) {
                let looked_up = |address: &u64| {
                    // Known addresses cost nothing: the clock is read only after real work.
                    !self.look_up(pid, *address) || Instant::now() < limit
                };
                if !addresses.iter().all(looked_up) && !self.all_known(pid, &addresses) {
                    queue.push_front(Wanted { site, pid, addresses, probed });
                    return named;
                }
                let named_site = self.named_site(pid, probed, &addresses);
                self.sites.insert(site, named_site);
                named += 1;
            }
            if Instant::now() >= limit {
                return named;
            }
        }
        named
    }

    /// Looks up one address; returns whether that took any work.
    fn look_up(&mut self, pid: Pid, address: u64) -> bool {
        match self.place(pid, address).location {
            Location::Object(object, offset) => self.objects.look_up(object, offset),
            Location::Jit | Location::Unknown(_) => false,
        }
    }

    fn named_site(
        &mut self,
        pid: Pid,
        probed: Option<(FileId, u64)>,
        addresses: &[u64],
    ) -> NamedSite {
        let (mut unmapped, mut anonymous) = (false, false);
        let mut frames = Vec::with_capacity(addresses.len());
        let mut tallies: Vec<(Part, Tally)> = Vec::new();
        for (address, tail) in self.with_tails(pid, probed, addresses) {
            if tail {
                self.look_up(pid, address);
            }
            let first = frames.len();
            self.push_frames(pid, address, tail, &mut frames);
            if tail && is_split(&frames, first) {
                frames.truncate(first);
                continue;
            }
            let new = frames.get(first..).unwrap_or_default();
            let part = match self.place(pid, address).location {
                Location::Object(object, _) => Part::Object(object),
                Location::Jit => {
                    anonymous |= new.iter().any(|frame| frame.symbol.is_none());
                    Part::Jit(pid)
                }
                Location::Unknown(why) => {
                    unmapped |= why == NO_MAPPING;
                    continue;
                }
            };
            let known = tallies.iter().position(|(known, _)| *known == part);
            let at = known.unwrap_or_else(|| {
                tallies.push((part, Tally::default()));
                tallies.len() - 1
            });
            if let Some((_, tally)) = tallies.get_mut(at) {
                new.iter().for_each(|frame| tally.add(frame));
            }
        }
        NamedSite { pid, frames: frames.into(), unmapped, anonymous, tallies: tallies.into() }
    }

    fn all_known(&self, pid: Pid, addresses: &[u64]) -> bool {
        addresses.iter().all(|address| match self.place(pid, *address).location {
            Location::Object(object, offset) => self.objects.levels(object, offset).is_some(),
            Location::Jit | Location::Unknown(_) => true,
        })
    }

    fn place(&self, pid: Pid, frame: u64) -> Place<'_> {
        let call = called_from(frame);
        let memory = self.memories.get(&pid);
        let Some((memory, module)) =
            memory.and_then(|memory| Some((memory, memory.mappings.find(call)?)))
        else {
            return Place { module: None, location: Location::Unknown(NO_MAPPING) };
        };
        Place { module: Some(module), location: memory.location(module, call, &self.objects) }
    }

    fn module(&self, pid: Pid, mapping: &Mapping) -> Option<Arc<str>> {
        self.memories.get(&pid)?.modules.get(&mapping.start).cloned()
    }

    fn push_frames(&self, pid: Pid, frame: u64, tail_call: bool, frames: &mut Vec<report::Frame>) {
        let place = self.place(pid, frame);
        let address = frame & !INTERRUPTED;
        let module = place.module.and_then(|mapping| self.module(pid, mapping));
        let module_offset = place.module.map(|mapping| {
            let inside = address.wrapping_sub(mapping.start);
            mapping.file_offset.wrapping_add(inside)
        });
        let frame = |level: &Level| report::Frame {
            address: report::Address(Mapping::without_generation(address)),
            symbol: level.symbol.clone(),
            offset: level.offset,
            module: module.clone(),
            // An offset into anonymous memory has no meaning.
            module_offset: module_offset.filter(|_| module.is_some()),
            file: level.file.clone(),
            line: level.line,
            inlined: level.inlined,
            tail_call,
            why_unnamed: level.why_unnamed.as_deref().map(Arc::from),
        };
        match place.location {
            Location::Unknown(why) => frames.push(frame(&Level::unnamed(why))),
            Location::Jit => {
                let memory = self.memories.get(&pid);
                frames.extend(memory.map(|memory| frame(&memory.made_at_run_time(address))));
            }
            Location::Object(object, offset) => match self.objects.levels(object, offset) {
                None => frames.push(frame(&Level::unnamed(NOT_YET))),
                Some(levels) => frames.extend(levels.iter().map(frame)),
            },
        }
    }
}

/// Whether the frames from `first` on are of the function before them, whose rarely executed code is elsewhere.
fn is_split(frames: &[report::Frame], first: usize) -> bool {
    let function = |at: Option<usize>| frames.get(at?)?.symbol.as_ref();
    let outer = function(frames.len().checked_sub(1));
    outer.is_some() && outer == function(first.checked_sub(1))
}

#[cfg(test)]
mod tests;
