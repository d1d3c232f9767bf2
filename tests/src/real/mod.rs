//! Real programs under load, whose objects are counted by leaktrace and by an independent witness.
//!
//! Both start and stop counting while the program is stopped, so they see the same calls, and every number must be
//! equal. Each program runs in its own network namespace, together with its load.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Report, Trace,
    bpftrace::{Constructor, Witness},
    child::Running,
    http::Connection,
    leaks::Objects,
    network,
    report::Amounts,
    target_dir, wait_until,
};

pub mod constructors;
mod coturn;
mod lives;
mod nginx;
mod private;
mod sslsplit;
mod tor;
mod transmission;
mod zmq;

pub use coturn::COTURN;
pub use lives::{SOCKETIFY, Server, UWEBSOCKETS, UWEBSOCKETS_TLS};
pub use nginx::NGINX_TLS;
pub use sslsplit::SSLSPLIT;
pub use tor::TOR;
pub use transmission::TRANSMISSION;
pub use zmq::{IPYKERNEL, PYZMQ, PYZMQ_OF_DEBIAN};

/// Time limit for a program to listen, to become quiet, to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// Kinds that are not compared. `heap` is no object. Events in the program's own memory have no release function, so
/// counting calls cannot count live ones; where all are released at the end, `gone` checks it. libzmq acquires the
/// others internally, and leaktrace identifies them by size only.
const UNCOUNTED: [&str; 4] = ["heap", "event_assigned", "zmq_pipe_chunk", "zmq_receive_buffer"];

/// A program, with its load and expected results.
#[derive(Clone, Copy, Debug)]
pub struct RealProgram {
    /// Name of its folder.
    pub name: &'static str,
    /// Starts the program in the given folder.
    pub start: fn(&Path) -> Result<Started>,
    /// Loads the program from within its network namespace, with the same number of connections each time. Gets the
    /// folder.
    pub load: fn(&Path) -> Result<()>,
    /// Constructors that the witness probes.
    pub constructors: &'static [&'static [Constructor]],
    /// Minimum number of objects that one load creates.
    pub least: &'static [(&'static str, u64)],
    /// Kinds of which no object may be left once all connections are closed.
    pub gone: &'static [&'static str],
}

/// A program that is ready.
#[derive(Debug)]
pub struct Started {
    /// The process that was started.
    pub target: Running,
    /// Its child process that does the work and is traced, if any.
    pub worker: Option<u32>,
    /// Other processes in its network namespace; ended with it.
    pub beside: Vec<Running>,
    /// Folder with the files of this run.
    pub folder: PathBuf,
    /// Number of permanent connection ends that the program has with itself.
    pub own: usize,
}

impl Started {
    /// Starts `command` in its own network namespace, with its own copies of libraries.
    pub fn alone(folder: &Path, command: &mut Command) -> Result<Self> {
        private::libraries(command)?;
        let target = Running::start(&mut network::alone(command))?;
        let folder = folder.to_owned();
        let started = Self { target, worker: None, beside: Vec::new(), folder, own: 0 };
        network::wait_until_alone(started.pid())?;
        Ok(started)
    }

    /// The same, then waits until it listens on `port`.
    pub fn listening(folder: &Path, command: &mut Command, port: u16) -> Result<Self> {
        let started = Self::alone(folder, command)?;
        started.wait_for(port)?;
        Ok(started)
    }

    /// Starts another program in the same network namespace, and waits until it listens on `port`.
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

    /// Process id of the traced process.
    pub fn pid(&self) -> u32 {
        self.worker.unwrap_or_else(|| self.target.pid())
    }

    /// Selects the program's only child for tracing.
    pub fn trace_child(&mut self) -> Result<()> {
        let pid = self.target.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children: Vec<&str> = children.split_whitespace().collect();
        let [child] = children.as_slice() else { bail!("one child, not {children:?}") };
        self.worker = Some(child.parse()?);
        Ok(())
    }

    fn signal(&self, name: &str) -> Result<()> {
        let line = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &line]).status()?;
        ensure!(status.success(), "could not `{line}`");
        Ok(())
    }

    /// States of all its threads, as letters.
    fn states(&self) -> Result<Vec<char>> {
        let mut states = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(entry?.path().join("stat")) else { continue };
            // The state follows the name in parentheses, which may contain any character.
            let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            states.push(state.context("a thread's state")?);
        }
        Ok(states)
    }

    /// Waits until all connections are closed and, several times in a row, all threads sleep.
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
    fn pause(&self) -> Result<()> {
        self.signal("STOP")?;
        wait_until("it stops", LIMIT, || Ok(self.states()?.iter().all(|state| *state == 'T')))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // `Running` ends the program itself.
        if self.worker.is_some() {
            drop(self.signal("KILL"));
        }
    }
}

