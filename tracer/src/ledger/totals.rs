//! Totals by call site, and the stack of each.
//!
//! A call site that the BPF programs number belongs to one target. Resources that a child inherits get call
//! sites of their own, numbered after those: the same stack, in another process. So do descriptors that a scan found,
//! releases of what had been released before, and what processes that have ended did. The numbers of a process are free again some time after its end. Pure.

mod found;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;
use tracer_common::{
    attach::ProbeNumber,
    descriptor::{FdOrigin, FdType},
    limits,
    state::Died,
};

use super::{
    connections::Connections,
    derived::{Copied, Derived},
    events::{Block, Site},
    lives::AllLives,
    past::{FunctionKey, Past},
    ranges::FreedPart,
    sum::Sum,
    tally::Tally,
    trees::Image,
};
use crate::target::Pid;

/// The first number of a copied call site: after those that the BPF programs use.
const FIRST_COPY: u32 = limits::SITES;

/// Every call site.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// By number; number 0 is the unknown call site.
    sites: Vec<Option<Site>>,
    tallies: Vec<Tally>,
    /// What had died young at a number before its present call site had it.
    died_before: HashMap<u32, Died, FixedState>,
    copies: Vec<Copied>,
    free_copies: Vec<u32>,
    by_origin: HashMap<(Pid, u32), u32, FixedState>,
    by_fd_type: HashMap<(Pid, FdOrigin, FdType), u32>,
    /// Call sites of releases of what had been released before, by the probe and the return address.
    by_release: HashMap<(Pid, ProbeNumber, u64), u32, FixedState>,
    /// Call sites of later generations of code, by the first one's number and their own addresses.
    by_generation: HashMap<(u32, Arc<[u64]>), u32, FixedState>,
    /// The call sites of each process.
    of_process: HashMap<Pid, Vec<u32>, FixedState>,
    /// What processes did that have ended.
    past: Past,
    /// The resources that each connection holds.
    pub(super) connections: Connections,
    /// How long the resources of each call site live.
    pub(super) lives: AllLives,
}

impl Totals {
    /// Records an acquisition.
    pub(super) fn acquire(&mut self, block: &Block) {
        let tally = self.tally(block.site);
        tally.acquired.add(block.size);
        tally.outstanding.add(block.size);
        let young = tally.died.count;
        self.lives.acquire(block, young);
        self.connections.add(block, true);
    }

    /// Records a resource that came with a fork.
    pub(super) fn inherit(&mut self, block: &Block) {
        self.tally(block.site).inherit(block.size);
        self.lives.acquire(block, 0);
        self.connections.add(block, true);
    }

    /// Records a release.
    pub(super) fn settle(&mut self, block: &Block) {
        self.tally(block.site).settle(block.size);
        self.lives.release(block);
        self.connections.take(block, true);
    }

    /// Undoes [`Self::settle`]: the resource is still outstanding.
    pub(super) fn unsettle(&mut self, block: &Block) {
        self.tally(block.site).unsettle(block.size);
        self.lives.unrelease(block);
        self.connections.add(block, true);
    }

    /// Moves an outstanding resource to another call site.
    pub(super) fn retag(&mut self, block: &Block, site: u32) -> Block {
        let tally = self.tally(block.site);
        tally.acquired.remove(block.size);
        tally.outstanding.remove(block.size);
        self.lives.withdraw(block);
        self.connections.take(block, true);
        let block = Block { site, ..*block };
        self.acquire(&block);
        block
    }

    /// The same for a resource that has been settled since.
    pub(super) fn retag_settled(&mut self, block: &Block, site: u32) {
        let tally = self.tally(block.site);
        tally.acquired.remove(block.size);
        tally.released.remove(block.size);
        let tally = self.tally(site);
        tally.acquired.add(block.size);
        tally.released.add(block.size);
    }

    /// Changes the size of a block.
    pub(super) fn resize(&mut self, block: &Block, size: u64) -> Block {
        let tally = self.tally(block.site);
        tally.outstanding.remove(block.size);
        tally.outstanding.add(size);
        tally.acquired.bytes += size.saturating_sub(block.size);
        tally.released.bytes += block.size.saturating_sub(size);
        self.connections.take(block, true);
        let block = Block { size, ..*block };
        self.connections.add(&block, true);
        block
    }

