//! Paces the collector: when to drain, when to make a snapshot, when to look for requests.
//!
//! Takes the clock, a crowded ring buffer and the ends of targets, passes on what is due. A tape needs none: it says what
//! was due.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{BorrowedFd, OwnedFd},
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use rustix::event::{Timespec, epoll};

use super::{Request, steps::Step};
use crate::{options::TraceOptions, source::RecordSource};

/// Longest time between two drains: a resource that lives longer may cost a record at its release.
const MAX_DRAIN_INTERVAL: Duration = Duration::from_millis(250);
/// The same with `--light`, where nothing dies in the kernel because releases are not seen there.
const MAX_LIGHT_DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time: a drain of an empty table takes about a millisecond.
const MIN_DRAIN_INTERVAL: Duration = Duration::from_millis(5);
/// With more blocks and records than this in one cycle, the next drain comes sooner.
const CROWDED: usize = 1 << 16;
/// Longest wait before requests are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The same where requests open and close sampling windows.
const BUDGET_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Time between two snapshots for each call site: what it takes to collect and to judge them is a small share of this.
/// 25,000 have a snapshot per second.
const PER_SITE: Duration = Duration::from_micros(40);

/// When what is due.
pub(super) struct Pacer {
    /// An epoll instance; wakes up when the BPF programs find the ring buffer crowded.
    wakes: OwnedFd,
    /// As the user wants it.
    interval: Duration,
    /// Call sites of the last snapshot.
    sites: usize,
    poll_interval: Duration,
    light: bool,
    max_pause: Duration,
    pause: Duration,
    next_drain: Instant,
    next_snapshot: Instant,
    /// The last step was a request: what is due comes before the next one.
    requested: bool,
}

impl Pacer {
    /// Everything is due; `None` for a tape.
    pub(super) fn new(
        source: &RecordSource,
        interval: Duration,
        options: &TraceOptions,
    ) -> io::Result<Option<Self>> {
        let Some(ring) = source.ring() else { return Ok(None) };
        let wakes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // Edge-triggered: the buffer nearly always holds something, which is no reason to wake up.
        // SAFETY: the ring buffer's descriptor stays open as long as the source, which lives as long as the collector.
        let ring = unsafe { BorrowedFd::borrow_raw(ring) };
        let when = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&wakes, ring, epoll::EventData::new_u64(0), when)?;
        let most = if options.light { MAX_LIGHT_DRAIN_INTERVAL } else { MAX_DRAIN_INTERVAL };
        let most = most.min(interval);
        let budget = options.max_overhead.is_some();
        Ok(Some(Self {
            wakes,
            interval,
            sites: 0,
            poll_interval: if budget { BUDGET_POLL_INTERVAL } else { POLL_INTERVAL },
            light: options.light,
            max_pause: most,
            pause: most,
            next_drain: Instant::now(),
            next_snapshot: Instant::now(),
            requested: false,
        }))
    }

    /// Waits for the next step.
    pub(super) fn next(
        &mut self,
        requests: Option<&Receiver<Request>>,
        source: &RecordSource,
        paused: bool,
    ) -> Step {
        loop {
            if !std::mem::take(&mut self.requested) {
                let request = requests.map_or(Err(TryRecvError::Disconnected), Receiver::try_recv);
                match request {
                    Ok(Request::Stop) | Err(TryRecvError::Disconnected) => return Step::Stop,
                    Ok(request) => {
                        self.requested = true;
                        return Step::Request(request);
                    }
                    Err(TryRecvError::Empty) => {}
                }
            }
            let now = Instant::now();
            if now >= self.next_drain && !paused {
                return Step::Cycle;
            }
            // The end of a target is reported at once.
            if now >= self.next_snapshot || source.any_ended() {
                let interval = spaced(self.interval, self.sites);
                self.next_snapshot = (self.next_snapshot + interval).max(now + interval / 2);
                return Step::Snapshot;
            }
            let next = self.next_snapshot;
            let until = if paused { next } else { self.next_drain.min(next) };
            // The sooner new code is known, the fewer stacks through it are truncated.
            if self.wait(until) || source.has_code_loads() || source.awaits_tables() {
                self.next_drain = Instant::now();
            }
        }
    }

    /// A snapshot with so many call sites has been made.
    pub(super) const fn published(&mut self, sites: usize) {
        self.sites = sites;
    }

    /// A cycle has ended, with so many resources and records; `late` if its drain came late.
    pub(super) fn cycled(&mut self, received: usize, late: bool) {
        // A touched page may be checked late; without a drain it is not lost.
        let full = late && !self.light;
        let pause = if full || received > CROWDED { self.pause / 2 } else { self.pause * 3 / 2 };
        self.pause = pause.clamp(MIN_DRAIN_INTERVAL, self.max_pause);
        self.next_drain = Instant::now() + self.pause;
    }

    /// Sleeps until `until`, a crowded ring buffer, or the next check for requests. Returns whether the ring buffer
    /// is crowded.
    fn wait(&self, until: Instant) -> bool {
        let timeout = until.saturating_duration_since(Instant::now()).min(self.poll_interval);
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut events = [MaybeUninit::uninit(); 1];
        // An interrupted wait is a short wait.
        epoll::wait(&self.wakes, &mut events, Some(&timeout))
            .is_ok_and(|(woken, _)| !woken.is_empty())
    }
}

/// The time between two snapshots with so many call sites.
fn spaced(interval: Duration, sites: usize) -> Duration {
    interval.max(PER_SITE * u32::try_from(sites).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_very_many_call_sites_are_further_apart() {
        let second = Duration::from_secs(1);
        assert_eq!(spaced(second, 20_000), second);
        assert_eq!(spaced(second, 50_000), 2 * second);
        assert_eq!(spaced(second / 10, 5_000), second / 5);
    }
}
