//! Objects in memory of the target's own that no function ends: whether they are still there, by what that memory says.
//!
//! A part of the collector.

use std::collections::{BTreeMap, HashMap};

use tracer_common::{attach::ProbeNumber, kind::Kind, object::Object, state::Key};

use super::{collector::Collector, decode::Event, packed::TICK_BITS};
use crate::target::memory::{Memories, Memory};

/// How the memory of an object tells whether it is still there, by the number of the probe that saw it placed.
pub type LivenessChecks = BTreeMap<ProbeNumber, LivenessCheck>;

/// The same of one kind. Offsets are bytes from its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessCheck {
    /// Where the number is that says so: offset and bytes.
    pub number: (u32, u8),
    /// Its bits: any of them.
    pub mask: u64,
    /// Where the word is that was kept, if it has it: with another one it is another object.
    pub word: Option<u32>,
    /// The same of its owner's handle.
    pub owner: Option<u32>,
}

/// Objects looked at for one snapshot but the last: each is a read or three, a microsecond each.
const AT_ONCE: usize = 4096;

/// A block's time in the ledger is that of its object, at most so much earlier, nanoseconds.
const TICK_NS: u64 = 1 << TICK_BITS;

impl LivenessCheck {
    /// Whether the object at this address is there; `known` is what was told of it.
    fn is_there(&self, memory: &Memory, handle: u64, known: Option<&Object>) -> bool {
        let at = |offset: u32| handle.saturating_add(offset.into());
        let (offset, bytes) = self.number;
        let waits = memory.number(at(offset), bytes).is_some_and(|number| number & self.mask != 0);
        let same = |place: Option<u32>, of: fn(&Object) -> u64| {
            let both = place.zip(known.map(of));
            both.is_none_or(|(offset, known)| memory.number(at(offset), 8) == Some(known))
        };
        waits && same(self.word, |object| object.word) && same(self.owner, |object| object.owner)
    }
}

impl Collector {
    /// Ends what is not there any more. Looks at all if `last`. `seen` is what the programs know of objects.
    pub(super) fn look_at_placed(&mut self, seen: &[(Key, Object)], last: bool) {
        if self.signs.is_empty() {
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
        let (skipped, most) = if last { (0, usize::MAX) } else { (self.placed_next, AT_ONCE) };
        let mut looked = 0;
        let mut over = Vec::new();
        for (handle, block) in self.ledger.placed().skip(skipped).take(most) {
            looked += 1;
            let sign = self.ledger.probe_of(block.site).and_then(|probe| self.signs.get(&probe));
            let Some(sign) = sign else { continue };
            let known = known.get(&(handle.pid.0, handle.value)).copied();
            let is_later = |(_, object): &(Key, Object)| object.time_ns > block.time_ns + TICK_NS;
            if known.is_some_and(is_later) {
                // Another one has its place: the programs tell of its end.
                continue;
            }
            // A process that is gone has taken all with it.
            let Some(memory) = memories.of(handle.pid) else { continue };
            if !sign.is_there(memory, handle.value, known.map(|(_, object)| object)) {
                over.push((handle, block.position, known));
            }
        }
        for (handle, position, known) in over {
            // Where another one is by now, the programs tell of its end.
            let is_still_it =
                |(key, object): &(Key, Object)| self.tables.forget_object(key, object.time_ns);
            if known.is_none_or(is_still_it) {
                let event =
                    Event::Released { handle, size: 0, position, caller: 0, resizing: None };
                self.ledger.apply(event);
            }
        }
        // The next look goes on behind this one, or begins anew.
        self.placed_next = if looked == most { skipped + looked } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use tracer_common::object::TEXT;

    use super::*;
    use crate::target::Pid;

    #[test]
    fn an_object_is_there_while_it_waits_and_is_the_same() {
        let event = [0x80_u64, 7, 11].map(AtomicU64::new);
        let handle = event.as_ptr() as u64;
        let memory = Memory::open(Pid::own()).unwrap();
        let sign = LivenessCheck { number: (0, 2), mask: 0x2b, word: Some(8), owner: Some(16) };
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
        // Assigned, and not added.
        assert!(!sign.is_there(&memory, handle, Some(&object)));
        event[0].fetch_or(2, Relaxed);
        assert!(sign.is_there(&memory, handle, Some(&object)));
        for other in [Object { word: 8, ..object }, Object { owner: 12, ..object }] {
            assert!(!sign.is_there(&memory, handle, Some(&other)));
        }
        assert!(LivenessCheck { word: None, ..sign }.is_there(
            &memory,
            handle,
            Some(&Object { word: 8, ..object })
        ));
        // Nothing is mapped there.
        assert!(!sign.is_there(&memory, 8, Some(&object)));
        // Nothing is known of it but where it is.
        assert!(sign.is_there(&memory, handle, None));
    }
}
