//! Call sites of several processes as one: those whose stacks are equal, frame by frame, in the same executable.
//!
//! A server's workers run the same code, and a leak is one cause in all of them. Takes a snapshot, in which each process
//! has its call sites, returns one in which each stack has one, with the sums, under an id of its own. Frames are equal if
//! they are at the same place of the same file; in memory without a file, if they have the same address in processes that
//! forked from each other. Pure.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tracer_common::{
    attach::ProbeNumber,
    descriptor::FdType,
    limits,
    stack::{INTERRUPTED, StackEnd},
};

use crate::{
    ledger::{FunctionKey, Lives, Sum, connections::LeftBehind},
    lib_objects::ledger::{Objects, SiteObjects},
    report::OfProcess,
    snapshot::{Apart, SiteFigures, SiteThreads, Snapshot},
    target::{
        Pid,
        mappings::{FileId, Mappings},
    },
};

/// Processes that are listed for one call site.
const LISTED: usize = 20;
/// The first id that no call site's number is.
const FIRST_ID: u32 = limits::SITES * 64;

/// A place in code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// Of a file, with the offset.
    File(FileId, u64),
    /// Of a program in memory, with the address.
    Memory(u32, u64),
}

/// What distinguishes stacks in all processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Path {
    probe: Option<ProbeNumber>,
    fd_type: FdType,
    detail: u8,
    end: StackEnd,
    executable: Option<FileId>,
    places: Vec<Place>,
}

/// The same in processes that forked from each other, whose frames have the same addresses.
type Stack = (u32, Option<ProbeNumber>, FdType, u8, StackEnd, Arc<[u64]>);

/// The id of a stack in processes that forked from each other.
#[derive(Clone, Debug)]
struct Known {
    id: u32,
    /// Whether each frame was in a file.
    is_whole: bool,
    /// The memory map that says so. After an exec, the first one lacks libraries that are about to be mapped, and the stack
    /// would stay apart from those of all other processes.
    mappings: Option<Arc<Mappings>>,
}

impl Known {
    /// Whether a memory map says nothing new about the stack.
    fn holds(&self, mappings: Option<&Arc<Mappings>>) -> bool {
        let is_same = match (&self.mappings, mappings) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        self.is_whole || is_same
    }
}

/// The ids of stacks.
#[derive(Debug, Default)]
pub(super) struct Processes {
    mappings: HashMap<Pid, Arc<Mappings>>,
    /// Of each program in memory.
    images: HashMap<u32, Arc<Mappings>>,
    /// A process that runs each of them now.
    users: HashMap<u32, Pid>,
    ids: HashMap<Path, u32>,
    stacks: HashMap<Stack, Known>,
    taken: HashSet<u32>,
    next: u32,
}

