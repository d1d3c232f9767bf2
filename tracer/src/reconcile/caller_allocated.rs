//! Liveness checks for caller-allocated objects that have no release function: reads fields of the object in target
//! memory.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tracer_common::{attach::ProbeNumber, kind::Kind, object::Object, state::Key};

use crate::{
    ledger::{Ledger, TICK_BITS, events::Event},
    source::RecordSource,
    target::memory::{Memories, Memory},
};

/// Liveness checks, by the number of the probe that records the object.
pub type LivenessChecks = BTreeMap<ProbeNumber, LivenessCheck>;

/// How to tell from its memory whether an object of one type is alive. Offsets are bytes from its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LivenessCheck {
    /// The field that says whether it is alive: offset and bytes.
    pub number: (u32, u8),
    /// Bits of the field: the object is alive while any of them is set.
    pub mask: u64,
    /// Offset of the word that the pack keeps, if it has one: with another value it is another object.
    pub word: Option<u32>,
    /// The same for its owner's handle.
    pub owner: Option<u32>,
}

/// Maximum number of objects checked per snapshot; the last snapshot checks all. A check takes one to three reads, a
/// microsecond each.
const MAX_CHECKS: usize = 4096;

/// A block's time in the ledger is its object's, or earlier by less than this, nanoseconds.
const TICK_NS: u64 = 1 << TICK_BITS;

impl LivenessCheck {
    /// Whether the object at this address is alive; `known` is the programs' entry for it.
    fn is_alive(&self, memory: &Memory, handle: u64, known: Option<&Object>) -> bool {
        let at = |offset: u32| handle.saturating_add(offset.into());
        let (offset, bytes) = self.number;
        let alive = memory.number(at(offset), bytes).is_some_and(|number| number & self.mask != 0);
        let same = |place: Option<u32>, of: fn(&Object) -> u64| {
            let both = place.zip(known.map(of));
            both.is_none_or(|(offset, known)| memory.number(at(offset), 8) == Some(known))
        };
        alive && same(self.word, |object| object.word) && same(self.owner, |object| object.owner)
    }
}

/// Checks a part of the caller-allocated objects at a time.
pub(crate) struct LivenessChecker {
    checks: LivenessChecks,
    /// Number of objects checked in this round.
    next: usize,
}

impl LivenessChecker {
    /// With these checks.
    pub(crate) const fn new(checks: LivenessChecks) -> Self {
        Self { checks, next: 0 }
    }

    /// Adds checks.
    pub(crate) fn extend(&mut self, checks: LivenessChecks) {
        self.checks.extend(checks);
    }

    /// Ends objects that are not alive any more. Checks all of them if `last`. `seen` holds the programs' entries.
    pub(crate) fn check(
        &mut self,
        ledger: &mut Ledger,
        source: &mut RecordSource,
        seen: &[(Key, Object)],
        last: bool,
    ) {
        if self.checks.is_empty() {
            return;
        }
        let known: HashMap<(u32, u64), &(Key, Object)> = seen
            .iter()
            .filter(|(key, _)| {
                key.kind.to_le_bytes().first() == Some(&(Kind::CallerAllocated as u8))
            })
            .map(|one| ((one.0.pid, one.0.handle), one))
            .collect();
        let mut memories = Memories::default();
        let (skipped, most) = if last { (0, usize::MAX) } else { (self.next, MAX_CHECKS) };
        let mut checked = 0;
        let mut ended = Vec::new();
        for (handle, block) in ledger.caller_allocated().skip(skipped).take(most) {
            checked += 1;
            let probe = ledger.probe_of(block.site);
            let check = probe.and_then(|probe| self.checks.get(&probe));
            let Some(check) = check else { continue };
            let known = known.get(&(handle.pid.0, handle.value)).copied();
            let is_later = |(_, object): &(Key, Object)| object.time_ns > block.time_ns + TICK_NS;
            if known.is_some_and(is_later) {
                // Another object has its address; probes will see that one's end.
                continue;
            }
            let is_alive = source.is_alive(handle.value, || {
                let memory = memories.of(handle.pid)?;
                Some(check.is_alive(memory, handle.value, known.map(|(_, object)| object)))
            });
            // With the process, all its objects are gone; nothing is left to check.
            if is_alive == Some(false) {
                ended.push((handle, block.position, known));
            }
        }
        for (handle, position, known) in ended {
            // If another object is there by now, probes will see that one's end.
            let is_still_it =
                |(key, object): &(Key, Object)| source.remove_object(key, object.time_ns);
            if known.is_none_or(is_still_it) {
                let event =
                    Event::Released { handle, size: 0, position, caller: 0, resizing: None };
                ledger.apply(event);
            }
        }
        // The next check continues after these objects, or starts over.
        self.next = if checked == most { skipped + checked } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use tracer_common::object::TEXT;

    use super::*;
    use crate::target::Pid;

    #[test]
    fn an_object_is_alive_while_it_is_pending_and_is_the_same() {
        let event = [0x80_u64, 7, 11].map(AtomicU64::new);
        let handle = event.as_ptr() as u64;
        let memory = Memory::open(Pid::own()).unwrap();
        let check = LivenessCheck { number: (0, 2), mask: 0x2b, word: Some(8), owner: Some(16) };
        let object = Object {
            time_ns: 0,
            word: 7,
            owner: 11,
            making: 0,
            within: 0,
            site: 1,
            fd: -1,
            text: [0; TEXT],
        };
        // Assigned, but not added.
        assert!(!check.is_alive(&memory, handle, Some(&object)));
        event[0].fetch_or(2, Relaxed);
        assert!(check.is_alive(&memory, handle, Some(&object)));
        for other in [Object { word: 8, ..object }, Object { owner: 12, ..object }] {
            assert!(!check.is_alive(&memory, handle, Some(&other)));
        }
        assert!(LivenessCheck { word: None, ..check }.is_alive(
            &memory,
            handle,
            Some(&Object { word: 8, ..object })
        ));
        // Nothing is mapped there.
        assert!(!check.is_alive(&memory, 8, Some(&object)));
        // The programs have no entry for it.
        assert!(check.is_alive(&memory, handle, None));
    }
}
