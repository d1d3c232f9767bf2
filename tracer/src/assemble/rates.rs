//! Rates of leaktrace's own work: events, and processor time.
//!
//! Takes cumulative figures with their times, passes on rates. While leaktrace runs they are over a second at least: two
//! snapshots can be taken a few milliseconds apart, and what was counted for seconds would then seem to have happened
//! between them. The last report's rates are over the whole run, since it is read as its summary. Pure.

use std::collections::VecDeque;

/// The shortest window of a rate: the refresh interval, less what a snapshot may come early.
const SHORTEST_NS: u64 = 900_000_000;

/// Cumulative figures at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// By the clock of the snapshots.
    pub(super) at_ns: u64,
    /// Acquisitions and releases by then.
    pub(super) events: u64,
    /// leaktrace's processor time by then, seconds.
    pub(super) cpu_s: f64,
}

impl Reading {
    /// Seconds since an earlier moment, if they are enough for a rate.
    fn seconds_since(&self, at_ns: u64) -> Option<f64> {
        let window = self.at_ns.saturating_sub(at_ns);
        (window >= SHORTEST_NS).then_some(window as f64 / 1e9)
    }

    fn cpu_percent_since(&self, earlier: &Self) -> Option<f64> {
        Some((self.cpu_s - earlier.cpu_s) * 100.0 / self.seconds_since(earlier.at_ns)?)
    }
}

/// The readings that rates need.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The first reading. Attaching, which came before it, took more processor time than tracing does.
    first: Option<Reading>,
    /// Those of the last second, and the newest one before, oldest first.
    recent: VecDeque<Reading>,
}

impl Rates {
    /// Adds a reading. Returns events per second and processor time in percent; tracing began at `started_ns`, with no
    /// event.
    pub(super) fn update(
        &mut self,
        started_ns: u64,
        now: Reading,
        is_last: bool,
    ) -> (f64, Option<f64>) {
        let first = *self.first.get_or_insert(now);
        let is_old = |one: &Reading| now.seconds_since(one.at_ns).is_some();
        while self.recent.get(1).is_some_and(is_old) {
            self.recent.pop_front();
        }
        let before = self.recent.front().copied().filter(is_old);
        self.recent.push_back(now);
        let since = |at_ns, events| {
            now.seconds_since(at_ns)
                .map(|seconds| now.events.saturating_sub(events) as f64 / seconds)
        };
        let of_run = since(started_ns, 0).unwrap_or_default();
        match before.filter(|_| !is_last) {
            Some(before) => {
                let events = since(before.at_ns, before.events);
                (events.unwrap_or(of_run), now.cpu_percent_since(&before))
            }
            None => (of_run, now.cpu_percent_since(&first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 5_000_000_000;

    /// Feeds readings: seconds after the start, events and processor seconds by then.
    fn after(readings: &[(f64, u64, f64)], is_last: bool) -> (f64, Option<f64>) {
        let mut rates = Rates::default();
        let mut rate = (0.0, None);
        for (number, (seconds, events, cpu_s)) in readings.iter().enumerate() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let at_ns = START + (seconds * 1e9) as u64;
            let now = Reading { at_ns, events: *events, cpu_s: *cpu_s };
            rate = rates.update(START, now, is_last && number + 1 == readings.len());
        }
        rate
    }

    #[track_caller]
    fn check(readings: &[(f64, u64, f64)], is_last: bool, expected: (f64, Option<f64>)) {
        let (events_per_s, cpu_percent) = after(readings, is_last);
        assert!((events_per_s - expected.0).abs() < 1e-6, "{events_per_s}");
        let equal = match (cpu_percent, expected.1) {
            (Some(one), Some(other)) => (one - other).abs() < 1e-6,
            (one, other) => one == other,
        };
        assert!(equal, "{cpu_percent:?}");
    }

    #[test]
    fn two_snapshots_within_an_instant_make_no_rate_of_their_own() {
        let run = [(1.0, 100, 1.0), (2.0, 300, 1.1), (2.01, 310, 1.3)];
        check(&run, false, (210.0 / 1.01, Some(30.0 / 1.01)));
        // Nothing within the last second: the last reading before it.
        check(&[(1.0, 100, 1.0), (2.0, 300, 1.1), (4.0, 500, 1.5)], false, (100.0, Some(20.0)));
    }

    #[test]
    fn the_last_rate_is_that_of_the_whole_run() {
        let run = [(1.0, 100, 1.0), (2.0, 300, 1.1), (5.0, 300, 1.4), (5.001, 300, 1.8)];
        check(&run, true, (300.0 / 5.001, Some(80.0 / 4.001)));
    }

    #[test]
    fn before_a_second_has_passed_there_is_no_rate() {
        check(&[(0.01, 50, 0.5)], false, (0.0, None));
        check(&[(0.01, 50, 0.5), (0.5, 80, 0.6)], true, (0.0, None));
        check(&[(1.0, 100, 1.0)], false, (100.0, None));
    }
}
