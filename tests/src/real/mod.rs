//! Real programs under load, their objects counted twice: by leaktrace, and by a witness of the tests.
//!
//! Both begin and end while the program is stopped, so they see the same calls, and every figure must be the same.
//! Each program is in a network of its own, with what loads it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Report, Trace,
    bpftrace::{Maker, Witness},
    child::Running,
    http::Connection,
    leaks::Objects,
    network, target_dir, wait_until,
};

mod lives;
pub mod makers;
mod transmission;
mod zmq;

pub use lives::{SOCKETIFY, Server, UWEBSOCKETS, UWEBSOCKETS_TLS};
pub use transmission::TRANSMISSION;
pub use zmq::{IPYKERNEL, PYZMQ, PYZMQ_OF_DEBIAN};

/// Longest time for a program to listen, to become quiet, to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// A program, and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub struct Real {
    /// What its folder is called.
    pub name: &'static str,
    /// Starts it, with what it works with.
    pub start: fn(&Path) -> Result<Started>,
    /// Loads it, from within its network: the same number of connections each time. It gets the folder.
    pub load: fn(&Path) -> Result<()>,
    /// What the witness counts.
    pub makers: &'static [&'static [Maker]],
    /// Objects that one load makes, at least.
    pub least: &'static [(&'static str, u64)],
    /// Kinds of which nothing is left when all connections are closed.
    pub gone: &'static [&'static str],
}

/// A program that is ready.
#[derive(Debug)]
pub struct Started {
    /// The one that is traced.
    pub target: Running,
    /// Others in its network; ended with it.
    pub beside: Vec<Running>,
    /// Files of this run.
    pub folder: PathBuf,
    /// Ends of connections that it has with itself, for good.
    pub own: usize,
}

impl Started {
    /// Starts `command` in a network of its own.
    pub fn alone(folder: &Path, command: &Command) -> Result<Self> {
        let target = Running::start(&mut network::alone(command))?;
        let started = Self { target, beside: Vec::new(), folder: folder.to_owned(), own: 0 };
        network::wait_until_alone(started.pid())?;
        Ok(started)
    }

    /// Starts `command` in a network of its own, and waits until it listens on `port`.
    pub fn listening(folder: &Path, command: &Command, port: u16) -> Result<Self> {
        let started = Self::alone(folder, command)?;
        started.wait_for(port)?;
        Ok(started)
    }

    /// Starts another program in the same network, and waits until it listens on `port`.
    pub fn beside(&mut self, command: &mut Command, port: u16) -> Result<()> {
        let running = network::inside(self.pid(), || Running::start(command))?;
        self.beside.push(running);
        self.wait_for(port)
    }

    fn wait_for(&self, port: u16) -> Result<()> {
        wait_until("a program listens", LIMIT, || {
            network::inside(self.pid(), || Ok(Connection::open(port).is_ok()))
        })
    }

    /// Process id of the one that is traced.
    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// States of all its threads, as letters.
    fn states(&self) -> Result<Vec<char>> {
        let mut states = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(entry?.path().join("stat")) else { continue };
            // Behind the name in parentheses, which may have any letters.
            let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            states.push(state.context("a thread's state")?);
        }
        Ok(states)
    }

    /// Waits until connections are over and, several times in a row, all threads sleep.
    fn wait_until_quiet(&self) -> Result<()> {
        wait_until("connections are over", LIMIT, || {
            Ok(network::connections(self.pid())? == self.own)
        })?;
        let mut asleep = 0;
        wait_until("the program sleeps", LIMIT, || {
            asleep = if self.states()?.iter().all(|state| *state == 'S') { asleep + 1 } else { 0 };
            Ok(asleep == 20)
        })
    }

    /// Stops all its threads.
    fn hold(&self) -> Result<()> {
        self.target.signal("STOP")?;
        wait_until("it stops", LIMIT, || Ok(self.states()?.iter().all(|state| *state == 'T')))
    }
}

/// Does `work` so many times, by several threads at once.
fn at_once(times: u64, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    const THREADS: u64 = 8;
    let share = |thread| times / THREADS + u64::from(thread < times % THREADS);
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || (0..share(thread)).try_for_each(|_| work())))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().ok().context("the load panicked")?)
    })
}

/// What the two have counted, of each kind.
#[derive(Debug)]
pub struct Counted {
    /// leaktrace's report.
    pub report: Report,
    /// The witness' sums.
    pub witnessed: BTreeMap<String, Objects>,
}

