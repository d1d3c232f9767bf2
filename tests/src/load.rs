//! Load on a program: starts at once, ends by itself or on request, and counts the answers.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Service,
    child::Running,
    http::Connection,
    programs::{Ask, Demand},
};

/// Concurrent connections.
const CONNECTIONS: usize = 4;
/// Time limit for `wrk` to end after the request to stop.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A running load. When dropped, it ends soon.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    /// Deadline at which it ends by itself.
    until: Instant,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Threads(Vec<JoinHandle<Result<u64>>>),
    Wrk(Running),
}

impl Load {
    /// Loads `service` for at most `limit`.
    pub fn start(service: &Service, demand: Demand, limit: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let port = service.port;
        let work = match demand {
            Demand::Ask(ask) => Work::Threads(
                (0..CONNECTIONS)
                    .map(|_| {
                        let stop = Arc::clone(&stop);
                        thread::spawn(move || asked(port, ask, limit, &stop))
                    })
                    .collect(),
            ),
            Demand::Wrk => wrk("http", port, limit)?,
            Demand::WrkTls => wrk("https", port, limit)?,
        };
        Ok(Self { stop, until: Instant::now() + limit, work })
    }

    /// Waits until the load ends by itself. Returns the number of answered requests.
    pub fn finish(self) -> Result<u64> {
        let left = self.until.saturating_duration_since(Instant::now());
        self.work.answered(left + END_LIMIT)
    }

    /// Stops the load. Returns the number of answered requests; a wrong answer is an error.
    pub fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Work::Wrk(wrk) = &self.work {
            wrk.signal("INT")?;
        }
        self.work.answered(END_LIMIT)
    }
}

impl Work {
    fn answered(self, limit: Duration) -> Result<u64> {
        match self {
            Self::Threads(threads) => {
                let mut sum = 0;
                for thread in threads {
                    sum += thread.join().ok().context("the load panicked")??;
                }
                Ok(sum)
            }
            Self::Wrk(mut wrk) => {
                wrk.wait(limit)?;
                requests_of(&wrk.rest_of_stdout())
            }
        }
    }
}

fn wrk(scheme: &str, port: u16, limit: Duration) -> Result<Work> {
    let running = Running::start(
        Command::new("wrk")
            .args(["-t", "1", "-c", &CONNECTIONS.to_string(), "--timeout", "20s", "-d"])
            .arg(format!("{}s", limit.as_secs().max(1)))
            .arg(format!("{scheme}://127.0.0.1:{port}/")),
    )?;
    Ok(Work::Wrk(running))
}

fn asked(port: u16, ask: Ask, limit: Duration, stop: &AtomicBool) -> Result<u64> {
    let start = Instant::now();
    let mut connection = Connection::open(port)?;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) && start.elapsed() < limit {
        ask(&mut connection, number).with_context(|| format!("request {number}"))?;
        number += 1;
    }
    Ok(number)
}

/// Parses `wrk`'s output: `N requests in …`, and lines about errors only if there were some.
fn requests_of(lines: &[String]) -> Result<u64> {
    let failure = lines.iter().find(|line| {
        line.contains("Non-2xx")
            // `wrk` reads once more from connections that nginx closed after their last request.
            || (line.contains("Socket errors") && !line.contains("connect 0, read 0, write 0"))
    });
    ensure!(failure.is_none(), "wrk: {}", lines.join("\n"));
    lines
        .iter()
        .find_map(|line| line.trim().split_once(" requests in "))
        .and_then(|(count, _)| count.parse().ok())
        .with_context(|| format!("wrk said:\n{}", lines.join("\n")))
}
