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
mod debug_file;
mod levels;
mod memory;
mod modules;
mod objects;
mod packages;
mod perf_map;
mod sources;
mod tail;

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
use memory::{Home, Memory};
use modules::{Packages, Part, Tally};
use objects::Objects;
use tail::{Spot, Tails};

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
    /// By number, of which the kernel programs give out [`tracer_common::limits::SITES`] at most and
    /// none twice: what is remembered here needs no other bound.
    sites: HashMap<u32, NamedSite>,
    packages: Packages,
    tails: Tails,
}

#[derive(Debug)]
struct NamedSite {
    pid: Pid,
    frames: Arc<[report::Frame]>,
    /// An address lay in no mapping: worth another try when more is known of the memory.
    homeless: bool,
    /// One lay in code made at run time and had no name: worth another try when the perf map grows.
    anonymous: bool,
    /// What the stack has of each module that it runs through.
    tallies: Box<[(Part, Tally)]>,
}

/// Where an address lies.
struct Place<'a> {
    module: Option<&'a Mapping>,
    home: Home,
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
        let before = self.memories.remove(&pid).unwrap_or_default();
        self.memories.insert(pid, before.learn(pid, mappings, &mut self.objects));
        self.sites.retain(|_, site| site.pid != pid || !site.homeless);
    }

    /// Reads on in the perf maps of targets that had code without a name; their call sites are then
    /// named anew. Costs one look at a file for each such target.
    pub fn refresh(&mut self) {
        for (pid, memory) in &mut self.memories {
            let waits = |site: &NamedSite| site.pid == *pid && site.anonymous;
            if self.sites.values().any(waits) && memory.refresh() {
                self.sites.retain(|_, site| !waits(site));
            }
        }
    }

    /// The file that a call lies in, by its return address.
    pub fn file(&self, pid: Pid, frame: u64) -> Option<FileId> {
        self.place(pid, frame).module.and_then(Mapping::file)
    }

    /// What these call sites' names lack, by module; only of those that have been named.
    pub fn modules(&mut self, sites: impl Iterator<Item = u32>) -> Vec<report::Module> {
        let named = sites.filter_map(|site| self.sites.get(&site));
        let tallies: Vec<&(Part, Tally)> = named.flat_map(|site| &site.tallies).collect();
        modules::describe(&tallies, &self.objects, &mut self.packages, |pid| {
            self.memories.get(&pid).map(Memory::jit_facts).unwrap_or_default()
        })
    }

    /// A stack with the functions that tail jumps have left put in between, each marked.
    fn with_tails(&mut self, pid: Pid, addresses: &[u64]) -> Vec<(u64, bool)> {
        let mut all: Vec<(u64, bool)> = Vec::with_capacity(addresses.len());
        let mut inner: Option<(u64, Spot)> = None;
        for address in addresses {
            let spot = match self.place(pid, *address).home {
                Home::Object(object, offset) if address & INTERRUPTED == 0 => {
                    Some((object, offset + 1))
                }
                _ => None,
            };
            if let (Some(outer), Some((from, running))) = (spot, inner) {
                // The call lies before the return address: so does what is looked up.
                let running = (running.0, running.1 - 1);
                for (_, offset) in self.tails.between(&self.objects, outer, running).iter() {
                    all.push((from.wrapping_add(offset.wrapping_sub(running.1 + 1)), true));
                }
            }
            all.push((*address, false));
            inner = spot.map(|spot| (*address, spot));
        }
        all
    }

    /// Names a stack now, however long it takes: the first address in a large object costs the
    /// reading of its symbols or debug information.
    pub fn name(&mut self, pid: Pid, addresses: &[u64]) -> Arc<[report::Frame]> {
        for address in addresses {
            self.look_up(pid, *address);
        }
        self.named_site(pid, addresses).frames
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
            self.push_frames(pid, *address, false, &mut frames);
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
                let named_site = self.named_site(pid, &addresses);
                self.sites.insert(site, named_site);
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
        match self.place(pid, address).home {
            Home::Object(object, offset) => self.objects.look_up(object, offset),
            Home::Jit | Home::Nobody(_) => false,
        }
    }

    fn named_site(&mut self, pid: Pid, addresses: &[u64]) -> NamedSite {
        let (mut homeless, mut anonymous) = (false, false);
        let mut frames = Vec::with_capacity(addresses.len());
        let mut tallies: Vec<(Part, Tally)> = Vec::new();
        for (address, tail) in self.with_tails(pid, addresses) {
            if tail {
                self.look_up(pid, address);
            }
            let first = frames.len();
            self.push_frames(pid, address, tail, &mut frames);
            let new = frames.get(first..).unwrap_or_default();
            let part = match self.place(pid, address).home {
                Home::Object(object, _) => Part::Object(object),
                Home::Jit => {
                    anonymous |= new.iter().any(|frame| frame.symbol.is_none());
                    Part::Jit(pid)
                }
                Home::Nobody(why) => {
                    homeless |= why == NO_MAPPING;
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
        NamedSite { pid, frames: frames.into(), homeless, anonymous, tallies: tallies.into() }
    }

    fn all_known(&self, pid: Pid, addresses: &[u64]) -> bool {
        addresses.iter().all(|address| match self.place(pid, *address).home {
            Home::Object(object, offset) => self.objects.levels(object, offset).is_some(),
            Home::Jit | Home::Nobody(_) => true,
        })
    }

    /// Where the call before a return address lies. The address itself may be the next function's
    /// (after a call that never returns), or the next line's. What a signal interrupted was no call.
    fn place(&self, pid: Pid, frame: u64) -> Place<'_> {
        let call = match frame & INTERRUPTED {
            0 => frame.wrapping_sub(1),
            _ => frame & !INTERRUPTED,
        };
        let memory = self.memories.get(&pid);
        let Some((memory, module)) =
            memory.and_then(|memory| Some((memory, memory.mappings.find(call)?)))
        else {
            return Place { module: None, home: Home::Nobody(NO_MAPPING) };
        };
        Place { module: Some(module), home: memory.home(module, call, &self.objects) }
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
            address: report::Address(address),
            symbol: level.symbol.clone(),
            offset: level.offset,
            module: module.clone(),
            // An offset into anonymous memory means nothing to anybody.
            module_offset: module_offset.filter(|_| module.is_some()),
            file: level.file.clone(),
            line: level.line,
            inlined: level.inlined,
            tail_call,
            why_unnamed: level.why_unnamed.as_deref().map(Arc::from),
        };
        match place.home {
            Home::Nobody(why) => frames.push(frame(&Level::unnamed(why))),
            Home::Jit => {
                let memory = self.memories.get(&pid);
                frames.extend(memory.map(|memory| frame(&memory.made_at_run_time(address))));
            }
            Home::Object(object, offset) => match self.objects.levels(object, offset) {
                None => frames.push(frame(&Level::unnamed(NOT_YET))),
                Some(levels) => frames.extend(levels.iter().map(frame)),
            },
        }
    }
}

#[cfg(test)]
mod tests;
