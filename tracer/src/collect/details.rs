//! What the programs know of objects beside the ledger: read for each snapshot.
//!
//! A part of the collector.

use std::{collections::HashSet, io};

use tracer_common::object::ObjectId;

use super::{
    collector::Collector,
    objects::{Asks, Objects},
};

/// What was made longer ago than that has been drained, nanoseconds.
const SURELY_DRAINED_NS: u64 = 10_000_000_000;

impl Collector {
    /// What is known of objects of libraries, where they are traced.
    pub(super) fn objects(&mut self, at_ns: u64, last: bool) -> io::Result<Option<Objects>> {
        if !self.manner.objects {
            return Ok(None);
        }
        // First: an object whose release is asked for later, or that comes later, is as it was a moment ago.
        let asks: Asks = self.tables.asks()?.into_iter().collect();
        let mut seen = Vec::new();
        self.tables.objects(&mut seen)?;
        self.look_at_placed(&seen, last);
        let mut gone = Vec::new();
        let objects = self.ledger.objects(&seen, &asks, &self.manner.summed, |key, object| {
            // What has come since the last drain is not known yet.
            if at_ns.saturating_sub(object.time_ns) > SURELY_DRAINED_NS {
                gone.push((*key, object.time_ns));
            }
        });
        for (key, time_ns) in gone {
            self.tables.forget_object(&key, time_ns);
        }
        // What was asked for an object that has ended meanwhile.
        let there: HashSet<ObjectId> =
            seen.iter().map(|(key, one)| ObjectId { key: *key, time_ns: one.time_ns }).collect();
        for id in asks.keys().filter(|id| !there.contains(id)) {
            self.tables.forget_ask(id);
        }
        Ok(Some(objects))
    }
}
