//! Load on a server until it is asked to stop: paced clients in this process, or a tool that is run again and again.
//!
//! Counts answers, so that the rates before and during tracing can be compared. A wrong answer ends the load with an
//! error. It knows no server.

use std::{
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Seconds of one run of a tool. Between two runs all its connections are closed and opened again.
const ROUND_S: u64 = 10;

/// One request of a client, answered and checked.
pub(super) type Ask = Box<dyn FnMut() -> Result<()> + Send>;

/// A running load.
#[derive(Debug)]
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    meter: Meter,
    threads: Vec<JoinHandle<Result<()>>>,
}

/// Answers so far, and the time they took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    answers: u64,
    time: Duration,
}

impl Reading {
    /// Answers per second since an earlier reading.
    pub(super) fn per_second_since(self, earlier: Self) -> f64 {
        let seconds = self.time.saturating_sub(earlier.time).as_secs_f64();
        if seconds == 0.0 { 0.0 } else { (self.answers - earlier.answers) as f64 / seconds }
    }
}

/// What is counted so far.
#[derive(Clone, Debug)]
enum Meter {
    /// Each answer, since the start.
    Answers(Arc<AtomicU64>, Instant),
    /// Whole runs of a tool.
    Rounds(Arc<Mutex<Reading>>),
}

impl Traffic {
    /// `number` clients that together ask `per_second` times per second; `connect` makes each.
    pub(super) fn clients(
        number: u32,
        per_second: u32,
        connect: impl Fn(u32) -> Result<Ask>,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let pause = Duration::from_secs(1) * number / per_second;
        let mut threads = Vec::new();
        for client in 0..number {
            let (ask, stop, answers) = (connect(client)?, Arc::clone(&stop), Arc::clone(&answers));
            threads.push(thread::spawn(move || paced(ask, pause, &stop, &answers)));
        }
        Ok(Self { stop, meter: Meter::Answers(answers, Instant::now()), threads })
    }

    /// A tool that runs for a number of seconds and says in its output how much was answered.
    pub(super) fn tool(
        command: impl Fn(u64) -> Command + Send + 'static,
        answered: fn(&str) -> Option<u64>,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(Mutex::new(Reading::default()));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answers = round(&command(ROUND_S), answered)?;
                let mut sum = counted.lock().unwrap_or_else(PoisonError::into_inner);
                sum.answers += answers;
                sum.time += start.elapsed();
            }
            Ok(())
        });
        Self { stop, meter: Meter::Rounds(rounds), threads: vec![thread] }
    }

    /// What was answered so far.
    pub(super) fn reading(&self) -> Reading {
        match &self.meter {
            Meter::Answers(answers, start) => {
                Reading { answers: answers.load(Ordering::Relaxed), time: start.elapsed() }
            }
            Meter::Rounds(sum) => *sum.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Fails if the load has ended by an error.
    pub(super) fn check(&mut self) -> Result<()> {
        while let Some(at) = self.threads.iter().position(JoinHandle::is_finished) {
            join(self.threads.swap_remove(at))?;
        }
        ensure!(!self.threads.is_empty(), "the load has ended");
        Ok(())
    }

    /// Stops it; an error of any client is returned.
    pub(super) fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).try_for_each(join)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().ok().context("the load panicked")?
}

/// Asks at regular times. What was missed is not made up for: a burst after a stall would be another load.
fn paced(mut ask: Ask, pause: Duration, stop: &AtomicBool, answers: &AtomicU64) -> Result<()> {
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        ask()?;
        answers.fetch_add(1, Ordering::Relaxed);
        next = (next + pause).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Runs a tool once, with less priority than the server.
fn round(tool: &Command, answered: fn(&str) -> Option<u64>) -> Result<u64> {
    let name = tool.get_program().to_string_lossy().into_owned();
    let mut command = Command::new("nice");
    command.args(["-n", "10"]).arg(tool.get_program()).args(tool.get_args());
    for (key, value) in tool.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    let output = command.output().with_context(|| format!("could not run `{name}`"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{name}`: {}\n{text}{complaint}", output.status);
    answered(&text).with_context(|| format!("`{name}` states no count:\n{text}{complaint}"))
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::wait_until;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn clients_keep_their_pace() -> Result<()> {
        let traffic = Traffic::clients(2, 200, |_| Ok(Box::new(|| Ok(()))))?;
        wait_until("answers", LIMIT, || Ok(traffic.reading().answers >= 40))?;
        let reading = traffic.reading();
        assert!(reading.per_second_since(Reading::default()) < 210.0, "{reading:?}");
        traffic.end()
    }

    #[test]
    fn a_wrong_answer_ends_the_load() -> Result<()> {
        let mut traffic = Traffic::clients(1, 100, |_| Ok(Box::new(|| bail!("wrong"))))?;
        wait_until("an error", LIMIT, || Ok(traffic.check().is_err()))
    }

    #[test]
    fn a_tool_is_counted_by_its_output_and_refused_without_one() -> Result<()> {
        let said = |text: &str| {
            let mut command = Command::new("echo");
            command.arg(text);
            command
        };
        let count: fn(&str) -> Option<u64> = |text| text.trim().parse().ok();
        assert_eq!(round(&said("12"), count)?, 12);
        assert!(round(&said("many"), count).is_err());
        assert!(round(&Command::new("false"), count).is_err());
        Ok(())
    }
}
