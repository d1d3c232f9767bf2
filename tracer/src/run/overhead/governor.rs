//! Overhead governor: starts and stops sampling windows so that tracing stays within its CPU budget.
//!
//! Runs on the attacher's thread, which owns the programs. Takes readings from the collector, passes on requests to it,
//! and attaches or detaches the probes.

use std::{
    sync::mpsc::{self, Sender, SyncSender},
    thread,
    time::{Duration, Instant},
};

use super::{
    budget::{Budget, Interval, WINDOW_NS},
    calibrate::ProbeCosts,
};
use crate::{
    collector::{Reading, Request},
    kernel::{Calls, KernelError, Programs, Statistics, now_ns},
    probes::Probe,
    snapshot::windows::OverheadReading,
    target::{Pid, usage::cpu_ns},
};

/// Time between two checks of the budget.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Resolution of a process's CPU time.
const TICK_NS: u64 = 10_000_000;
/// Upper bound of a window's random delay.
const JITTER_NS: u64 = 500_000_000;
/// How long the reference rate of system calls is measured before a window.
const REFERENCE: Duration = Duration::from_millis(200);
/// How long to wait for the collector.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps tracing within a budget.
pub(in crate::run) struct Governor {
    budget: Budget,
    costs: ProbeCosts,
    /// Cost of a hit by number of the probe, nanoseconds.
    by_probe: Vec<f64>,
    pids: Vec<Pid>,
    requests: Sender<Request>,
    /// The kernel measures the run time of BPF programs as long as this exists.
    _statistics: Statistics,
    state: State,
    /// The figures at the last check.
    before: Before,
}

enum State {
    /// Recording; system calls are counted, except in the first window.
    Open { since: Instant, calls: Option<Counted> },
    /// Not recording. When the debt is paid, the earliest start of the next window is chosen.
    Closed { not_before: Option<Instant> },
}

/// A running count of system calls: its start time and its value then.
struct Counted {
    _calls: Calls,
    from: (u64, u64),
}

/// The figures of a check.
struct Before {
    at_ns: u64,
    cpu_ns: u64,
    program_ns: u64,
    hits: Vec<u64>,
}

impl Governor {
    /// A governor for a session that has just started to record.
    pub(in crate::run) fn new(
        share: f64,
        costs: ProbeCosts,
        pids: Vec<Pid>,
        requests: Sender<Request>,
        programs: &mut Programs,
    ) -> anyhow::Result<Self> {
        let statistics = Programs::count_run_time()?;
        let before = Before {
            at_ns: now_ns(),
            cpu_ns: used_ns(&pids),
            program_ns: programs.time_ns()?,
            hits: Vec::new(),
        };
        Ok(Self {
            budget: Budget::new(share),
            costs,
            by_probe: Vec::new(),
            pids,
            requests,
            _statistics: statistics,
            state: State::Open { since: Instant::now(), calls: None },
            before,
        })
    }

    /// Sets the probes that are attached from now on.
    pub(in crate::run) fn learn(&mut self, probes: &[Probe]) {
        self.by_probe = self.costs.by_probe(probes);
    }

    /// Checks the budget, and opens or closes a window. A collector that has ended is not a failure: shutdown has
    /// begun.
    pub(in crate::run) fn check(&mut self, programs: &mut Programs) -> Result<(), KernelError> {
        match &self.state {
            State::Open { since, .. } => {
                let young = since.elapsed() < Duration::from_nanos(WINDOW_NS);
                if young {
                    return Ok(());
                }
                let Some(reading) = self.request(Request::Read) else { return Ok(()) };
                self.balance(&reading, programs, true, 0)?;
                if self.budget.is_spent() {
                    self.close(programs)?;
                }
            }
            State::Closed { not_before } => {
                let not_before = *not_before;
                let Some(reading) = self.request(Request::Read) else { return Ok(()) };
                self.balance(&reading, programs, false, 0)?;
                if self.budget.is_paid() {
                    let now = Instant::now();
                    match not_before {
                        Some(moment) if now >= moment => self.open(programs)?,
                        Some(_) => {}
                        // A random delay, so that windows do not synchronize with periodic work of the targets.
                        None => {
                            let jitter = Duration::from_nanos(now_ns() % JITTER_NS);
                            self.state = State::Closed { not_before: Some(now + jitter) };
                        }
                    }
                }
            }
        }
        self.report();
        Ok(())
    }