/// Requests the first page over TLS, on a connection of its own.
fn get_over_tls(port: u16) -> Result<()> {
    let (said, printed) = over_tls(port, b"GET / HTTP/1.0\r\n\r\n", &["-quiet"])?;
    ensure!(said.contains("hello"), "the answer was `{said}`; {printed}");
    Ok(())
}

/// Runs `openssl s_client` with `request` as input; returns the answer and the tool's messages.
fn over_tls(port: u16, request: &[u8], options: &[&str]) -> Result<(String, String)> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}")])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run `openssl`; help: cargo xtask test installs it")?;
    client.stdin.take().context("stdin is piped")?.write_all(request)?;
    let output = client.wait_with_output()?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}

/// Starts a TLS handshake that fails, and closes.
fn fail_tls(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // The header of a handshake record, and five bytes that are no handshake: RFC 8446, 5.1.
    Ok(stream.write_all(b"\x16\x03\x01\x00\x05hello")?)
}

/// Calls `work` `times` times, from several threads.
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

/// The counts of both tools, by kind.
#[derive(Debug)]
pub struct Counted {
    /// leaktrace's report.
    pub report: Report,
    /// The witness's sums.
    pub witnessed: BTreeMap<String, Objects>,
}

/// Runs `work` in a folder of its own.
fn in_folder<T>(name: &str, work: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let folder = target_dir().join(format!("e2e/{}-{name}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let folder = fs::canonicalize(folder)?;
    let outcome = work(&folder);
    fs::remove_dir_all(&folder)?;
    outcome
}

/// Counts with both tools while a program is loaded.
fn count(
    started: &mut Started,
    constructors: &[Constructor],
    load: impl FnOnce(&mut Started) -> Result<()>,
) -> Result<Counted> {
    started.wait_until_quiet()?;
    started.pause()?;
    let pid = started.pid().to_string();
    // Both take many seconds to attach and to detach, so they do it in parallel.
    let mut trace = Trace::start(&["-p", &pid, "--kind", "heap,object", "--top", "1000000"])?;
    let witness = Witness::attach(started.pid(), constructors)?;
    trace.wait_until_attached()?;
    started.signal("CONT")?;
    load(started)?;
    started.wait_until_quiet()?;
    started.pause()?;
    let witnessed = witness.request_stop()?;
    let report = trace.stop()?;
    let witnessed = witnessed.wait()?;
    started.signal("CONT")?;
    Ok(Counted { report, witnessed })
}

/// Runs a load program: it must print this line and exit with success.
fn run_load(command: &mut Command, line: &str) -> Result<()> {
    let output = command.output().context("could not run what loads it")?;
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.trim_end() == line, "{said}{complaint}");
    Ok(())
}

impl RealProgram {
    /// Runs the program, and counts with both tools.
    pub fn counted(&self) -> Result<Counted> {
        in_folder(self.name, |folder| {
            let mut started = (self.start)(folder)?;
            // A first load creates the objects that are created once.
            network::inside(started.pid(), || (self.load)(folder))
                .context("before it is traced")?;
            count(&mut started, &self.constructors.concat(), |started| {
                network::inside(started.pid(), || (self.load)(folder))
            })
        })
    }

    /// Compares the two counts; an error lists all differences.
    pub fn check(&self, counted: &Counted) -> Result<()> {
        check(self.least, self.gone, counted)
    }
}

/// Objects that the library makes by itself, without a function that another program can count: a TLS 1.3 session for each
/// ticket. They are blocks of its own.
fn made_inside(report: &Report, kind: &str) -> Result<Amounts> {
    let mut inside = Amounts::default();
    for site in report.list("/sites")? {
        let word = |key: &str| site.get(key).and_then(Value::as_str);
        if word("kind") == Some(kind) && word("acquired_by") == Some("malloc") {
            inside.add(Amounts::read(site)?);
        }
    }
    Ok(inside)
}

/// Compares the two counts; an error lists all differences.
fn check(least: &[(&str, u64)], gone: &[&str], counted: &Counted) -> Result<()> {
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
        let inside = made_inside(report, kind)?;
        let found = (
            total.acquired_count - inside.acquired_count,
            total.released_count - inside.released_count,
            total.outstanding_count - inside.outstanding_count,
        );
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
    // A kind that the witness does not count would go uncompared.
    for kind in report.at("/totals")?.as_object().context("totals")?.keys() {
        let known = UNCOUNTED.contains(&kind.as_str()) || witnessed.contains_key(kind);
        ensure!(known || report.total(kind)?.acquired_count == 0, "bpftrace counts no {kind}");
    }
    rows_of_objects_agree(report)
}

/// The table of kinds has the same numbers as the totals.
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
