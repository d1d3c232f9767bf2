//! Reads the library objects for each snapshot: the details that the BPF programs keep beside the ledger, and the values
//! of the objects' fields.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::Arc,
};

use tracer_common::object::ObjectId;

use super::{
    fields::{self, ObjectUses},
    internals::{OwningPacks, Territories, territories},
    ledger::{Internals, Objects, ReleaseRequests, objects, owners},
};
use crate::{
    ledger::Ledger,
    reconcile::caller_allocated::{LivenessChecker, LivenessChecks, end_dead},
    source::RecordSource,
    target::{Pid, mappings::Mappings, memory::Numbers},
};

/// Objects older than this have been drained for certain, nanoseconds.
const DRAINED_AFTER_NS: u64 = 10_000_000_000;

/// Reads the library objects.
pub(crate) struct ObjectReader {
    liveness: LivenessChecker,
    uses: ObjectUses,
    /// The packs whose objects own what their library acquires by itself.
    packs: OwningPacks,
    /// What they own, from the last look.
    internals: Internals,
    /// Whether every snapshot is shown, not only the last: fields are read for those that are shown.
    live: bool,
}

impl ObjectReader {
    /// A reader that knows no objects yet; `live` says whether every snapshot is shown, not only the last.
    pub(crate) fn new(live: bool) -> Self {
        let liveness = LivenessChecker::new(LivenessChecks::new());
        let (packs, internals) = (OwningPacks::new(), Internals::default());
        Self { liveness, uses: ObjectUses::new(), packs, internals, live }
    }

    /// Adds what probes say about objects.
    pub(crate) fn extend(&mut self, checks: LivenessChecks, uses: ObjectUses, packs: OwningPacks) {
        self.liveness.extend(checks);
        self.uses.extend(uses);
        self.packs.extend(packs);
    }

    /// The blocks that libraries have acquired by themselves, to be looked at.
    pub(crate) fn territories(
        &self,
        ledger: &Ledger,
        mappings: &BTreeMap<Pid, Arc<Mappings>>,
    ) -> Territories {
        territories(ledger, &self.uses, &self.packs, mappings)
    }

    /// Takes what a look has found.
    pub(crate) fn take_internals(&mut self, internals: Internals) {
        self.internals = internals;
    }

    /// The library objects at `at_ns`. Also removes the programs' entries for objects that have ended. `memory` reads
    /// integers in the memory of a process, about a thousand at a time, and may drain before.
    pub(crate) fn read(
        &mut self,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        at_ns: u64,
        last: bool,
        mut memory: impl FnMut(&mut RecordSource, Pid, &[(u64, u8)]) -> io::Result<Numbers>,
    ) -> io::Result<Objects> {
        let Self { liveness, uses, live, internals, .. } = self;
        // Requests first: objects created or requested later appear as they were a moment ago.
        let requests: ReleaseRequests = source.release_requests()?.into_iter().collect();
        let seen = source.objects()?;
        let checked = liveness.choose(ledger, &seen, last);
        let alive = fields::alive(&checked, |pid, locations| memory(source, pid, locations));
        end_dead(&checked, &alive, ledger, source);
        let is_shown = *live || last;
        let type_of = |site| fields::object_type(ledger, uses, site);
        let is_summed = |site, size| {
            is_shown && type_of(site).is_some_and(|kind| fields::is_summed(kind, size))
        };
        let mut gone = Vec::new();
        let (mut all, others) = objects(ledger, &seen, &requests, is_summed, |key, object| {
            // An object newer than the last drain is not in the ledger yet.
            if at_ns.saturating_sub(object.time_ns) > DRAINED_AFTER_NS {
                gone.push((*key, object.time_ns));
            }
        });
        all.owners = owners(ledger, &seen, internals);
        for (key, time_ns) in gone {
            source.remove_object(&key, time_ns);
        }
        // Requests for objects that have ended meanwhile.
        let there: HashSet<ObjectId> =
            seen.iter().map(|(key, one)| ObjectId { key: *key, time_ns: one.time_ns }).collect();
        for id in requests.keys().filter(|id| !there.contains(id)) {
            source.delete_release_request(id);
        }
        if is_shown {
            fields::read(&mut all, &others, type_of, |pid, locations| {
                memory(source, pid, locations)
            });
        }
        Ok(all)
    }
}
