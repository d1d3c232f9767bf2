//! What is known of each call site: sums, and which stack it is.
//!
//! A call site of the kernel's numbering belongs to one target. What a child inherits stands at call
//! sites of its own, numbered behind the kernel's: the same stack, in another process. Pure.

use std::{collections::HashMap, sync::Arc};

use tracer_common::{
    attach::ProbeNumber,
    descriptor::{FdOrigin, FdType},
    limits,
    stack::StackEnd,
    state::Died,
};

use super::{
    connections::Connections,
    decode::{Block, Site},
    ranges::Gone,
};
use crate::target::Pid;

/// The first number of a call site of what was inherited: behind those that the kernel side gives.
const FIRST_COPY: u32 = limits::SITES;

/// A number of resources and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Resources.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Sum {
    /// Adds one resource.
    pub const fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }

    /// Adds those of another sum.
    pub const fn merge(&mut self, more: Self) {
        self.count += more.count;
        self.bytes += more.bytes;
    }

    /// Takes one resource away.
    pub(super) const fn remove(&mut self, bytes: u64) {
        self.count -= 1;
        self.bytes -= bytes;
    }
}

/// What is known of one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) acquired: Sum,
    pub(super) inherited: Sum,
    pub(super) released: Sum,
    pub(super) outstanding: Sum,
    pub(super) died: Died,
}

impl Tally {
    /// Everything acquired, what died young included.
    pub const fn acquired(&self) -> Sum {
        Sum {
            count: self.acquired.count + self.died.count,
            bytes: self.acquired.bytes + self.died.bytes,
        }
    }

    /// Everything that came with a fork, as a copy of what the parent held.
    pub const fn inherited(&self) -> Sum {
        self.inherited
    }

    /// Everything released, what died young included.
    pub const fn released(&self) -> Sum {
        Sum {
            count: self.released.count + self.died.count,
            bytes: self.released.bytes + self.died.bytes,
        }
    }

    /// What is outstanding.
    pub const fn outstanding(&self) -> Sum {
        self.outstanding
    }

    /// One resource comes with a fork.
    pub(super) const fn inherit(&mut self, bytes: u64) {
        self.inherited.add(bytes);
        self.outstanding.add(bytes);
    }

    /// One outstanding resource is released.
    pub(super) const fn settle(&mut self, bytes: u64) {
        self.released.add(bytes);
        self.outstanding.remove(bytes);
    }

    /// That was wrong: it is outstanding still.
    pub(super) const fn unsettle(&mut self, bytes: u64) {
        self.released.remove(bytes);
        self.outstanding.add(bytes);
    }
}

/// The call site of what a process has inherited, or of what was found in it.
#[derive(Debug)]
struct Copied {
    pid: Pid,
    /// Its number in the process that acquired; its own for what was found.
    origin: u32,
    /// What it stands for, if nobody called.
    found: Option<Site>,
    /// Whether another program runs in the process by now.
    former: bool,
    tally: Tally,
}

/// Every call site.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// By number; number 0 is the unknown call site.
    sites: Vec<Option<Site>>,
    tallies: Vec<Tally>,
    copies: Vec<Copied>,
    by_origin: HashMap<(Pid, u32), u32>,
    by_sort: HashMap<(Pid, FdOrigin, FdType), u32>,
    /// What each connection holds of all that.
    pub(super) connections: Connections,
}

impl Book {
    /// A resource was acquired.
    pub(super) fn acquire(&mut self, block: &Block) {
        let tally = self.tally(block.site);
        tally.acquired.add(block.size);
        tally.outstanding.add(block.size);
        self.connections.add(block, true);
    }

    /// One came with a fork.
    pub(super) fn inherit(&mut self, block: &Block) {
        self.tally(block.site).inherit(block.size);
        self.connections.add(block, true);
    }

    /// One was released.
    pub(super) fn settle(&mut self, block: &Block) {
        self.tally(block.site).settle(block.size);
        self.connections.take(block, true);
    }

    /// That was wrong: it is outstanding still.
    pub(super) fn unsettle(&mut self, block: &Block) {
        self.tally(block.site).unsettle(block.size);
        self.connections.add(block, true);
    }

    /// What was acquired at one call site was acquired at another one.
    pub(super) fn retag(&mut self, block: &Block, site: u32) -> Block {
        let tally = self.tally(block.site);
        tally.acquired.remove(block.size);
        tally.outstanding.remove(block.size);
        self.connections.take(block, true);
        let block = Block { site, ..*block };
        self.acquire(&block);
        block
    }

    /// The same of what has been settled since.
    pub(super) fn retag_settled(&mut self, block: &Block, site: u32) {
        let tally = self.tally(block.site);
        tally.acquired.remove(block.size);
        tally.released.remove(block.size);
        let tally = self.tally(site);
        tally.acquired.add(block.size);
        tally.released.add(block.size);
    }

    /// A block has another size from now on.
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

    /// Nobody knows whether it was released.
    pub(super) fn set_aside(&mut self, block: &Block) {
        self.tally(block.site).outstanding.remove(block.size);
        self.connections.take(block, true);
    }