    /// Removes a resource from the outstanding ones: it may have been released.
    pub(super) fn set_aside(&mut self, block: &Block) {
        self.tally(block.site).outstanding.remove(block.size);
        self.lives.withdraw(block);
        self.connections.take(block, true);
    }

    /// Records the release of parts.
    pub(super) fn settle_parts(&mut self, parts: &[FreedPart]) {
        for FreedPart { block, last, .. } in parts {
            let tally = self.tally(block.site);
            tally.released.bytes += block.size;
            tally.outstanding.bytes -= block.size;
            tally.released.count += u64::from(*last);
            tally.outstanding.count -= u64::from(*last);
            if *last {
                self.lives.release(block);
            }
            self.connections.take(block, *last);
        }
    }

    /// Undoes the release of one part.
    pub(super) fn unsettle_part(&mut self, FreedPart { block, last, .. }: &FreedPart) {
        let tally = self.tally(block.site);
        tally.released.bytes -= block.size;
        tally.outstanding.bytes += block.size;
        tally.released.count -= u64::from(*last);
        tally.outstanding.count += u64::from(*last);
        if *last {
            self.lives.unrelease(block);
        }
        self.connections.add(block, *last);
    }

    /// Stores the details of a call site that the BPF programs number.
    pub(super) fn learn(&mut self, site: Site) {
        self.of_process.entry(site.pid).or_default().push(site.number);
        let number = site.number as usize;
        if self.sites.len() <= number {
            self.sites.resize(number + 1, None);
        }
        if let Some(place) = self.sites.get_mut(number) {
            *place = Some(site);
        }
    }

    /// The number of `pid`'s copy of the call site `site`, for inherited resources.
    pub(super) fn copy(&mut self, pid: Pid, site: u32) -> u32 {
        let origin = self.origin(site);
        if let Some(known) = self.by_origin.get(&(pid, origin)) {
            return *known;
        }
        let known = self.sites.get(origin as usize).and_then(Option::as_ref);
        let former = known.is_some_and(|site| site.former);
        let tally = Tally::default();
        let what = Derived::Copy;
        let number = self.add_copied(|_| Copied { what, pid, origin, site: None, former, tally });
        self.by_origin.insert((pid, origin), number);
        self.of_process.entry(pid).or_default().push(number);
        number
    }

    /// Adds a call site under a free number, which it gets.
    fn add_copied(&mut self, copied: impl FnOnce(u32) -> Copied) -> u32 {
        let next = || FIRST_COPY + u32::try_from(self.copies.len()).unwrap_or(0);
        let number = self.free_copies.pop().unwrap_or_else(next);
        let copied = copied(number);
        match self.copies.get_mut((number - FIRST_COPY) as usize) {
            Some(place) => *place = copied,
            None => self.copies.push(copied),
        }
        number
    }

    /// The addresses of a call site that the BPF programs number, as they know them.
    pub(super) fn unwound(&self, site: u32) -> Option<&Arc<[u64]>> {
        self.sites.get(site as usize)?.as_ref().map(|site| &site.unwound)
    }

    /// The number of the call site whose stack is that of `site` in the generations of code that `frames` has.
    pub(super) fn generation(&mut self, site: u32, frames: Arc<[u64]>) -> u32 {
        let first = self.sites.get(site as usize).and_then(Option::as_ref);
        let Some(first) = first.filter(|own| own.frames != frames) else { return site };
        let (key, first) = ((site, frames), first.clone());
        if let Some(known) = self.by_generation.get(&key) {
            return *known;
        }
        let pid = first.pid;
        let number = self.add_copied(|number| {
            let former = first.former;
            let site = Some(Site { number, frames: Arc::clone(&key.1), ..first });
            let (tally, what) = (Tally::default(), Derived::Generation);
            Copied { what, pid, origin: number, site, former, tally }
        });
        self.by_generation.insert(key, number);
        self.of_process.entry(pid).or_default().push(number);
        number
    }

    /// Sets what has died young at a call site, of which its number may have had others before. Returns it.
    pub(super) fn set_died(&mut self, site: u32, died: Died) -> Died {
        let before = self.died_before.get(&site).copied().unwrap_or_default();
        let died = Died {
            count: died.count.saturating_sub(before.count),
            bytes: died.bytes.saturating_sub(before.bytes),
        };
        if died.count > 0 {
            self.tally(site).died = died;
        }
        died
    }