    /// Time until the next check.
    pub(in crate::run) fn pause(&self) -> Duration {
        match &self.state {
            State::Open { since, .. } => Duration::from_nanos(WINDOW_NS)
                .saturating_sub(since.elapsed())
                .clamp(Duration::from_millis(1), CHECK_INTERVAL),
            State::Closed { .. } => CHECK_INTERVAL,
        }
    }

    fn close(&mut self, programs: &mut Programs) -> Result<(), KernelError> {
        let Some(reading) = self.request(Request::Pause) else { return Ok(()) };
        if let State::Open { calls: Some(counted), .. } = &self.state {
            self.budget.count(
                reading.calls.saturating_sub(counted.from.1),
                reading.at_ns.saturating_sub(counted.from.0),
                true,
            );
        }
        let begun = Instant::now();
        programs.detach_all();
        // Detaching removes the breakpoints one after the other; until then, uncounted hits still cost their traps.
        let tail = begun.elapsed() / 3;
        self.balance(&reading, programs, true, tail.as_nanos())?;
        self.state = State::Closed { not_before: None };
        Ok(())
    }

    fn open(&mut self, programs: &mut Programs) -> Result<(), KernelError> {
        let calls = programs.count_syscalls()?;
        let Some(from) = self.request(Request::Read) else { return Ok(()) };
        thread::sleep(REFERENCE);
        let Some(to) = self.request(Request::Read) else { return Ok(()) };
        self.budget.count(to.calls - from.calls, to.at_ns.saturating_sub(from.at_ns), false);
        self.balance(&to, programs, false, 0)?;
        programs.reattach()?;
        let Some(reading) = self.request(Request::Resume) else { return Ok(()) };
        let counted = Counted { _calls: calls, from: (reading.at_ns, reading.calls) };
        self.state = State::Open { since: Instant::now(), calls: Some(counted) };
        Ok(())
    }

    /// Charges the time since the last check to the budget; `tail_ns` is time in which hits were not counted.
    fn balance(
        &mut self,
        reading: &Reading,
        programs: &mut Programs,
        recorded: bool,
        tail_ns: u128,
    ) -> Result<(), KernelError> {
        let now = Before {
            at_ns: reading.at_ns,
            cpu_ns: used_ns(&self.pids),
            program_ns: programs.time_ns()?,
            hits: reading.hits.clone(),
        };
        let hits = now.hits.iter().enumerate().map(|(at, hits)| {
            let new = hits.saturating_sub(self.before.hits.get(at).copied().unwrap_or(0));
            new as f64 * self.by_probe.get(at).copied().unwrap_or(0.0)
        });
        let traps_ns = hits.sum::<f64>();
        let length_ns = now.at_ns.saturating_sub(self.before.at_ns);
        let tail = if length_ns == 0 { 0.0 } else { tail_ns as f64 / length_ns as f64 };
        let programs_ns = now.program_ns.saturating_sub(self.before.program_ns) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
        let cost_ns = (traps_ns * (1.0 + tail) + programs_ns) as u64;
        let cpu_ns = now.cpu_ns.saturating_sub(self.before.cpu_ns);
        log::debug!(
            "{} for {:.0} ms: {:.0} ms of CPU time, traps {:.1} ms, programs {:.1} ms, {} calls",
            if recorded { "recorded" } else { "not recorded" },
            length_ns as f64 / 1e6,
            cpu_ns as f64 / 1e6,
            traps_ns / 1e6,
            programs_ns / 1e6,
            reading.calls,
        );
        // The cost cannot exceed the targets' CPU time: on a busy host, the run time of a BPF program includes time in
        // which it was preempted.
        let cost_ns = cost_ns.min(cpu_ns + TICK_NS);
        self.budget.spend(Interval { length_ns, cpu_ns, cost_ns }, recorded);
        self.before = now;
        Ok(())
    }

    fn report(&self) {
        let reading = OverheadReading {
            budget: self.budget.share(),
            cost: self.budget.cost(),
            pace: self.budget.pace(),
            pace_error: self.budget.pace_error(),
        };
        drop(self.requests.send(Request::OverheadReading(reading)));
    }

    /// Sends a request to the collector; `None` if it has ended.
    fn request(&self, request: impl FnOnce(SyncSender<Reading>) -> Request) -> Option<Reading> {
        let (done, answer) = mpsc::sync_channel(1);
        self.requests.send(request(done)).ok()?;
        answer.recv_timeout(PATIENCE).ok()
    }
}

/// CPU time that all of them have used.
fn used_ns(pids: &[Pid]) -> u64 {
    pids.iter().filter_map(|pid| cpu_ns(*pid)).sum()
}