impl Processes {
    /// The snapshot with one call site for each stack.
    pub(super) fn merge<'a>(&mut self, seen: &'a Snapshot) -> Cow<'a, Snapshot> {
        for (pid, mappings) in &seen.mappings {
            self.mappings.insert(*pid, Arc::clone(mappings));
        }
        let first = seen.sites.iter().find_map(|site| site.pid);
        let alone =
            |site: &SiteFigures| site.origin.is_none() && (site.pid.is_none() || site.pid == first);
        if self.ids.is_empty() && seen.sites.iter().all(alone) {
            return Cow::Borrowed(seen);
        }
        self.learn_images(&seen.sites);
        // Names are looked up in processes that still run, if there is one.
        for pid in &seen.ended {
            self.mappings.remove(pid);
        }
        let runs = |site: &&SiteFigures| {
            !site.former && site.pid.is_some_and(|pid| self.mappings.contains_key(&pid))
        };
        let running = seen.sites.iter().rev().filter(runs);
        self.users = running.filter_map(|site| Some((site.image, site.pid?))).collect();
        let (mut rows, mut past) = (BTreeMap::<u32, Vec<&SiteFigures>>::new(), seen.past.clone());
        let mut stacks = HashMap::with_capacity(self.stacks.len());
        let mut id_of = HashMap::with_capacity(seen.sites.len());
        for site in &seen.sites {
            // What is left of a process that has ended, until its call sites are gone.
            if let (Some(pid), Some(probe)) = (site.pid, site.probe)
                && site.outstanding.count == 0
                && !self.mappings.contains_key(&pid)
                && !self.images.contains_key(&site.image)
            {
                past.push(((probe, site.fd_type, site.detail), site.acquired));
                continue;
            }
            let id = self.id(site, &mut stacks);
            id_of.insert(site.number, id);
            rows.entry(id).or_default().push(site);
        }
        self.stacks = stacks;
        let snapshot = Snapshot {
            sites: rows.into_iter().map(|(id, all)| self.row(id, &all)).collect(),
            past,
            objects: seen.objects.as_ref().map(|objects| renumbered(objects, &id_of)),
            threads: threads_by_id(&seen.threads, &id_of),
            ..with_ids(seen, &id_of)
        };
        self.forget_images(&seen.sites);
        Cow::Owned(snapshot)
    }

    /// Learns the memory maps of programs: those of the processes that run them now.
    fn learn_images(&mut self, sites: &[SiteFigures]) {
        for site in sites.iter().filter(|site| !site.former && site.image != 0) {
            if let Some(mappings) = site.pid.and_then(|pid| self.mappings.get(&pid)) {
                self.images.insert(site.image, Arc::clone(mappings));
            }
        }
    }

    fn forget_images(&mut self, sites: &[SiteFigures]) {
        let used: HashSet<u32> = sites.iter().map(|site| site.image).collect();
        self.images.retain(|image, _| used.contains(image));
        // Ids of code in memory that is gone: their paths will not be seen again.
        self.ids.retain(|path, _| {
            path.places.iter().all(|place| match place {
                Place::File(..) => true,
                Place::Memory(image, _) => used.contains(image),
            })
        });
    }

    /// The id of a call site's stack: the number of the first call site that had it, unless that is taken.
    fn id(&mut self, site: &SiteFigures, stacks: &mut HashMap<Stack, Known>) -> u32 {
        if site.pid.is_none() {
            return site.number;
        }
        let SiteFigures { image, probe, fd_type, detail, end, .. } = *site;
        let stack = (image, probe, fd_type, detail, end, Arc::clone(&site.frames));
        let mappings = self.images.get(&image);
        if let Some(known) = self.stacks.get(&stack).filter(|known| known.holds(mappings)) {
            stacks.insert(stack, known.clone());
            return known.id;
        }
        let path = Path {
            probe,
            fd_type,
            detail,
            end,
            executable: mappings.and_then(|all| Some(all.objects().first()?.file)),
            places: site.frames.iter().map(|frame| place(image, *frame, mappings)).collect(),
        };
        let is_whole = path.places.iter().all(|place| matches!(place, Place::File(..)));
        let mappings = mappings.cloned();
        let Self { ids, taken, next, .. } = self;
        let id = *ids.entry(path).or_insert_with(|| {
            if taken.insert(site.number) {
                return site.number;
            }
            *next += 1;
            FIRST_ID + *next
        });
        stacks.insert(stack, Known { id, is_whole, mappings });
        id
    }

    /// One call site for all: the sums, and the stack as a process sees it that still runs, whose program has been in memory
    /// for longest, and that has most.
    fn row(&self, id: u32, all: &[&SiteFigures]) -> SiteFigures {
        let rank = |site: &&&SiteFigures| {
            let gone = site.pid.is_none_or(|pid| !self.mappings.contains_key(&pid));
            (site.former, gone, site.image, u64::MAX - site.aged.bytes, u64::MAX - site.aged.count)
        };
        // Never empty.
        let Some(shown) = all.iter().min_by_key(rank) else { return SiteFigures::default() };
        let mut by_process: BTreeMap<Pid, Sum> = BTreeMap::new();
        let mut figures = SiteFigures {
            number: id,
            origin: None,
            acquired: Sum::default(),
            inherited: Sum::default(),
            released: Sum::default(),
            outstanding: Sum::default(),
            aged: Sum::default(),
            apart: Apart::default(),
            ages: None,
            lives: None,
            batches: None,
            former: all.iter().all(|site| site.former),
            pid: shown
                .pid
                .filter(|pid| self.mappings.contains_key(pid))
                .or_else(|| self.users.get(&shown.image).copied())
                .or(shown.pid),
            ..(**shown).clone()
        };
        figures.orphans = LeftBehind::default();
        for site in all {
            figures.acquired.merge(site.acquired);
            figures.inherited.merge(site.inherited);
            figures.released.merge(site.released);
            figures.outstanding.merge(site.outstanding);
            figures.aged.merge(site.aged);
            figures.ages = match (figures.ages, site.ages) {
                (Some(one), Some(other)) => {
                    Some(one.merged(other, figures.aged.count - site.aged.count, site.aged.count))
                }
                (one, other) => one.or(other),
            };
            figures.orphans.sum.merge(site.orphans.sum);
            figures.orphans.connections += site.orphans.connections;
            if let Some(share) = site.orphans.share {
                figures.orphans.share =
                    Some((figures.orphans.share.unwrap_or(0.0) + share).min(1.0));
            }
            if let Some(batches) = &site.batches {
                figures.batches.get_or_insert_default().merge(batches);
            }
            if let Some(pid) = site.pid.filter(|_| site.aged.count > 0) {
                by_process.entry(pid).or_default().merge(site.aged);
            }
        }
        // Copies that came with a fork say nothing about a leak, where the originals are there.
        let own = |site: &&&SiteFigures| site.origin.is_none();
        if all.iter().any(|site| own(&site)) {
            for site in all.iter().filter(|site| !own(site)) {
                figures.apart.acquired.merge(site.acquired);
                figures.apart.released.merge(site.released);
                figures.apart.outstanding.merge(site.outstanding);
            }
            let lives = all.iter().filter(own).filter_map(|site| site.lives.as_ref());
            figures.lives = Lives::merged(&lives.collect::<Vec<_>>());
        } else {
            let lives = all.iter().filter_map(|site| site.lives.as_ref());
            figures.lives = Lives::merged(&lives.collect::<Vec<_>>());
        }
        figures.processes = by_process.into_iter().collect();
        figures
            .processes
            .sort_by_key(|(pid, sum)| (u64::MAX - sum.bytes, u64::MAX - sum.count, *pid));
        figures
    }
}