    /// The call sites of a process that the BPF programs have numbered.
    pub(super) fn numbered(&self, pid: Pid) -> impl Iterator<Item = &Site> {
        let numbers = self.of_process.get(&pid).into_iter().flatten();
        numbers.filter_map(|number| self.sites.get(*number as usize)?.as_ref())
    }

    /// Gives back the call sites of processes that have ended, of which nothing is outstanding. Their totals are added to
    /// those of the past; `user` is a living process that has an image. Returns the numbers that the BPF programs may use
    /// again.
    pub(super) fn retire(
        &mut self,
        pids: &[Pid],
        user: impl Fn(Image) -> Option<Pid>,
    ) -> HashSet<u32, FixedState> {
        let all = pids.iter().filter_map(|pid| self.of_process.remove(pid)).flatten();
        let gone: HashSet<u32, FixedState> = all.collect();
        self.detach_copies(&gone);
        for number in &gone {
            if number.checked_sub(FIRST_COPY).is_some() {
                self.free_copied(*number);
            } else {
                self.free_numbered(*number, &user);
            }
            self.lives.forget(*number);
        }
        self.connections.forget_sites(&gone);
        gone.into_iter().filter(|number| *number < FIRST_COPY).collect()
    }

    /// Gives copies details of their own whose origins are about to be gone.
    fn detach_copies(&mut self, gone: &HashSet<u32, FixedState>) {
        for index in 0..self.copies.len() {
            let number = FIRST_COPY + u32::try_from(index).unwrap_or(0);
            let Some(copied) = self.copies.get(index) else { continue };
            let (pid, origin) = (copied.pid, copied.origin);
            if copied.what != Derived::Copy || gone.contains(&number) || !gone.contains(&origin) {
                continue;
            }
            let site = self.details(copied).map(|site| Site { number, pid, ..site });
            if let Some(copied) = self.copies.get_mut(index) {
                copied.site = site;
                copied.origin = number;
            }
            self.by_origin.remove(&(pid, origin));
            self.by_origin.insert((pid, number), number);
        }
    }

    fn free_numbered(&mut self, number: u32, user: impl Fn(Image) -> Option<Pid>) {
        let tally = self.tallies.get_mut(number as usize).map(std::mem::take).unwrap_or_default();
        if tally.died.count > 0 {
            let before = self.died_before.entry(number).or_default();
            before.count += tally.died.count;
            before.bytes += tally.died.bytes;
        }
        let site = self.sites.get_mut(number as usize).and_then(Option::take);
        let Some(site) = site.filter(|_| tally.acquired().count > 0) else { return };
        let Some(pid) = user(site.image) else { return self.past.add(&site, tally.acquired()) };
        let Self { past, copies, free_copies, .. } = self;
        let next = || FIRST_COPY + u32::try_from(copies.len()).unwrap_or(0);
        let known = past.stack(&site, || free_copies.pop().unwrap_or_else(next));
        let Some(number) = known else { return self.past.add(&site, tally.acquired()) };
        let index = (number - FIRST_COPY) as usize;
        if self.copies.get(index).is_none_or(|copied| copied.what != Derived::Past) {
            let site = Site { number, pid, former: false, origin: None, ..site };
            let (site, former, tally) = (Some(site), false, Tally::default());
            let copied = Copied { what: Derived::Past, pid, origin: number, site, former, tally };
            match self.copies.get_mut(index) {
                Some(place) => *place = copied,
                None => self.copies.push(copied),
            }
        }
        let past = self.tally(number);
        past.acquired.merge(tally.acquired());
        past.released.merge(tally.acquired());
    }

    fn free_copied(&mut self, number: u32) {
        let Some(copied) = self.copies.get_mut((number - FIRST_COPY) as usize) else { return };
        let Copied { pid, origin, .. } = *copied;
        let tally = std::mem::take(&mut copied.tally);
        let (what, site) = (copied.what, copied.site.take());
        copied.what = Derived::Free;
        if what != Derived::Free {
            self.free_copies.push(number);
        }
        match what {
            Derived::Copy => drop(self.by_origin.remove(&(pid, origin))),
            Derived::Found => {
                self.by_fd_type.retain(|_, known| *known != number);
                self.by_release.retain(|_, known| *known != number);
                if let Some(site) = site {
                    self.past.add(&site, tally.acquired());
                }
            }
            Derived::Generation | Derived::Past => {
                self.by_generation.retain(|_, known| *known != number);
                if let Some(site) = site {
                    self.past.add(&site, tally.acquired());
                }
            }
            Derived::Free => {}
        }
    }

