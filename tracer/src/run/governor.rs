//! Keeps to a budget: opens and closes the windows in which the targets are traced.
//!
//! Runs on the attacher's thread, which has the programs. Takes readings from the collector, hands on requests to it,
//! and takes hold of the targets or lets go of them.

use std::{
    sync::mpsc::{self, Sender, SyncSender},
    thread,
    time::{Duration, Instant},
};

use super::{
    budget::{Budget, Stretch, WINDOW_NS},
    calibrate::ProbeCosts,
};
use crate::{
    collect::{
        collector::{Reading, Request, now_ns},
        windows::OverheadReading,
    },
    kernel::{Calls, Failed, Programs, Statistics},
    probes::Probe,
    target::{Pid, usage::cpu_ns},
};

/// How often the account is looked at.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// Processor time of processes is counted in such steps.
const TICK_NS: u64 = 10_000_000;
/// By how much a window may begin later than it could.
const JITTER_NS: u64 = 500_000_000;
/// How long system calls are counted before a window.
const REFERENCE: Duration = Duration::from_millis(200);
/// How long the collector is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The governor of a budget.
pub(super) struct Governor {
    budget: Budget,
    prices: ProbeCosts,
    /// Price of a hit by number of the probe, nanoseconds.
    by_probe: Vec<f64>,
    pids: Vec<Pid>,
    requests: Sender<Request>,
    /// The kernel counts the time of programs as long as this is held.
    _statistics: Statistics,
    state: State,
    /// Where things stood when the account was looked at last.
    before: Before,
}

enum State {
    /// Recording; with system calls counted, but in the first window.
    Open { since: Instant, calls: Option<Counted> },
    /// Not recording; from that moment on it may be, which is chosen when the debt is paid.
    Closed { not_before: Option<Instant> },
}

/// System calls being counted, since when, and how many there were before.
struct Counted {
    _calls: Calls,
    from: (u64, u64),
}

/// What the account was last balanced by.
struct Before {
    at_ns: u64,
    cpu_ns: u64,
    program_ns: u64,
    hits: Vec<u64>,
}

impl Governor {
    /// A governor for a run that has just begun to record.
    pub(super) fn new(
        share: f64,
        prices: ProbeCosts,
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
            prices,
            by_probe: Vec::new(),
            pids,
            requests,
            _statistics: statistics,
            state: State::Open { since: Instant::now(), calls: None },
            before,
        })
    }

    /// These are probed from now on.
    pub(super) fn learn(&mut self, probes: &[Probe]) {
        self.by_probe = self.prices.by_probe(probes);
    }

    /// Looks at the account, and opens or closes a window. A collector that is gone is no failure: the end is near.
    pub(super) fn look(&mut self, programs: &mut Programs) -> Result<(), Failed> {
        match &self.state {
            State::Open { since, .. } => {
                let young = since.elapsed() < Duration::from_nanos(WINDOW_NS);
                if young {
                    return Ok(());
                }
                let Some(reading) = self.ask(Request::Read) else { return Ok(()) };
                self.balance(&reading, programs, true, 0)?;
                if self.budget.is_spent() {
                    self.close(programs)?;
                }
            }
            State::Closed { not_before } => {
                let not_before = *not_before;
                let Some(reading) = self.ask(Request::Read) else { return Ok(()) };
                self.balance(&reading, programs, false, 0)?;
                if self.budget.is_paid() {
                    let now = Instant::now();
                    match not_before {
                        Some(moment) if now >= moment => self.open(programs)?,
                        Some(_) => {}
                        // So that windows do not keep step with what targets do in turn.
                        None => {
                            let jitter = Duration::from_nanos(now_ns() % JITTER_NS);
                            self.state = State::Closed { not_before: Some(now + jitter) };
                        }
                    }
                }
            }
        }
        self.tell();
        Ok(())
    }

    /// How long nothing is to be done.
    pub(super) fn pause(&self) -> Duration {
        match &self.state {
            State::Open { since, .. } => Duration::from_nanos(WINDOW_NS)
                .saturating_sub(since.elapsed())
                .clamp(Duration::from_millis(1), LOOK),
            State::Closed { .. } => LOOK,
        }
    }

    fn close(&mut self, programs: &mut Programs) -> Result<(), Failed> {
        let Some(reading) = self.ask(Request::Pause) else { return Ok(()) };
        if let State::Open { calls: Some(counted), .. } = &self.state {
            self.budget.count(
                reading.calls.saturating_sub(counted.from.1),
                reading.at_ns.saturating_sub(counted.from.0),
                true,
            );
        }
        let begun = Instant::now();
        programs.detach_all();
        // The breakpoints are taken out first, and then waited for; meanwhile hits that are not counted cost their trap.
        let tail = begun.elapsed() / 3;
        self.balance(&reading, programs, true, tail.as_nanos())?;
        self.state = State::Closed { not_before: None };
        Ok(())
    }

    fn open(&mut self, programs: &mut Programs) -> Result<(), Failed> {
        let calls = programs.count_syscalls()?;
        let Some(from) = self.ask(Request::Read) else { return Ok(()) };
        thread::sleep(REFERENCE);
        let Some(to) = self.ask(Request::Read) else { return Ok(()) };
        self.budget.count(to.calls - from.calls, to.at_ns.saturating_sub(from.at_ns), false);
        self.balance(&to, programs, false, 0)?;
        programs.reattach()?;
        let Some(reading) = self.ask(Request::Resume) else { return Ok(()) };
        let counted = Counted { _calls: calls, from: (reading.at_ns, reading.calls) };
        self.state = State::Open { since: Instant::now(), calls: Some(counted) };
        Ok(())
    }

    /// Brings the account up to date; `tail_ns` is time in which hits were not counted.
    fn balance(
        &mut self,
        reading: &Reading,
        programs: &mut Programs,
        recorded: bool,
        tail_ns: u128,
    ) -> Result<(), Failed> {
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
            "{} for {:.0} ms: {:.0} ms of processor time, traps {:.1} ms, programs {:.1} ms, {} calls",
            if recorded { "recorded" } else { "apart" },
            length_ns as f64 / 1e6,
            cpu_ns as f64 / 1e6,
            traps_ns / 1e6,
            programs_ns / 1e6,
            reading.calls,
        );
        // Nobody can lose more than there was: on a busy host a program's time has that in it in which it had to
        // wait for a processor.
        let cost_ns = cost_ns.min(cpu_ns + TICK_NS);
        self.budget.spend(Stretch { length_ns, cpu_ns, cost_ns }, recorded);
        self.before = now;
        Ok(())
    }

    fn tell(&self) {
        let told = OverheadReading {
            budget: self.budget.share(),
            cost: self.budget.cost(),
            pace: self.budget.pace(),
            pace_error: self.budget.pace_error(),
        };
        drop(self.requests.send(Request::OverheadReading(told)));
    }

    /// Asks the collector; `None` when it is gone.
    fn ask(&self, request: impl FnOnce(SyncSender<Reading>) -> Request) -> Option<Reading> {
        let (done, answer) = mpsc::sync_channel(1);
        self.requests.send(request(done)).ok()?;
        answer.recv_timeout(PATIENCE).ok()
    }
}

/// Processor time that all of them have used.
fn used_ns(pids: &[Pid]) -> u64 {
    pids.iter().filter_map(|pid| cpu_ns(*pid)).sum()
}