    /// Parts were released.
    pub(super) fn settle_parts(&mut self, parts: &[Gone]) {
        for Gone { block, last, .. } in parts {
            let tally = self.tally(block.site);
            tally.released.bytes += block.size;
            tally.outstanding.bytes -= block.size;
            tally.released.count += u64::from(*last);
            tally.outstanding.count -= u64::from(*last);
            self.connections.take(block, *last);
        }
    }

    /// That was wrong of one: it is outstanding still.
    pub(super) fn unsettle_part(&mut self, Gone { block, last, .. }: &Gone) {
        let tally = self.tally(block.site);
        tally.released.bytes -= block.size;
        tally.outstanding.bytes += block.size;
        tally.released.count -= u64::from(*last);
        tally.outstanding.count += u64::from(*last);
        self.connections.add(block, *last);
    }

    /// Learns what a number of the kernel's stands for.
    pub(super) fn learn(&mut self, site: Site) {
        let number = site.number as usize;
        if self.sites.len() <= number {
            self.sites.resize(number + 1, None);
        }
        if let Some(place) = self.sites.get_mut(number) {
            *place = Some(site);
        }
    }

    /// The number under which `pid` has what it inherited of the call site `site`.
    pub(super) fn copy(&mut self, pid: Pid, site: u32) -> u32 {
        let origin = self.origin(site);
        *self.by_origin.entry((pid, origin)).or_insert_with(|| {
            let known = self.sites.get(origin as usize).and_then(Option::as_ref);
            let former = known.is_some_and(|site| site.former);
            self.copies.push(Copied { pid, origin, found: None, former, tally: Tally::default() });
            FIRST_COPY + u32::try_from(self.copies.len() - 1).unwrap_or(0)
        })
    }

    /// The number under which stand the descriptors of one sort that were found in `pid`.
    pub(super) fn found(&mut self, pid: Pid, opener: FdOrigin, sort: FdType) -> u32 {
        *self.by_sort.entry((pid, opener, sort)).or_insert_with(|| {
            let number = FIRST_COPY + u32::try_from(self.copies.len()).unwrap_or(0);
            let frames = Arc::from([]);
            let (probe, end) = (opener.probe(), StackEnd::Bottom);
            let (former, origin) = (false, None);
            let detail = 0;
            let site = Site { number, pid, probe, sort, detail, frames, end, former, origin };
            let (found, tally) = (Some(site), Tally::default());
            self.copies.push(Copied { pid, origin: number, found, former, tally });
            number
        })
    }

    /// Another program runs in `pid`: the addresses of its call sites are of the one before.
    pub(super) fn executed(&mut self, pid: Pid) {
        for site in self.sites.iter_mut().flatten().filter(|site| site.pid == pid) {
            site.former = true;
        }
        for copied in self.copies.iter_mut().filter(|copied| copied.pid == pid) {
            copied.former = true;
        }
    }

    fn origin(&self, site: u32) -> u32 {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        copied.map_or(site, |copied| copied.origin)
    }

    /// The sums of a call site.
    pub(super) fn tally(&mut self, site: u32) -> &mut Tally {
        if let Some(index) = site.checked_sub(FIRST_COPY) {
            #[expect(clippy::indexing_slicing, reason = "such numbers are given by `copy` alone")]
            return &mut self.copies[index as usize].tally;
        }
        let site = site as usize;
        if self.tallies.len() <= site {
            self.tallies.resize(site + 1, Tally::default());
        }
        #[expect(clippy::indexing_slicing, reason = "made to be there by the lines above")]
        &mut self.tallies[site]
    }

    /// Numbers of the kernel's in use: every one is below.
    pub(super) fn numbers(&self) -> usize {
        self.sites.len()
    }

    /// Call sites in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Option<Site>, Tally)> {
        let count = self.sites.len().max(self.tallies.len());
        let own = (0..count).map(|number| {
            let tally = self.tallies.get(number).copied().unwrap_or_default();
            let site = self.sites.get(number).cloned().flatten();
            (u32::try_from(number).unwrap_or(0), site, tally)
        });
        let copied = (FIRST_COPY..).zip(&self.copies).map(|(number, copied)| {
            let found = copied.origin.checked_sub(FIRST_COPY);
            let origin = match found.and_then(|index| self.copies.get(index as usize)) {
                Some(found) => found.found.clone(),
                None => self.sites.get(copied.origin as usize).cloned().flatten(),
            };
            let (pid, former) = (copied.pid, copied.former);
            let of = (copied.origin != number).then_some(copied.origin);
            let site = origin.map(|site| Site { number, pid, former, origin: of, ..site });
            (number, site, copied.tally)
        });
        own.chain(copied)
    }

    /// Number of the probe that a call site is of.
    pub(super) fn probe_of(&self, site: u32) -> Option<ProbeNumber> {
        self.sites.get(site as usize)?.as_ref().map(|site| site.probe)
    }

    /// Whose a call site is and where its resources were first acquired; for tests.
    #[cfg(test)]
    pub(super) fn root(&self, site: u32) -> (Option<Pid>, u32) {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        (copied.map(|copied| copied.pid), self.origin(site))
    }
}