fn place(image: u32, frame: u64, mappings: Option<&Arc<Mappings>>) -> Place {
    let address = frame & !INTERRUPTED;
    let mapping = mappings.and_then(|all| all.find(address));
    let of_file = mapping.and_then(|one| Some((one.file()?, one.file_offset_of(address)?)));
    match of_file {
        Some((file, offset)) => Place::File(file, offset | frame & INTERRUPTED),
        None => Place::Memory(image, frame),
    }
}

/// The parts of a snapshot that name call sites, with their new ids; without call sites and objects.
fn with_ids(seen: &Snapshot, id_of: &HashMap<u32, u32>) -> Snapshot {
    let renumber = |site: &mut u32| *site = id_of.get(site).copied().unwrap_or(0);
    let mut descriptors = seen.descriptors.clone();
    descriptors.iter_mut().for_each(|one| renumber(&mut one.open.site));
    let mut connections = seen.connections.clone();
    if let Some(figures) = &mut connections {
        for shown in figures.table.iter_mut().chain(&mut figures.recent) {
            if shown.connection.site != 0 {
                renumber(&mut shown.connection.site);
            }
        }
    }
    Snapshot {
        at_ns: seen.at_ns,
        last: seen.last,
        sites: Vec::new(),
        threads: BTreeMap::new(),
        lives_origin_ns: seen.lives_origin_ns,
        losses: seen.losses.clone(),
        unknown_releases: seen.unknown_releases,
        unknown_blocks: seen.unknown_blocks,
        hits: seen.hits.clone(),
        descriptors,
        unseen: seen.unseen,
        objects: None,
        connections,
        past: Vec::new(),
        ended: seen.ended.clone(),
        resident: seen.resident.clone(),
        usage: seen.usage.clone(),
        unwind: seen.unwind,
        without_table: seen.without_table.clone(),
        process_events: seen.process_events.clone(),
        sampling: seen.sampling,
        mappings: seen.mappings.clone(),
        limits: seen.limits.clone(),
        heap: seen.heap,
        verified: seen.verified,
    }
}

fn renumbered(objects: &Objects, id_of: &HashMap<u32, u32>) -> Objects {
    let mut sites: BTreeMap<u32, SiteObjects> = BTreeMap::new();
    for (site, of_site) in &objects.sites {
        let Some(id) = id_of.get(site) else { continue };
        sites.entry(*id).and_modify(|sum| sum.merge(of_site)).or_insert(*of_site);
    }
    let mut shown = objects.shown.clone();
    shown
        .iter_mut()
        .for_each(|one| one.block.site = id_of.get(&one.block.site).copied().unwrap_or(0));
    let mut owners = objects.owners.clone();
    let id = |site: &mut u32| *site = id_of.get(site).copied().unwrap_or(0);
    for owner in &mut owners {
        id(&mut owner.owned.site);
        owner.owned.blocks.iter_mut().for_each(|(site, ..)| id(site));
    }
    Objects { sites, shown, owners }
}

fn threads_by_id(
    seen: &BTreeMap<u32, SiteThreads>,
    id_of: &HashMap<u32, u32>,
) -> BTreeMap<u32, SiteThreads> {
    let mut sites: BTreeMap<u32, SiteThreads> = BTreeMap::new();
    for (site, threads) in seen {
        sites.entry(id_of.get(site).copied().unwrap_or(0)).or_default().merge(*threads);
    }
    sites
}

/// Processes that hold something acquired at a call site.
pub(super) fn count(site: &SiteFigures) -> u32 {
    u32::try_from(site.processes.len().max(1)).unwrap_or(u32::MAX)
}

/// What each of several processes holds, as reports list it.
pub(super) fn listed(site: &SiteFigures) -> Vec<OfProcess> {
    let several = if site.processes.len() > 1 { site.processes.as_slice() } else { &[] };
    let most = several.iter().take(LISTED);
    most.map(|(pid, sum)| OfProcess { pid: pid.0, count: sum.count, bytes: sum.bytes }).collect()
}

/// What processes that have ended did by means of a function, as a call site.
pub(super) fn of_past((probe, fd_type, detail): FunctionKey, sum: Sum) -> SiteFigures {
    let (acquired, released) = (sum, sum);
    SiteFigures {
        probe: Some(probe),
        fd_type,
        detail,
        acquired,
        released,
        ..SiteFigures::default()
    }
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
