//! Liveness checks for caller-allocated objects that have no release function: chooses the objects to check, and ends
//! those that are not alive any more. Reads no memory itself: `lib_objects/fields.rs` does.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tracer_common::{attach::ProbeNumber, kind::Kind, object::Object, state::Key};

use crate::{
    ledger::{
        Ledger, TICK_BITS,
        events::{Event, Handle},
    },
    source::RecordSource,
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

/// An object to check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checked<'a> {
    /// The object.
    pub(crate) handle: Handle,
    /// How to check it.
    pub(crate) check: LivenessCheck,
    /// The programs' entry for it, if they have one.
    pub(crate) known: Option<&'a (Key, Object)>,
    /// Its sequence position in the ledger.
    pub(crate) position: u64,
}

/// Maximum number of objects checked per snapshot; the last snapshot checks all. A check reads one to three integers,
/// about a thousand of them with one system call.
const MAX_CHECKS: usize = 4096;

/// A block's time in the ledger is its object's, or earlier by less than this, nanoseconds.
const TICK_NS: u64 = 1 << TICK_BITS;

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

    /// The objects to check next; all if `last`. `seen` holds the programs' entries.
    pub(crate) fn choose<'a>(
        &mut self,
        ledger: &Ledger,
        seen: &'a [(Key, Object)],
        last: bool,
    ) -> Vec<Checked<'a>> {
        if self.checks.is_empty() {
            return Vec::new();
        }
        let known: HashMap<(u32, u64), &(Key, Object)> = seen
            .iter()
            .filter(|(key, _)| {
                key.kind.to_le_bytes().first() == Some(&(Kind::CallerAllocated as u8))
            })
            .map(|one| ((one.0.pid, one.0.handle), one))
            .collect();
        let (skipped, most) = if last { (0, usize::MAX) } else { (self.next, MAX_CHECKS) };
        let mut looked_at = 0;
        let mut chosen = Vec::new();
        for (handle, block) in ledger.blocks(Kind::CallerAllocated).skip(skipped).take(most) {
            looked_at += 1;
            let constructor = ledger.constructor_of(block.site);
            let check = constructor.and_then(|(probe, _)| self.checks.get(&probe));
            let Some(check) = check else { continue };
            let known = known.get(&(handle.pid.0, handle.value)).copied();
            let is_later = |(_, object): &(Key, Object)| object.time_ns > block.time_ns + TICK_NS;
            if known.is_some_and(is_later) {
                // Another object has its address; probes will see that one's end.
                continue;
            }
            chosen.push(Checked { handle, check: *check, known, position: block.position });
        }
        // The next check continues after these objects, or starts over.
        self.next = if looked_at == most { skipped + looked_at } else { 0 };
        chosen
    }
}

/// Ends the objects that are not alive any more. `alive` says for each whether it is, or `None` if its process has
/// ended: with the process, all its objects are gone, and nothing is left to check.
pub(crate) fn end_dead(
    checked: &[Checked<'_>],
    alive: &[Option<bool>],
    ledger: &mut Ledger,
    source: &mut RecordSource,
) {
    let dead = checked.iter().zip(alive).filter(|(_, alive)| **alive == Some(false));
    for (Checked { handle, known, position, .. }, _) in dead {
        // If another object is there by now, probes will see that one's end.
        let is_still_it = |(key, object): &(Key, Object)| source.remove_object(key, object.time_ns);
        if known.is_none_or(is_still_it) {
            ledger.apply(Event::found_released(*handle, *position));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracer_common::{descriptor::FdType, object::TEXT, stack::StackEnd};

    use super::*;
    use crate::{
        ledger::events::{Block, Site},
        target::Pid,
    };

    const CHECK: LivenessCheck =
        LivenessCheck { number: (0, 2), mask: 0x2b, word: None, owner: None };

    /// A ledger with this many caller-allocated objects.
    fn ledger(count: u64) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.apply(Event::Site(Site {
            number: 7,
            pid: Pid(1),
            probe: 3,
            fd_type: FdType::Unknown,
            detail: 0,
            frames: Arc::from([1]),
            unwound: Arc::from([1]),
            end: StackEnd::Bottom,
            former: false,
            origin: None,
            image: 0,
        }));
        for value in 1..=count {
            let handle = Handle { pid: Pid(1), kind: Kind::CallerAllocated, value };
            let block = Block { size: 0, time_ns: 0, position: value, site: 7, connection: 0 };
            ledger.apply(Event::Acquired { handle, block });
        }
        ledger
    }

    #[test]
    fn a_part_of_the_objects_is_checked_at_a_time_and_all_at_the_end() {
        let most = MAX_CHECKS as u64;
        let ledger = ledger(most + 10);
        let mut checker = LivenessChecker::new(LivenessChecks::from([(3, CHECK)]));
        let mut chosen = |last| checker.choose(&ledger, &[], last).len();
        assert_eq!(
            [false, false, false, true].map(&mut chosen),
            [MAX_CHECKS, 10, MAX_CHECKS, MAX_CHECKS + 10]
        );
        let other = LivenessChecks::from([(4, CHECK)]);
        assert!(LivenessChecker::new(other).choose(&ledger, &[], true).is_empty());
    }

    #[test]
    fn an_object_whose_address_has_a_later_object_is_not_checked() {
        let ledger = ledger(2);
        let entry = |value, time_ns| {
            let key = Key { pid: 1, kind: Kind::CallerAllocated as u32, handle: value };
            let blank = Object {
                time_ns,
                word: 0,
                owner: 0,
                making: 0,
                within: 0,
                site: 7,
                fd: -1,
                text: [0; TEXT],
            };
            (key, blank)
        };
        let seen = [entry(1, TICK_NS), entry(2, TICK_NS + 1)];
        let mut checker = LivenessChecker::new(LivenessChecks::from([(3, CHECK)]));
        let chosen = checker.choose(&ledger, &seen, false);
        assert_eq!(chosen.len(), 1);
        assert_eq!((chosen[0].handle.value, chosen[0].position), (1, 1));
        assert!(chosen[0].known.is_some_and(|known| std::ptr::eq(known, &raw const seen[0])));
    }
}
