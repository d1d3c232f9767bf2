//! Totals by call site, and the stack of each.
//!
//! A call site that the BPF programs number belongs to one target. Resources that a child inherits get call
//! sites of their own, numbered after those: the same stack, in another process. Pure.

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
    events::{Block, Site},
    lives::AllLives,
    ranges::FreedPart,
    sum::Sum,
};
use crate::target::Pid;

/// The first number of a copied call site: after those that the BPF programs use.
const FIRST_COPY: u32 = limits::SITES;

/// Totals of one call site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) acquired: Sum,
    pub(super) inherited: Sum,
    pub(super) released: Sum,
    pub(super) outstanding: Sum,
    pub(super) died: Died,
}

impl Tally {
    /// Resources acquired, including those that died young.
    pub const fn acquired(&self) -> Sum {
        Sum {
            count: self.acquired.count + self.died.count,
            bytes: self.acquired.bytes + self.died.bytes,
        }
    }

    /// Resources that came with a fork, as copies of the parent's.
    pub const fn inherited(&self) -> Sum {
        self.inherited
    }

    /// Resources released, including those that died young.
    pub const fn released(&self) -> Sum {
        Sum {
            count: self.released.count + self.died.count,
            bytes: self.released.bytes + self.died.bytes,
        }
    }

    /// Outstanding resources.
    pub const fn outstanding(&self) -> Sum {
        self.outstanding
    }

    /// Adds one resource that came with a fork.
    pub(super) const fn inherit(&mut self, bytes: u64) {
        self.inherited.add(bytes);
        self.outstanding.add(bytes);
    }

    /// Records the release of one outstanding resource.
    pub(super) const fn settle(&mut self, bytes: u64) {
        self.released.add(bytes);
        self.outstanding.remove(bytes);
    }

    /// Undoes [`Self::settle`]: the resource is still outstanding.
    pub(super) const fn unsettle(&mut self, bytes: u64) {
        self.released.remove(bytes);
        self.outstanding.add(bytes);
    }
}

/// The call site of inherited resources, or of descriptors found in a process.
#[derive(Debug)]
struct Copied {
    pid: Pid,
    /// Its number in the process that acquired; its own number for found descriptors.
    origin: u32,
    /// The call site's details, for found descriptors, which have no caller.
    found: Option<Site>,
    /// Whether the process has called exec since.
    former: bool,
    tally: Tally,
}

/// Every call site.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// By number; number 0 is the unknown call site.
    sites: Vec<Option<Site>>,
    tallies: Vec<Tally>,
    copies: Vec<Copied>,
    by_origin: HashMap<(Pid, u32), u32>,
    by_fd_type: HashMap<(Pid, FdOrigin, FdType), u32>,
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
        *self.by_origin.entry((pid, origin)).or_insert_with(|| {
            let known = self.sites.get(origin as usize).and_then(Option::as_ref);
            let former = known.is_some_and(|site| site.former);
            self.copies.push(Copied { pid, origin, found: None, former, tally: Tally::default() });
            FIRST_COPY + u32::try_from(self.copies.len() - 1).unwrap_or(0)
        })
    }

    /// The number of the call site for descriptors of one type and origin that were found in `pid`.
    pub(super) fn found(&mut self, pid: Pid, fd_origin: FdOrigin, fd_type: FdType) -> u32 {
        *self.by_fd_type.entry((pid, fd_origin, fd_type)).or_insert_with(|| {
            let number = FIRST_COPY + u32::try_from(self.copies.len()).unwrap_or(0);
            let frames = Arc::from([]);
            let (probe, end) = (fd_origin.probe(), StackEnd::Bottom);
            let (former, origin) = (false, None);
            let detail = 0;
            let site = Site { number, pid, probe, fd_type, detail, frames, end, former, origin };
            let (found, tally) = (Some(site), Tally::default());
            self.copies.push(Copied { pid, origin: number, found, former, tally });
            number
        })
    }

    /// `pid` has called exec: the addresses of its call sites belong to the former program.
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

    /// Call sites by number.
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

    /// The probe of a call site, and its detail.
    pub(super) fn constructor_of(&self, site: u32) -> Option<(ProbeNumber, u8)> {
        self.sites.get(site as usize)?.as_ref().map(|site| (site.probe, site.detail))
    }

    /// The process that a copied call site belongs to, and the number of its origin; for tests.
    #[cfg(test)]
    pub(super) fn root(&self, site: u32) -> (Option<Pid>, u32) {
        let copied = site.checked_sub(FIRST_COPY).and_then(|index| self.copies.get(index as usize));
        (copied.map(|copied| copied.pid), self.origin(site))
    }
}
