//! Pages that became resident, from the kernel's page tables.
//!
//! For `--light`. A page fault shows who touched a page, but no event shows when the page
//! is freed. The page tables show which pages are resident: a touched page counts as acquired once it is found to
//! hold anonymous memory, and as released once it is found gone. Pages that were touched and freed between two
//! scans are not counted.

use std::collections::BTreeMap;

use tracer_common::kind::Kind;

use crate::{
    ledger::{
        Ledger,
        events::{Block, Event, Handle},
    },
    source::RecordSource,
    tape::Timer,
    target::Pid,
};

/// Touched pages.
pub(crate) struct Touches {
    /// Pages whose faults arrived since the last check.
    queued: Vec<(Handle, Block)>,
}

impl Touches {
    /// No page yet.
    pub(crate) const fn new() -> Self {
        Self { queued: Vec::new() }
    }
}

/// Applies an event to the ledger; a page fault goes to the touched pages first, which are checked later.
pub(crate) fn route_event(ledger: &mut Ledger, touches: &mut Option<Touches>, event: Event) {
    match (event, touches) {
        (Event::Acquired { handle, block }, Some(touches)) => touches.queued.push((handle, block)),
        (event, _) => ledger.apply(event),
    }
}

impl Touches {
    /// Checks the pages that were touched since the last check.
    pub(crate) fn check_touched(&mut self, source: &mut RecordSource, ledger: &mut Ledger) {
        let mut by_process: BTreeMap<Pid, Vec<(Handle, Block)>> = BTreeMap::new();
        for (handle, block) in self.queued.drain(..) {
            by_process.entry(handle.pid).or_default().push((handle, block));
        }
        for (pid, mut touched) in by_process {
            touched.sort_unstable_by_key(|(handle, block)| (handle.value, block.position));
            let pages: Vec<u64> = touched.iter().map(|(handle, _)| handle.value).collect();
            let pieces = source.touched(pid, &pages);
            for ((handle, block), piece) in touched.into_iter().zip(pieces) {
                let Some((value, size)) = piece else { continue };
                let (handle, block) = (Handle { value, ..handle }, Block { size, ..block });
                // The page was freed in between, or copied on write.
                if let Some(position) = ledger.block(&handle).map(|before| before.position) {
                    ledger.apply(Event::found_released(handle, position));
                }
                ledger.apply(Event::Acquired { handle, block });
            }
        }
    }

    /// Checks which pages are still resident, unless the last scan was a short while ago. `now` forces a scan.
    pub(crate) fn check_resident(
        source: &mut RecordSource,
        ledger: &mut Ledger,
        ended: &[Pid],
        now: bool,
    ) {
        if !now && !source.is_due(Timer::Pages) {
            return;
        }
        source.begin_scan(Timer::Pages);
        let mut by_process: BTreeMap<Pid, Vec<u64>> = BTreeMap::new();
        for (handle, _) in ledger.blocks(Kind::Pages) {
            by_process.entry(handle.pid).or_default().push(handle.value);
        }
        for (pid, mut pages) in by_process {
            // Reports show an ended target's pages as they were at its end.
            if ended.contains(&pid) {
                continue;
            }
            pages.sort_unstable();
            let resident = source.resident(pid, &pages);
            for (value, _) in pages.into_iter().zip(resident).filter(|(_, resident)| !resident) {
                let handle = Handle { pid, kind: Kind::Pages, value };
                if let Some(position) = ledger.block(&handle).map(|block| block.position) {
                    ledger.apply(Event::found_released(handle, position));
                }
            }
        }
        source.end_scan(Timer::Pages);
    }
}
