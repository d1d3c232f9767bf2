//! Corrects the ledger by the heap: a block that the heap has as free has been released, whatever the probes saw.
//!
//! Takes looks at the heaps of the targets, and the ledger once all records from before them were read; applies releases that
//! no probe saw, and counts them. A block must be free in two looks, and outstanding all the time: records lag behind the
//! heap, and the heap changes while it is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tracer_common::kind::Kind;

use crate::{
    heap::{Asked, Look},
    ledger::{
        Ledger,
        events::{Event, Handle},
    },
    target::Pid,
};

/// Blocks that are asked about at most: 48 MiB of questions.
const MAX_ASKED: usize = 2 << 20;

/// Looks at the heaps of all targets at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeapReading {
    /// What each heap says; those that could not be read are missing.
    pub looks: BTreeMap<Pid, Look>,
    /// Whether blocks were asked about, rather than sums only.
    pub verifies: bool,
}

/// Sums over the heaps of all targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapSums {
    /// Bytes in use by the programs.
    pub used_bytes: u64,
    /// Bytes that are free, and that the allocators keep.
    pub kept_bytes: u64,
}

/// How the ledger compares with the heaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Outstanding blocks that the heaps were asked about.
    pub asked: u64,
    /// Those that are allocated there.
    pub allocated: u64,
    /// Those that the heaps say nothing about.
    pub unclear: u64,
    /// Those that are free there: releases that no probe saw.
    pub missed_releases: u64,
}

/// What the heaps have said so far.
#[derive(Debug, Default)]
pub(crate) struct HeapVerification {
    sums: BTreeMap<Pid, HeapSums>,
    verified: Option<Verified>,
    /// Blocks that were free in each look so far.
    suspects: BTreeMap<Pid, Vec<Asked>>,
}

impl HeapVerification {
    /// Takes a reading.
    pub(crate) fn take(&mut self, reading: HeapReading) {
        for (pid, look) in &reading.looks {
            let sums = HeapSums { used_bytes: look.used_bytes, kept_bytes: look.kept_bytes };
            self.sums.insert(*pid, sums);
        }
        if !reading.verifies {
            return;
        }
        let Some(verified) = &mut self.verified else {
            let mut verified = Verified::default();
            for (pid, look) in reading.looks {
                verified.allocated += look.allocated;
                verified.unclear += look.unclear;
                verified.asked += look.allocated + look.unclear + look.released.len() as u64;
                self.suspects.insert(pid, look.released);
            }
            self.verified = Some(verified);
            return;
        };
        // Those that are not free any more were in doubt only because of the time between the two.
        let mut suspects = BTreeMap::new();
        for (pid, look) in reading.looks {
            let again: BTreeSet<(u64, u64)> =
                look.released.iter().map(|one| (one.address, one.position)).collect();
            let before = self.suspects.remove(&pid).unwrap_or_default();
            let mut both = before;
            both.retain(|one| again.contains(&(one.address, one.position)));
            verified.allocated += look.allocated;
            suspects.insert(pid, both);
        }
        self.suspects = suspects;
    }

    /// The blocks to ask about: at first all outstanding ones of these processes, then those in doubt.
    pub(crate) fn questions(&self, ledger: &Ledger, running: &[Pid]) -> BTreeMap<Pid, Vec<Asked>> {
        let is_same = |handle: &Handle, asked: &Asked| {
            ledger.block(handle).is_some_and(|block| block.position == asked.position)
        };
        let mut questions: BTreeMap<Pid, Vec<Asked>> = BTreeMap::new();
        if self.verified.is_some() {
            for (pid, asked) in &self.suspects {
                let same = asked.iter().filter(|one| is_same(&handle(*pid, one), one));
                questions.entry(*pid).or_default().extend(same);
            }
            questions.retain(|_, asked| !asked.is_empty());
            return questions;
        }
        let all = ledger.blocks(Kind::Heap).filter(|(handle, _)| running.contains(&handle.pid));
        for (handle, block) in all.take(MAX_ASKED) {
            questions.entry(handle.pid).or_default().push(Asked {
                address: handle.value,
                size: block.size,
                position: block.position,
            });
        }
        questions
    }

    /// Whether the first look has been taken.
    pub(crate) const fn has_begun(&self) -> bool {
        self.verified.is_some()
    }