    /// No process has an image any more.
    pub(super) fn forget_image(&mut self, image: Image) {
        for number in self.past.forget_image(image) {
            self.free_copied(number);
        }
    }

    /// What processes that have ended acquired, and so released, by function; without what a call site stands for.
    pub(super) fn past(&self) -> impl Iterator<Item = (FunctionKey, Sum)> {
        self.past.functions()
    }

    /// `pid` has called exec: the addresses of its call sites belong to the former program.
    pub(super) fn executed(&mut self, pid: Pid) {
        let numbers = self.of_process.get(&pid).cloned();
        numbers.into_iter().flatten().for_each(|number| self.leave(number));
    }

    /// The addresses of a call site belong to a former program.
    pub(super) fn leave(&mut self, number: u32) {
        if let Some(index) = number.checked_sub(FIRST_COPY) {
            if let Some(copied) = self.copies.get_mut(index as usize) {
                copied.former = true;
            }
        } else if let Some(site) = self.sites.get_mut(number as usize).and_then(Option::as_mut) {
            site.former = true;
        }
    }

    fn origin(&self, site: u32) -> u32 {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        copied.map_or(site, |copied| copied.origin)
    }

    /// The totals of a call site.
    pub(super) fn tally(&mut self, site: u32) -> &mut Tally {
        if let Some(index) = site.checked_sub(FIRST_COPY) {
            #[expect(clippy::indexing_slicing, reason = "`copy` and `found` give such numbers")]
            return &mut self.copies[index as usize].tally;
        }
        let site = site as usize;
        if self.tallies.len() <= site {
            self.tallies.resize(site + 1, Tally::default());
        }
        #[expect(clippy::indexing_slicing, reason = "resized by the lines above")]
        &mut self.tallies[site]
    }

    /// One more than the highest call-site number that the BPF programs have used.
    pub(super) fn numbers(&self) -> usize {
        self.sites.len()
    }

    /// The details of a call site that the BPF programs do not number.
    fn details(&self, copied: &Copied) -> Option<Site> {
        if copied.site.is_some() {
            return copied.site.clone();
        }
        let derived = copied.origin.checked_sub(FIRST_COPY);
        match derived.and_then(|index| self.copies.get(index as usize)) {
            Some(origin) => origin.site.clone(),
            None => self.sites.get(copied.origin as usize).cloned().flatten(),
        }
    }

    /// Call sites by number. Those of processes that have ended belong to the process that `user` names.
    pub(super) fn iter(
        &self,
        user: impl Fn(Image) -> Option<Pid>,
    ) -> impl Iterator<Item = (u32, Option<Site>, Tally)> {
        let count = self.sites.len().max(self.tallies.len());
        let own = (0..count).map(|number| {
            let tally = self.tallies.get(number).copied().unwrap_or_default();
            let site = self.sites.get(number).cloned().flatten();
            (u32::try_from(number).unwrap_or(0), site, tally)
        });
        let used = |(_, copied): &(u32, &Copied)| copied.what != Derived::Free;
        let copied = (FIRST_COPY..).zip(&self.copies).filter(used).map(move |(number, copied)| {
            let former = copied.former;
            // Neither is what the process itself acquired.
            let apart = matches!(copied.what, Derived::Copy | Derived::Past);
            let origin = apart.then_some(copied.origin);
            let site = self.details(copied).map(|site| {
                let user = (copied.what == Derived::Past).then(|| user(site.image)).flatten();
                let pid = user.unwrap_or(copied.pid);
                Site { number, pid, former, origin, ..site }
            });
            (number, site, copied.tally)
        });
        own.chain(copied)
    }

    /// The probe of a call site, and its detail.
    pub(super) fn constructor_of(&self, site: u32) -> Option<(ProbeNumber, u8)> {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        let own = || self.sites.get(site as usize)?.as_ref();
        let later = copied.filter(|copied| copied.what == Derived::Generation);
        let site = later.map_or_else(own, |copied| copied.site.as_ref())?;
        Some((site.probe, site.detail))
    }

    /// The process that a copied call site belongs to, and the number of its origin; for tests.
    #[cfg(test)]
    pub(super) fn root(&self, site: u32) -> (Option<Pid>, u32) {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        (copied.map(|copied| copied.pid), self.origin(site))
    }
}
