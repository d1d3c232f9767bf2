//! Pages that became resident: what the kernel's page tables say of them.
//!
//! A part of the collector, for `--light`. A page fault tells who touched a page, and nothing tells when it
//! is given back. But the page tables say what is there: a touched page counts as acquired once
//! it is found to hold anonymous memory, and as released once it is found gone. What was touched and gone
//! again between two looks is not counted.

use std::{collections::BTreeMap, io, time::Instant};

use tracer_common::kind::Kind;

use super::{
    collector::Collector,
    decode::{Block, Event, Handle},
    ledger::Ledger,
};
use crate::target::{
    Pid,
    pages::{Frames, PageTable},
};

/// Looks at what is still there take at most this part of the time.
const LOOK_SHARE: u32 = 20;

/// What is looked at.
pub(super) struct Touches {
    frames: Frames,
    /// Pages whose faults came since the last look.
    news: Vec<(Handle, Block)>,
    next_look: Instant,
}

impl Touches {
    /// Nothing touched yet.
    pub(super) fn new() -> Self {
        Self { frames: Frames::open(), news: Vec::new(), next_look: Instant::now() }
    }
}

/// Takes an event to the ledger; a touch first to where it is looked at.
pub(super) fn take_in(ledger: &mut Ledger, touches: &mut Option<Touches>, event: Event) {
    match (event, touches) {
        (Event::Acquired { handle, block }, Some(touches)) => touches.news.push((handle, block)),
        (event, _) => ledger.apply(event),
    }
}

impl Collector {
    /// Looks at the pages that were touched since the last time.
    pub(super) fn look_at_touched(&mut self) {
        let Some(touches) = &mut self.touches else { return };
        let mut by_process: BTreeMap<Pid, Vec<(Handle, Block)>> = BTreeMap::new();
        for (handle, block) in touches.news.drain(..) {
            by_process.entry(handle.pid).or_default().push((handle, block));
        }
        for (pid, mut touched) in by_process {
            touched.sort_unstable_by_key(|(handle, block)| (handle.value, block.position));
            let pages: Vec<u64> = touched.iter().map(|(handle, _)| handle.value).collect();
            let Ok(table) = PageTable::open(pid) else { continue };
            let (frames, ledger) = (&touches.frames, &mut self.ledger);
            let looked = table.look(&pages, |index, entry| {
                let Some((handle, block)) = touched.get(index).copied() else { return };
                if !entry.is_anonymous() {
                    return;
                }
                let (value, size) = frames.piece(handle.value, entry);
                let (handle, block) = (Handle { value, ..handle }, Block { size, ..block });
                // It was given back in between, or copied when it was written to.
                if let Some(position) = ledger.blocks.get(&handle).map(|before| before.position) {
                    ledger.apply(released(handle, position));
                }
                ledger.apply(Event::Acquired { handle, block });
            });
            tell(pid, looked);
        }
    }

    /// Looks at what is still there of all pages, unless that was done a short while ago. `now` says that it
    /// must be done all the same.
    pub(super) fn look_at_pages(&mut self, now: bool) {
        let begun = Instant::now();
        let Some(touches) = &mut self.touches else { return };
        if !now && begun < touches.next_look {
            return;
        }
        let mut by_process: BTreeMap<Pid, Vec<u64>> = BTreeMap::new();
        for handle in self.ledger.blocks.handles(Kind::Pages) {
            by_process.entry(handle.pid).or_default().push(handle.value);
        }
        for (pid, mut pages) in by_process {
            // What a target held when it ended is told as it was.
            if self.ended.contains(&pid) {
                continue;
            }
            pages.sort_unstable();
            let Ok(table) = PageTable::open(pid) else { continue };
            let ledger = &mut self.ledger;
            let looked = table.look(&pages, |index, entry| {
                let Some(value) = pages.get(index).copied() else { return };
                if entry.is_anonymous() {
                    return;
                }
                let handle = Handle { pid, kind: Kind::Pages, value };
                if let Some(position) = ledger.blocks.get(&handle).map(|block| block.position) {
                    ledger.apply(released(handle, position));
                }
            });
            tell(pid, looked);
        }
        touches.next_look = Instant::now() + begun.elapsed() * LOOK_SHARE;
    }
}

/// Says that a look has failed. Not as a warning: the target has ended.
fn tell(pid: Pid, looked: io::Result<()>) {
    if let Err(error) = looked {
        log::info!("could not look at the pages of process {pid}: {error}");
    }
}

/// That the page is gone which was touched at `position`.
const fn released(handle: Handle, position: u64) -> Event {
    Event::Released { handle, size: 0, position, caller: 0, resizing: None }
}
