//! Pages that became resident, from the kernel's page tables.
//!
//! For `--light`. A page fault shows who touched a page, but no event shows when the page
//! is freed. The page tables show which pages are resident: a touched page counts as acquired once it is found to
//! hold anonymous memory, and as released once it is found gone. Pages that were touched and freed between two
//! scans are not counted.

use std::{collections::BTreeMap, io, time::Instant};

use tracer_common::kind::Kind;

use crate::{
    ledger::{
        Ledger,
        events::{Block, Event, Handle},
    },
    target::{
        Pid,
        pages::{Frames, PageTable},
    },
};

/// Minimum time between scans of the resident pages, in multiples of a scan's duration: they take at most 5 percent
/// of the time.
const SCAN_SHARE: u32 = 20;

/// Touched pages, and when to scan.
pub(crate) struct Touches {
    frames: Frames,
    /// Pages whose faults arrived since the last check.
    queued: Vec<(Handle, Block)>,
    next_scan: Instant,
}

impl Touches {
    /// No page yet.
    pub(crate) fn new() -> Self {
        Self { frames: Frames::open(), queued: Vec::new(), next_scan: Instant::now() }
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
    pub(crate) fn check_touched(&mut self, ledger: &mut Ledger) {
        let mut by_process: BTreeMap<Pid, Vec<(Handle, Block)>> = BTreeMap::new();
        for (handle, block) in self.queued.drain(..) {
            by_process.entry(handle.pid).or_default().push((handle, block));
        }
        for (pid, mut touched) in by_process {
            touched.sort_unstable_by_key(|(handle, block)| (handle.value, block.position));
            let pages: Vec<u64> = touched.iter().map(|(handle, _)| handle.value).collect();
            let Ok(table) = PageTable::open(pid) else { continue };
            let frames = &self.frames;
            let result = table.look(&pages, |index, entry| {
                let Some((handle, block)) = touched.get(index).copied() else { return };
                if !entry.is_anonymous() {
                    return;
                }
                let (value, size) = frames.piece(handle.value, entry);
                let (handle, block) = (Handle { value, ..handle }, Block { size, ..block });
                // The page was freed in between, or copied on write.
                if let Some(position) = ledger.block(&handle).map(|before| before.position) {
                    ledger.apply(released(handle, position));
                }
                ledger.apply(Event::Acquired { handle, block });
            });
            log_failure(pid, result);
        }
    }

    /// Checks which pages are still resident, unless the last scan was a short while ago. `now` forces a scan.
    pub(crate) fn check_resident(&mut self, ledger: &mut Ledger, ended: &[Pid], now: bool) {
        let begun = Instant::now();
        if !now && begun < self.next_scan {
            return;
        }
        let mut by_process: BTreeMap<Pid, Vec<u64>> = BTreeMap::new();
        for handle in ledger.handles(Kind::Pages) {
            by_process.entry(handle.pid).or_default().push(handle.value);
        }
        for (pid, mut pages) in by_process {
            // Reports show an ended target's pages as they were at its end.
            if ended.contains(&pid) {
                continue;
            }
            pages.sort_unstable();
            let Ok(table) = PageTable::open(pid) else { continue };
            let result = table.look(&pages, |index, entry| {
                let Some(value) = pages.get(index).copied() else { return };
                if entry.is_anonymous() {
                    return;
                }
                let handle = Handle { pid, kind: Kind::Pages, value };
                if let Some(position) = ledger.block(&handle).map(|block| block.position) {
                    ledger.apply(released(handle, position));
                }
            });
            log_failure(pid, result);
        }
        self.next_scan = Instant::now() + begun.elapsed() * SCAN_SHARE;
    }
}

/// Logs a failed check. Not as a warning: the target has ended.
fn log_failure(pid: Pid, result: io::Result<()>) {
    if let Err(error) = result {
        log::info!("could not read the page table of process {pid}: {error}");
    }
}

/// The release of a page that was touched at `position`.
const fn released(handle: Handle, position: u64) -> Event {
    Event::Released { handle, size: 0, position, time_ns: 0, caller: 0, resizing: None }
}
