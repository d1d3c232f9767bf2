//! Real programs under load, their objects counted twice: by leaktrace, and by a witness of the tests.
//!
//! Both begin and end while the program is stopped, so they see the same calls, and every figure must be the same.
//! Each program is in a network of its own, with what loads it.

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

use crate::{
    Report, Trace,
    bpftrace::{Constructor, Witness},
    child::Running,
    http::Connection,
    leaks::Objects,
    network, target_dir, wait_until,
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

/// Longest time for a program to listen, to become quiet, to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// What is not compared: all that is no object, and events in memory of the program's own. No function ends one, so no
/// count of calls can tell how many are there. Where all are over at the end, `gone` says so. And what libzmq acquires deep
/// inside, which leaktrace knows by its size alone.
const UNCOUNTED: [&str; 4] = ["heap", "event_assigned", "zmq_pipe_chunk", "zmq_receive_buffer"];

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
    pub constructors: &'static [&'static [Constructor]],
    /// Objects that one load makes, at least.
    pub least: &'static [(&'static str, u64)],
    /// Kinds of which nothing is left when all connections are closed.
    pub gone: &'static [&'static str],
}

/// A program that is ready.
#[derive(Debug)]
pub struct Started {
    /// The program as it was started.
    pub target: Running,
    /// Its child that does the work and is traced, where there is one.
    pub worker: Option<u32>,
    /// Others in its network; ended with it.
    pub beside: Vec<Running>,
    /// Files of this run.
    pub folder: PathBuf,
    /// Ends of connections that it has with itself, for good.
    pub own: usize,
}

impl Started {
    /// Starts `command` in a network and with libraries of its own.
    pub fn alone(folder: &Path, command: &mut Command) -> Result<Self> {
        private::libraries(command)?;
        let target = Running::start(&mut network::alone(command))?;
        let folder = folder.to_owned();
        let started = Self { target, worker: None, beside: Vec::new(), folder, own: 0 };
        network::wait_until_alone(started.pid())?;
        Ok(started)
    }

    /// The same, and waits until it listens on `port`.
    pub fn listening(folder: &Path, command: &mut Command, port: u16) -> Result<Self> {
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
        self.worker.unwrap_or_else(|| self.target.pid())
    }

    /// Takes the only child of the program for what is traced.
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
        self.signal("STOP")?;
        wait_until("it stops", LIMIT, || Ok(self.states()?.iter().all(|state| *state == 'T')))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The program itself ends with `Running`.
        if self.worker.is_some() {
            drop(self.signal("KILL"));
        }
    }
}

/// Asks for the first page over TLS, on a connection of its own.
fn get_over_tls(port: u16) -> Result<()> {
    let (said, printed) = over_tls(port, b"GET / HTTP/1.0\r\n\r\n", &["-quiet"])?;
    ensure!(said.contains("hello"), "the answer was `{said}`; {printed}");
    Ok(())
}

/// What `openssl s_client` gets when it sends `request`, and what it says of that.
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

/// Begins a handshake of TLS in a way that fails, and closes.
fn fail_tls(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    // The head of a record that is a handshake, and five bytes that are none: RFC 8446, 5.1.
    Ok(stream.write_all(b"\x16\x03\x01\x00\x05hello")?)
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
    constructors: &[Constructor],
    load: impl FnOnce(&mut Started) -> Result<()>,
) -> Result<Counted> {
    started.wait_until_quiet()?;
    started.hold()?;
    let pid = started.pid().to_string();
    // Both take many seconds to attach, and to detach: side by side.
    let mut trace = Trace::start(&["-p", &pid, "--kind", "heap,object"])?;
    let witness = Witness::attach(started.pid(), constructors)?;
    trace.wait_until_attached()?;
    started.signal("CONT")?;
    load(started)?;
    started.wait_until_quiet()?;
    started.hold()?;
    let witnessed = witness.ask()?;
    let report = trace.stop()?;
    let witnessed = witnessed.wait()?;
    started.signal("CONT")?;
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
            count(&mut started, &self.constructors.concat(), |started| {
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
        let known = UNCOUNTED.contains(&kind.as_str()) || witnessed.contains_key(kind);
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
