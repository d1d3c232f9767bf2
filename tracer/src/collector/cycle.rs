//! What a cycle receives from the kernel, and in which order.
//!
//! Takes the record source, passes on drained resources and records. Reads no clock but for the pace of drains.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    kernel::Drained,
    ledger::events::{Event, decode, drained},
    source::RecordSource,
    target::code_history::Load,
};

/// Where events come from.
pub(super) trait EventSource {
    /// Takes all entries out of the young generation and appends them to `taken`.
    fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()>;

    /// The code that targets have mapped since the last call.
    fn code_loads(&mut self) -> Vec<Load>;

    /// Passes waiting records to `read`, oldest first, at most `most` of them. Returns how many it passed.
    fn records(&mut self, most: usize, read: impl FnMut(&[u8])) -> io::Result<usize>;
}

impl EventSource for RecordSource {
    fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
        Self::drain(self, taken)
    }

    fn code_loads(&mut self) -> Vec<Load> {
        Self::code_loads(self)
    }

    fn records(&mut self, most: usize, read: impl FnMut(&[u8])) -> io::Result<usize> {
        Self::records(self, most, read)
    }
}

/// What one cycle has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    /// Resources, drained in this cycle or since the last one.
    pub(super) drained: usize,
    /// Records.
    pub(super) records: usize,
}

/// Drains the young generation, then reads the records, at most `most`: in this order, so that no record refers to a
/// resource that has been drained and has not reached the ledger. `batch` holds what was drained since the last cycle,
/// and is empty afterwards. `apply` gets each event, or `None` for a malformed one.
pub(super) fn receive(
    source: &mut impl EventSource,
    batch: &mut Vec<Drained>,
    most: usize,
    mut apply: impl FnMut(Option<Event>),
) -> io::Result<Received> {
    source.drain(batch)?;
    let resources = batch.len();
    // What was drained may have been acquired by code that was mapped just before.
    source.code_loads().into_iter().for_each(|load| apply(Some(Event::Loaded(load))));
    for (key, young) in batch.drain(..) {
        apply(drained(&key, &young));
    }
    let records = source.records(most, |record| apply(decode(record)))?;
    Ok(Received { drained: resources, records })
}

/// Longest walk over the ledger without a drain.
const MAX_WALK: Duration = Duration::from_millis(50);

/// Keeps draining during long work. What is drained reaches the ledger with the next cycle.
pub(super) struct Drains {
    last: Instant,
    failed: Option<io::Error>,
}

impl Drains {
    /// The work begins now.
    pub(super) fn new() -> Self {
        Self { last: Instant::now(), failed: None }
    }

    /// Drains into `drained`, if the last drain was a while ago. A tape has all of it with the next cycle's drain.
    pub(super) fn keep_up(&mut self, source: &mut RecordSource, drained: &mut Vec<Drained>) {
        if self.last.elapsed() >= MAX_WALK && self.failed.is_none() {
            self.failed = source.drain_early(drained).err();
            self.last = Instant::now();
        }
    }

    /// Whether every drain succeeded.
    pub(super) fn result(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::{
        kind::Kind,
        record::{Change, RELEASE},
        state::{Key, Young},
    };
    use zerocopy::IntoBytes as _;

    use super::*;
    use crate::ledger::Ledger;

    /// A kernel with one thread, which releases block 1 as soon as it has been drained.
    #[derive(Default)]
    struct Kernel {
        calls: Vec<&'static str>,
        young: Vec<Drained>,
        records: Vec<Vec<u8>>,
    }

    fn young(handle: u64, position: u64) -> Drained {
        let key = Key { pid: 7, kind: Kind::Heap as u32, handle };
        (key, Young { size: 10, time_ns: 0, position, site: 1, connection: 0 })
    }

    fn released(handle: u64, position: u64) -> Vec<u8> {
        let change = Change {
            record: RELEASE,
            kind: Kind::Heap as u8,
            flags: 0,
            probe: 0,
            pid: 7,
            tid: 7,
            handle,
            size: 0,
            position,
            time_ns: 0,
            caller: 0,
            site: 0,
            connection: 0,
        };
        change.as_bytes().to_vec()
    }

    impl EventSource for Kernel {
        fn drain(&mut self, taken: &mut Vec<Drained>) -> io::Result<()> {
            self.calls.push("drain");
            // A release of a block that is not young any more becomes a record.
            if self.young.iter().any(|(key, _)| key.handle == 1) {
                self.records.push(released(1, 20));
            }
            taken.append(&mut self.young);
            Ok(())
        }

        fn code_loads(&mut self) -> Vec<Load> {
            self.calls.push("code loads");
            Vec::new()
        }

        fn records(&mut self, most: usize, mut read: impl FnMut(&[u8])) -> io::Result<usize> {
            self.calls.push("records");
            let some = most.min(self.records.len());
            self.records.drain(..some).for_each(|record| read(&record));
            Ok(some)
        }
    }

    fn outstanding(ledger: &Ledger) -> u64 {
        ledger.sites().map(|(_, _, tally)| tally.outstanding().count).sum()
    }

    #[test]
    fn a_record_of_a_block_that_was_drained_in_the_same_cycle_finds_it_in_the_ledger() {
        let mut kernel = Kernel { young: vec![young(1, 10), young(2, 11)], ..Kernel::default() };
        let (mut ledger, mut batch) = (Ledger::default(), Vec::new());
        let apply = |event: Option<Event>| ledger.apply(event.unwrap());
        let received = receive(&mut kernel, &mut batch, 100, apply).unwrap();
        assert_eq!(kernel.calls, ["drain", "code loads", "records"]);
        assert_eq!((received, batch.len()), (Received { drained: 2, records: 1 }, 0));
        assert_eq!((outstanding(&ledger), ledger.unknown_releases()), (1, 0));
    }

    #[test]
    fn a_record_of_a_block_that_was_drained_during_a_snapshot_finds_it_in_the_ledger() {
        let (mut kernel, mut ledger) = (Kernel::default(), Ledger::default());
        // The snapshot drains block 3, the program releases it.
        let mut batch = vec![young(3, 10)];
        kernel.records.push(released(3, 20));
        let apply = |event: Option<Event>| ledger.apply(event.unwrap());
        let received = receive(&mut kernel, &mut batch, 100, apply).unwrap();
        assert_eq!(received, Received { drained: 1, records: 1 });
        assert_eq!((outstanding(&ledger), ledger.unknown_releases()), (0, 0));
    }

    #[test]
    fn records_are_bounded_and_malformed_ones_are_passed_on() {
        let mut kernel = Kernel::default();
        kernel.records.extend([vec![1, 2, 3], released(4, 1), released(5, 2)]);
        let mut malformed = 0;
        let apply = |event: Option<Event>| malformed += usize::from(event.is_none());
        let received = receive(&mut kernel, &mut Vec::new(), 2, apply).unwrap();
        assert_eq!((received.records, malformed, kernel.records.len()), (2, 1, 1));
    }
}
