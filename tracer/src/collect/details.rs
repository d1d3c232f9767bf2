//! Details of objects that the BPF programs keep beside the ledger: read for each snapshot.
//!
//! A part of the collector.

use std::{collections::HashSet, io};

use tracer_common::object::ObjectId;

use super::{
    collector::Collector,
    objects::{Objects, ReleaseRequests},
};

/// Objects older than this have been drained for certain, nanoseconds.
const DRAINED_AFTER_NS: u64 = 10_000_000_000;

impl Collector {
    /// The library objects, where they are traced.
    pub(super) fn objects(&mut self, at_ns: u64, last: bool) -> io::Result<Option<Objects>> {
        if !self.options.objects {
            return Ok(None);
        }
        // Requests first: objects created or requested later appear as they were a moment ago.
        let requests: ReleaseRequests = self.tables.asks()?.into_iter().collect();
        let mut seen = Vec::new();
        self.tables.objects(&mut seen)?;
        self.liveness.check(&mut self.ledger, &self.tables, &seen, last);
        let mut gone = Vec::new();
        let objects = self.ledger.objects(&seen, &requests, &self.options.summed, |key, object| {
            // An object newer than the last drain is not in the ledger yet.
            if at_ns.saturating_sub(object.time_ns) > DRAINED_AFTER_NS {
                gone.push((*key, object.time_ns));
            }
        });
        for (key, time_ns) in gone {
            self.tables.remove_object(&key, time_ns);
        }
        // Requests for objects that have ended meanwhile.
        let there: HashSet<ObjectId> =
            seen.iter().map(|(key, one)| ObjectId { key: *key, time_ns: one.time_ns }).collect();
        for id in requests.keys().filter(|id| !there.contains(id)) {
            self.tables.delete_release_request(id);
        }
        Ok(Some(objects))
    }
}