    /// Applies the releases that no probe saw: all records from before the looks have been read.
    pub(crate) fn settle(&mut self, ledger: &mut Ledger) {
        let Some(verified) = &mut self.verified else { return };
        for (pid, asked) in std::mem::take(&mut self.suspects) {
            for one in asked {
                let handle = handle(pid, &one);
                let position = ledger.block(&handle).map(|block| block.position);
                if position != Some(one.position) {
                    // Its release has arrived.
                    verified.asked = verified.asked.saturating_sub(1);
                    continue;
                }
                ledger.apply(Event::found_released(handle, one.position));
                verified.missed_releases += 1;
            }
        }
    }

    /// Sums over these processes; `None` unless the heap of each was read.
    pub(crate) fn sums(&self, running: &[Pid]) -> Option<HeapSums> {
        let pids: Vec<Pid> =
            if running.is_empty() { self.sums.keys().copied().collect() } else { running.to_vec() };
        let mut all = HeapSums::default();
        for pid in &pids {
            let one = self.sums.get(pid)?;
            all.used_bytes += one.used_bytes;
            all.kept_bytes += one.kept_bytes;
        }
        (!pids.is_empty()).then_some(all)
    }

    /// How the ledger compares with the heaps.
    pub(crate) const fn verified(&self) -> Option<Verified> {
        self.verified
    }
}

const fn handle(pid: Pid, asked: &Asked) -> Handle {
    Handle { pid, kind: Kind::Heap, value: asked.address }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::events::Block;

    const PID: Pid = Pid(7);

    fn asked(address: u64, position: u64) -> Asked {
        Asked { address, size: 100, position }
    }

    fn ledger(blocks: &[Asked]) -> Ledger {
        let mut ledger = Ledger::default();
        for one in blocks {
            acquire(&mut ledger, *one);
        }
        ledger
    }

    fn acquire(ledger: &mut Ledger, one: Asked) {
        let (time_ns, connection) = (1, 0);
        let block = Block { size: one.size, position: one.position, site: 1, time_ns, connection };
        ledger.apply(Event::Acquired { handle: handle(PID, &one), block });
    }

    fn reading(allocated: u64, released: &[Asked]) -> HeapReading {
        let look = Look { allocated, released: released.to_vec(), ..Look::default() };
        HeapReading { looks: [(PID, look)].into(), verifies: true }
    }

    fn outstanding(ledger: &Ledger) -> usize {
        ledger.blocks(Kind::Heap).count()
    }

    #[test]
    fn a_block_that_is_free_in_both_looks_has_been_released() {
        let blocks = [asked(16, 1), asked(32, 2), asked(48, 3)];
        let mut ledger = ledger(&blocks);
        let mut heap = HeapVerification::default();
        assert_eq!(heap.questions(&ledger, &[PID]).get(&PID).map(Vec::len), Some(3));
        heap.take(reading(1, &blocks[1..]));
        assert_eq!(heap.questions(&ledger, &[PID])[&PID], blocks[1..]);
        heap.take(reading(1, &blocks[2..]));
        heap.settle(&mut ledger);
        let verified = Verified { asked: 3, allocated: 2, unclear: 0, missed_releases: 1 };
        assert_eq!((outstanding(&ledger), heap.verified()), (2, Some(verified)));
    }

    #[test]
    fn a_release_that_arrives_late_was_not_missed() {
        let blocks = [asked(16, 1), asked(32, 2)];
        let mut ledger = ledger(&blocks);
        let mut heap = HeapVerification::default();
        heap.take(reading(0, &blocks));
        heap.take(reading(0, &blocks));
        // One release arrives; the other block's address is used again.
        let handle = handle(PID, &blocks[0]);
        let (size, position, time_ns) = (0, 5, 0);
        ledger.apply(Event::Released {
            handle,
            size,
            position,
            time_ns,
            probe: 0,
            caller: 0,
            resizing: None,
        });
        acquire(&mut ledger, asked(32, 6));
        heap.settle(&mut ledger);
        let verified = Verified::default();
        assert_eq!((outstanding(&ledger), heap.verified()), (1, Some(verified)));
    }

    #[test]
    fn sums_need_the_heap_of_each_process() {
        let mut heap = HeapVerification::default();
        let look = Look { used_bytes: 10, kept_bytes: 3, ..Look::default() };
        heap.take(HeapReading { looks: [(PID, look)].into(), verifies: false });
        let sums = HeapSums { used_bytes: 10, kept_bytes: 3 };
        assert_eq!(heap.sums(&[PID]), Some(sums));
        assert_eq!(heap.sums(&[PID, Pid(8)]), None);
        // After the end of all, the last figures.
        assert_eq!((heap.sums(&[]), heap.verified()), (Some(sums), None));
    }
}
