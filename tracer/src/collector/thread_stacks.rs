//! The threads that have not been released, and the memory of their stacks, for the snapshot.
//!
//! A part of the collector: takes the ledger's threads, asks for the sizes of some of their stacks, passes on sums by call
//! site. The stack of a thread that has ended does not change any more, and is looked at once.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use foldhash::fast::FixedState;

use crate::{
    ledger::{Ledger, OutstandingThread, events::Handle},
    snapshot::SiteThreads,
    source::RecordSource,
    target::{Pid, stacks::StackBytes},
};

/// Stacks looked at for one snapshot: of each, 2,048 pages, which takes some 20 µs.
const AT_ONCE: usize = 512;
/// How long a look at the stack of a running thread is good for.
const FRESH_NS: u64 = 5_000_000_000;

/// What is known of a thread's stack.
#[derive(Clone, Copy, Debug)]
struct Look {
    bytes: StackBytes,
    at_ns: u64,
    ended: bool,
}

/// Looks at stacks, by the thread's handle and start.
#[derive(Debug, Default)]
pub(super) struct ThreadStacks {
    looks: HashMap<(Handle, u64), Look, FixedState>,
}

impl ThreadStacks {
    /// The threads of the minimum age that have not been released, by call site.
    pub(super) fn sums(
        &mut self,
        source: &mut RecordSource,
        ledger: &mut Ledger,
        (at_ns, min_age): (u64, Duration),
    ) -> BTreeMap<u32, SiteThreads> {
        let min_age_ns = u64::try_from(min_age.as_nanos()).unwrap_or(u64::MAX);
        let threads = ledger.outstanding_threads();
        self.look(&threads, at_ns, |pid, tops| source.stacks(pid, tops));
        let mut sums: BTreeMap<u32, SiteThreads> = BTreeMap::new();
        let old = |thread: &&OutstandingThread| at_ns.saturating_sub(thread.time_ns) >= min_age_ns;
        for thread in threads.iter().filter(old) {
            let (space, resident) = self.looks.get(&name(thread)).map_or((0, 0), |look| look.bytes);
            let (ended, alive) = (u64::from(thread.ended), u64::from(!thread.ended));
            sums.entry(thread.site).or_default().merge(SiteThreads {
                alive,
                ended,
                stack_bytes: space,
                resident_bytes: resident,
            });
        }
        sums
    }

    /// Looks at the stacks of threads that are new or have ended, then at those that were looked at long ago.
    fn look(
        &mut self,
        threads: &[OutstandingThread],
        at_ns: u64,
        mut read: impl FnMut(Pid, &[u64]) -> Vec<StackBytes>,
    ) {
        let mut known = std::mem::take(&mut self.looks);
        self.looks = threads
            .iter()
            .filter_map(|thread| Some((name(thread), known.remove(&name(thread))?)))
            .collect();
        let due = |thread: &&OutstandingThread| match self.looks.get(&name(thread)) {
            None => true,
            Some(look) if thread.ended => !look.ended,
            Some(look) => at_ns.saturating_sub(look.at_ns) >= FRESH_NS,
        };
        let mut due: Vec<&OutstandingThread> = threads.iter().filter(due).collect();
        let last = |thread: &&OutstandingThread| {
            (self.looks.get(&name(thread)).map(|look| look.at_ns), thread.handle)
        };
        due.sort_unstable_by_key(last);
        due.truncate(AT_ONCE);
        let mut by_process: BTreeMap<Pid, Vec<&OutstandingThread>> = BTreeMap::new();
        for thread in due {
            by_process.entry(thread.handle.pid).or_default().push(thread);
        }
        for (pid, mut threads) in by_process {
            threads.sort_unstable_by_key(|thread| thread.handle.value);
            let tops: Vec<u64> = threads.iter().map(|thread| thread.handle.value).collect();
            for (thread, bytes) in threads.iter().zip(read(pid, &tops)) {
                self.looks.insert(name(thread), Look { bytes, at_ns, ended: thread.ended });
            }
        }
    }
}

/// What distinguishes a thread from all others.
const fn name(thread: &OutstandingThread) -> (Handle, u64) {
    (thread.handle, thread.time_ns)
}

#[cfg(test)]
mod tests {
    use tracer_common::kind::Kind;

    use super::*;

    fn thread(value: u64, ended: bool) -> OutstandingThread {
        let handle = Handle { pid: Pid(1), kind: Kind::Thread, value };
        OutstandingThread { handle, site: 1, time_ns: value, ended }
    }

    #[test]
    fn a_stack_is_looked_at_again_when_its_thread_has_ended_and_now_and_then_before() {
        let mut stacks = ThreadStacks::default();
        let mut look = |threads: &[OutstandingThread], seconds: u64| {
            let mut asked = Vec::new();
            stacks.look(threads, seconds * 1_000_000_000, |_, tops| {
                asked.extend_from_slice(tops);
                tops.iter().map(|_| (10, seconds)).collect()
            });
            let of = |one| stacks.looks.get(&name(one)).map(|look| look.bytes.1);
            (asked, threads.iter().map(of).collect::<Vec<_>>())
        };
        let both = [thread(2, false), thread(1, false)];
        assert_eq!(look(&both, 1), (vec![1, 2], vec![Some(1), Some(1)]));
        assert_eq!(look(&both, 2), (vec![], vec![Some(1), Some(1)]));
        assert_eq!(
            look(&[thread(2, true), thread(1, false)], 3),
            (vec![2], vec![Some(3), Some(1)])
        );
        assert_eq!(
            look(&[thread(2, true), thread(1, false)], 9),
            (vec![1], vec![Some(3), Some(9)])
        );
        assert_eq!(look(&[thread(1, false)], 10).1, [Some(9)]);
        assert_eq!(stacks.looks.len(), 1);
    }

    #[test]
    fn many_stacks_are_looked_at_in_turn() {
        let mut stacks = ThreadStacks::default();
        let threads: Vec<_> = (0..AT_ONCE as u64 + 7).map(|value| thread(value, true)).collect();
        for expected in [AT_ONCE, 7, 0] {
            let mut asked = 0;
            stacks.look(&threads, 1, |_, tops| {
                asked += tops.len();
                vec![(1, 1); tops.len()]
            });
            assert_eq!(asked, expected);
        }
    }
}
