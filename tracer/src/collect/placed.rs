//! Objects in memory of the target's own that no function ends: whether they are still there, by what that memory says.
//!
//! A part of the collector.

use std::collections::BTreeMap;

use tracer_common::{kind::Kind, object::Object, state::Key};

use super::{
    collector::Collector,
    decode::{Event, Handle},
};
use crate::target::{Pid, memory::Memory};

/// How the memory of an object tells whether it is still there, by the number of the probe that saw it placed.
pub type Signs = BTreeMap<u8, Sign>;

/// The same of one kind. Offsets are bytes from its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sign {
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

impl Sign {
    /// Whether the object is there; also when that cannot be told.
    fn is_there(&self, memory: &Memory, handle: u64, object: &Object) -> bool {
        let at = |offset: u32| handle.saturating_add(offset.into());
        let (offset, bytes) = self.number;
        let waits = memory.number(at(offset), bytes).is_some_and(|number| number & self.mask != 0);
        let same = |place: Option<u32>, known: u64| {
            place.is_none_or(|offset| memory.number(at(offset), 8) == Some(known))
        };
        waits && same(self.word, object.word) && same(self.owner, object.owner)
    }
}

impl Collector {
    /// Ends what is not there any more, and takes it out of `seen`. Looks at all if these are the last.
    pub(super) fn look_at_placed(&mut self, seen: &mut Vec<(Key, Object)>, last: bool) {
        if self.signs.is_empty() {
            return;
        }
        let mut memories: BTreeMap<u32, Option<Memory>> = BTreeMap::new();
        let most = if last { usize::MAX } else { AT_ONCE };
        let (from, mut looked, mut at) = (self.placed_next, 0, 0);
        let Self { ledger, tables, signs, .. } = self;
        seen.retain(|(key, object)| {
            let [kind, ..] = key.kind.to_le_bytes();
            let sign = (kind == Kind::Object as u8)
                .then(|| signs.get(&ledger.probe_of(object.site)?))
                .flatten();
            let Some(sign) = sign else { return true };
            at += 1;
            if looked == most || at <= from && !last {
                return true;
            }
            looked += 1;
            // What the ledger has not heard of yet is there.
            let handle = Handle { pid: Pid(key.pid), kind: Kind::Object, value: key.handle };
            let Some(position) = ledger.position_of(&handle, object.site) else { return true };
            let memory = memories.entry(key.pid).or_insert_with(|| Memory::open(Pid(key.pid)).ok());
            // A process that is gone has taken all with it.
            let Some(memory) = memory else { return true };
            if sign.is_there(memory, key.handle, object) {
                return true;
            }
            // Where another one is by now, the programs tell of its end.
            if !tables.forget_object(key, object.time_ns) {
                return true;
            }
            ledger.apply(Event::Released { handle, size: 0, position, caller: 0, resizing: None });
            false
        });
        // The next look goes on behind this one, or begins anew.
        self.placed_next = if looked == most { from + looked } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use tracer_common::object::TEXT;

    use super::*;

    #[test]
    fn an_object_is_there_while_it_waits_and_is_the_same() {
        let event = [0x80_u64, 7, 11].map(AtomicU64::new);
        let handle = event.as_ptr() as u64;
        let memory = Memory::open(Pid::own()).unwrap();
        let sign = Sign { number: (0, 2), mask: 0x2b, word: Some(8), owner: Some(16) };
        let object = Object {
            time_ns: 0,
            asked_ns: 0,
            word: 7,
            owner: 11,
            making: 0,
            within: 0,
            site: 1,
            fd: -1,
            text: [0; TEXT],
        };
        // Assigned, and not added.
        assert!(!sign.is_there(&memory, handle, &object));
        event[0].fetch_or(2, Relaxed);
        assert!(sign.is_there(&memory, handle, &object));
        for other in [Object { word: 8, ..object }, Object { owner: 12, ..object }] {
            assert!(!sign.is_there(&memory, handle, &other));
        }
        assert!(Sign { word: None, ..sign }.is_there(
            &memory,
            handle,
            &Object { word: 8, ..object }
        ));
        // Nothing is mapped there.
        assert!(!sign.is_there(&memory, 8, &object));
    }
}
