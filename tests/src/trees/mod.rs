//! Servers that are trees of processes: what leaktrace reports of each against what `/proc` says of the same processes.
//!
//! Takes the list of servers; hands on a report, and the open descriptors and the memory of the tree at its end. The
//! load has ended by then, so nothing changes in between. Every server runs in its own network namespace, in a folder of
//! its own, and ends with its whole process tree.

mod servers;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Report, Trace, child::Running, healthy::Instance, network, packages, real::Started, target_dir,
    wait_until,
};

pub use servers::{APACHE_EVENT, APACHE_PREFORK, GUNICORN, NGINX, PHP_FPM, POSTGRES, SSHD};

/// Seconds of load before leaktrace attaches.
const WARM_UP_S: u64 = 1;
/// Time limit for a tree to become quiet after its load.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// Equal readings in a row after which a tree is quiet.
const EQUAL_READINGS: usize = 30;

/// A server, with its load.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    /// Its name in messages.
    pub name: &'static str,
    /// Debian packages that it and its load need.
    packages: &'static [&'static [&'static str]],
    /// Starts it in the given folder.
    start: fn(&Path) -> Result<Started>,
    /// Loads it for this many seconds, from within its network namespace, and returns clients that stay connected.
    load: fn(&Path, u64) -> Result<Vec<Running>>,
    /// The signal that has it end cleanly.
    stop_by: &'static str,
    /// The least number of processes that it has at the end.
    pub processes: usize,
}

/// What `/proc` says of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Its open descriptors.
    pub descriptors: u64,
    /// Bytes of its private memory that can be written: what its allocators can have.
    pub private_bytes: u64,
    /// Those of them that are in memory.
    pub resident_bytes: u64,
}

/// A report on a tree, and its processes at that time.
#[derive(Debug)]
pub struct Traced {
    /// leaktrace's report.
    pub report: Report,
    /// The report as it was written.
    pub text: String,
    /// The living processes.
    pub processes: BTreeMap<u32, Reading>,
}

impl Tree {
    /// Traces it for `seconds` under load, and until it is quiet.
    pub fn traced(&self, seconds: u64, options: &[&str]) -> Result<Traced> {
        let folder = target_dir().join(format!("e2e/{}-{}", std::process::id(), self.name));
        fs::create_dir_all(&folder)?;
        let folder = fs::canonicalize(&folder)?;
        packages::fetch_all(self.packages)?;
        let outcome = self.traced_in(&folder, seconds, options);
        drop(fs::remove_dir_all(&folder));
        outcome
    }

    fn traced_in(&self, folder: &Path, seconds: u64, options: &[&str]) -> Result<Traced> {
        let started = (self.start)(folder).context("it did not start")?;
        let server = Instance::of(started, self.stop_by);
        let pid = server.main();
        let load = |seconds| network::inside(pid, || (self.load)(folder, seconds));
        // Workers start, and what is made once is made.
        drop(load(WARM_UP_S).context("before it is traced")?);
        let trace = Trace::attach(pid, &[&["--children"], options].concat())?;
        let clients = load(seconds).context("while it is traced")?;
        let before = quiet(&server)?;
        let output: PathBuf = trace.output().to_owned();
        let report = trace.stop()?;
        let processes = readings(&server);
        let after = descriptors(&server);
        ensure!(before == after, "the tree changed meanwhile: {before:?}, then {after:?}");
        drop(clients);
        Ok(Traced { report, text: fs::read_to_string(&output)?, processes })
    }
}

/// Waits until the tree has the same processes with the same descriptors for a while.
fn quiet(server: &Instance) -> Result<BTreeMap<u32, u64>> {
    let (mut last, mut equal) = (descriptors(server), 0);
    wait_until("the tree is quiet", QUIET_LIMIT, || {
        let now = descriptors(server);
        equal = if now == last { equal + 1 } else { 0 };
        last = now;
        Ok(equal >= EQUAL_READINGS)
    })?;
    Ok(last)
}

/// Open descriptors by process.
fn descriptors(server: &Instance) -> BTreeMap<u32, u64> {
    let all = server.pids().into_iter();
    all.filter_map(|pid| Some((pid, descriptors_of(pid)?))).collect()
}

fn descriptors_of(pid: u32) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64)
}

/// The living processes of the tree; one that ends meanwhile is left out.
fn readings(server: &Instance) -> BTreeMap<u32, Reading> {
    server.pids().into_iter().filter_map(|pid| Some((pid, reading(pid)?))).collect()
}

fn reading(pid: u32) -> Option<Reading> {
    let descriptors = descriptors_of(pid)?;
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).ok()?;
    let mut reading = Reading { descriptors, ..Reading::default() };
    let mut is_private = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        let Some(label) = first.strip_suffix(':') else {
            // The line that begins a mapping: its range and its access.
            is_private =
                second.is_some_and(|access| access.starts_with("rw") && access.ends_with('p'));
            continue;
        };
        let bytes = || second.and_then(|kib| kib.parse::<u64>().ok()).map_or(0, |kib| kib * 1024);
        match label {
            "Size" if is_private => reading.private_bytes += bytes(),
            "Rss" if is_private => reading.resident_bytes += bytes(),
            _ => {}
        }
    }
    Some(reading)
}

impl Traced {
    /// Sums over the processes.
    pub fn sum(&self) -> Reading {
        self.processes.values().fold(Reading::default(), |sum, one| Reading {
            descriptors: sum.descriptors + one.descriptors,
            private_bytes: sum.private_bytes + one.private_bytes,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
        })
    }

    /// Open descriptors by process, as the report lists them.
    pub fn reported_descriptors(&self) -> Result<BTreeMap<u32, u64>> {
        let mut by_process = BTreeMap::new();
        for row in self.report.list("/fds/table")? {
            let pid = row.get("pid").and_then(serde_json::Value::as_u64).context("a pid")?;
            *by_process.entry(u32::try_from(pid)?).or_default() += 1;
        }
        Ok(by_process)
    }
}