/// Does `work` in a folder that has no other use.
fn in_folder<T>(name: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = target_dir().join(format!("e2e/{}-{name}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    let outcome = work(&folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

/// Counts twice while a program is loaded.
fn count(
    started: &mut Started,
    makers: &[Maker],
    load: impl FnOnce(&mut Started) -> Result<()>,
) -> Result<Counted> {
    started.wait_until_quiet()?;
    started.hold()?;
    let pid = started.pid().to_string();
    // Both take many seconds to attach, and to detach: side by side.
    let mut trace = Trace::start(&["-p", &pid, "--kind", "heap,object"])?;
    let witness = Witness::attach(started.pid(), makers)?;
    trace.wait_until_attached()?;
    started.target.signal("CONT")?;
    load(started)?;
    started.wait_until_quiet()?;
    started.hold()?;
    let witnessed = witness.ask()?;
    let report = trace.stop()?;
    let witnessed = witnessed.wait()?;
    started.target.signal("CONT")?;
    Ok(Counted { report, witnessed })
}

/// Runs a program that loads another one: it says this line, and ends well.
fn says(command: &mut Command, line: &str) -> Result<()> {
    let output = command.output().context("could not run what loads it")?;
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.trim_end() == line, "{said}{complaint}");
    Ok(())
}

impl Real {
    /// Runs it, and counts twice.
    pub fn counted(&self) -> Result<Counted> {
        in_folder(self.name, |folder| {
            let mut started = (self.start)(folder)?;
            // What is made once is made now.
            network::inside(started.pid(), || (self.load)(folder))
                .context("before it is traced")?;
            count(&mut started, &self.makers.concat(), |started| {
                network::inside(started.pid(), || (self.load)(folder))
            })
        })
    }

    /// What does not hold of the two counts.
    pub fn holds(&self, counted: &Counted) -> Result<()> {
        holds(self.least, self.gone, counted)
    }
}

/// What does not hold of the two counts.
fn holds(least: &[(&str, u64)], gone: &[&str], counted: &Counted) -> Result<()> {
    let Counted { report, witnessed } = counted;
    let lost = report.lost_by_target()?;
    ensure!(lost.is_empty(), "lost {lost}");
    let mut rows = Vec::new();
    let mut different = Vec::new();
    for (kind, true_) in witnessed {
        let total = report.total(kind)?;
        let row = format!(
            "{kind}: {} created, {} destroyed by bpftrace; {} acquired, {} released, {} outstanding by leaktrace",
            true_.created,
            true_.destroyed,
            total.acquired_count,
            total.released_count,
            total.outstanding_count
        );
        let found = (total.acquired_count, total.released_count, total.outstanding_count);
        if found != (true_.created, true_.destroyed, true_.live()) {
            different.push(row.clone());
        }
        rows.push(row);
    }
    ensure!(different.is_empty(), "{}\nof\n{}", different.join("\n"), rows.join("\n"));
    let created = |kind: &str| witnessed.get(kind).map_or(0, |objects| objects.created);
    for (kind, least) in least {
        ensure!(created(kind) >= *least, "{kind}: {least} expected\n{}", rows.join("\n"));
    }
    for kind in gone {
        let left = report.total(kind)?.outstanding_count;
        ensure!(left == 0, "{left} {kind} are left\n{}", rows.join("\n"));
    }
    // A kind that the witness does not know would not have been compared.
    for kind in report.at("/totals")?.as_object().context("totals")?.keys() {
        let known = kind == "heap" || witnessed.contains_key(kind);
        ensure!(known || report.total(kind)?.acquired_count == 0, "bpftrace counts no {kind}");
    }
    rows_of_objects_agree(report)
}

/// The table of kinds has the same figures as the totals.
fn rows_of_objects_agree(report: &Report) -> Result<()> {
    for row in report.list("/objects/kinds")? {
        let kind = row.get("kind").and_then(serde_json::Value::as_str).context("a kind")?;
        let total = report.total(kind)?;
        for (key, figure) in [
            ("created", total.acquired_count),
            ("destroyed", total.released_count),
            ("live", total.outstanding_count),
        ] {
            let said = row.get(key).and_then(serde_json::Value::as_u64);
            ensure!(said == Some(figure), "{kind}: {key} {said:?} of {total:?}");
        }
    }
    Ok(())
}
