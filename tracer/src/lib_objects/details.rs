//! Details of objects that the BPF programs keep beside the ledger: read for each snapshot.

use std::{collections::HashSet, io};

use tracer_common::object::ObjectId;

use super::ledger::{Objects, ReleaseRequests, objects};
use crate::{ledger::Ledger, reconcile::caller_allocated::LivenessChecker, source::RecordSource};

/// Objects older than this have been drained for certain, nanoseconds.
const DRAINED_AFTER_NS: u64 = 10_000_000_000;

/// The library objects at `at_ns`; objects of these `sizes` are listed in [`Objects::others`] where they are not shown.
/// Also removes the programs' entries for objects that have ended.
pub(crate) fn read(
    source: &mut RecordSource,
    ledger: &mut Ledger,
    liveness: &mut LivenessChecker,
    sizes: &[u64],
    at_ns: u64,
    last: bool,
) -> io::Result<Objects> {
    // Requests first: objects created or requested later appear as they were a moment ago.
    let requests: ReleaseRequests = source.release_requests()?.into_iter().collect();
    let seen = source.objects()?;
    liveness.check(ledger, source, &seen, last);
    let mut gone = Vec::new();
    let objects = objects(ledger, &seen, &requests, sizes, |key, object| {
        // An object newer than the last drain is not in the ledger yet.
        if at_ns.saturating_sub(object.time_ns) > DRAINED_AFTER_NS {
            gone.push((*key, object.time_ns));
        }
    });
    for (key, time_ns) in gone {
        source.remove_object(&key, time_ns);
    }
    // Requests for objects that have ended meanwhile.
    let there: HashSet<ObjectId> =
        seen.iter().map(|(key, one)| ObjectId { key: *key, time_ns: one.time_ns }).collect();
    for id in requests.keys().filter(|id| !there.contains(id)) {
        source.delete_release_request(id);
    }
    Ok(objects)
}
