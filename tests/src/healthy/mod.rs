//! Healthy servers under load, on which leaktrace must stay silent: each is a Debian package with a minimal configuration.
//!
//! Takes the list of servers; hands on what leaktrace said about each. Every server runs in its own network namespace, in
//! a folder of its own, and ends with its whole process tree. Nothing is installed as a service.

mod daemons;
pub(crate) mod databases;
pub mod judge;
pub mod run;
pub mod text;
mod traffic;
pub(crate) mod web;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{real::Started, wait_until};
use traffic::Traffic;

/// Time limit for a server to end after the request to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Age of processes that do not end with a connection, seconds: longer than a round of a tool, shorter than the warm-up.
const SETTLED_S: f64 = 15.0;

/// A server, with its load.
#[derive(Clone, Copy, Debug)]
pub struct HealthyServer {
    /// Its name on the command line and in the table.
    pub name: &'static str,
    /// Sets of Debian packages that it and its load need, each unpacked into a folder of its own.
    pub(crate) packages: &'static [&'static [&'static str]],
    /// Its version, as the program states it.
    version: fn() -> Result<String>,
    /// Starts it in the given folder.
    start: fn(&Path) -> Result<Started>,
    /// Starts its load, from within its network namespace. Gets the folder.
    load: fn(&Path) -> Result<Traffic>,
    /// The signal that has it end cleanly.
    stop_by: &'static str,
    /// Options for leaktrace in addition to the common ones.
    options: &'static [&'static str],
}

/// Most servers end at SIGTERM and keep their processes.
const USUAL: HealthyServer = HealthyServer {
    name: "",
    packages: &[],
    version: || Ok(String::new()),
    start: |_| anyhow::bail!("nothing to start"),
    load: |_| anyhow::bail!("no load"),
    stop_by: "TERM",
    options: &[],
};

/// Every server, those of one protocol together.
pub const ALL: [HealthyServer; 12] = [
    web::NGINX,
    web::APACHE,
    web::HAPROXY,
    web::NODE,
    web::GUNICORN,
    databases::MEMCACHED,
    databases::REDIS,
    databases::POSTGRES,
    databases::MARIADB,
    daemons::MOSQUITTO,
    daemons::TRANSMISSION,
    daemons::TOR,
];

/// The server of this name.
pub fn server(name: &str) -> Result<HealthyServer> {
    ALL.iter().find(|server| server.name == name).copied().with_context(|| {
        let names: Vec<&str> = ALL.iter().map(|server| server.name).collect();
        format!("no server `{name}`; help: one of {}", names.join(", "))
    })
}

/// A server that runs; it ends with all its processes when dropped.
#[derive(Debug)]
pub(crate) struct Instance {
    started: Started,
    stop_by: &'static str,
}

impl Instance {
    /// Starts `server` in `folder`.
    fn start(server: &HealthyServer, folder: &Path) -> Result<Self> {
        Ok(Self::of((server.start)(folder)?, server.stop_by))
    }

    /// A started server that ends at this signal.
    pub(crate) const fn of(started: Started, stop_by: &'static str) -> Self {
        Self { started, stop_by }
    }

    /// Its main process.
    pub(crate) fn main(&self) -> u32 {
        self.started.target.pid()
    }

    /// Its processes, the main one first.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut found = vec![self.main()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            found.extend(children(pid));
            at += 1;
        }
        found
    }

    /// Those that are no process of one connection, which may end before leaktrace has seen it.
    fn settled_pids(&self) -> Result<Vec<u32>> {
        let uptime = fs::read_to_string("/proc/uptime")?;
        let now: f64 = uptime.split(' ').next().context("an uptime")?.parse()?;
        let is_settled = |pid: &u32| started_s(*pid).is_some_and(|at| now - at > SETTLED_S);
        Ok(self.pids().into_iter().filter(is_settled).collect())
    }

    /// Whether its main process runs.
    fn is_running(&mut self) -> bool {
        self.started.target.wait(Duration::ZERO).is_err()
    }

    /// Ends it cleanly; what does not end in time is killed.
    fn stop(&mut self) -> Result<()> {
        let pids = self.pids();
        self.started.target.signal(self.stop_by)?;
        let ended = wait_until("a server ends", STOP_LIMIT, || {
            // Reaps the main process, which would remain as a zombie.
            drop(self.started.target.wait(Duration::ZERO));
            Ok(!pids.iter().any(|pid| is_alive(*pid)))
        });
        if ended.is_err() {
            let left: Vec<String> =
                pids.iter().filter(|pid| is_alive(**pid)).map(ToString::to_string).collect();
            // Nobody else can have these numbers: the processes have run all the time.
            let line = format!("kill -KILL {}", left.join(" "));
            Command::new("sh").args(["-c", &line]).status()?;
        }
        ended
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_running() {
            drop(self.stop());
        }
    }
}

/// Child processes of all threads of a process.
fn children(pid: u32) -> BTreeSet<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return BTreeSet::new() };
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|one| one.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// Seconds from the machine's start until the process was started.
fn started_s(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The 22nd field, in hundredths of a second; the name before the third may have spaces.
    let (_, rest) = text.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse::<f64>().ok().map(|ticks| ticks / 100.0)
}

/// Whether a process runs; a zombie does not.
fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| {
        text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

/// The word of a program's output that looks like a version: it begins with a digit and has a dot.
fn version_of(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not run `{name}`"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    version_in(&text).with_context(|| format!("`{name}` states no version:\n{text}"))
}

fn version_in(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.trim_end_matches('.').contains('.')
    };
    let words = text.split(|c: char| c.is_whitespace() || "/=()v,".contains(c));
    let word = words.into_iter().find(is_version)?;
    // Debian's revision and the like follow.
    let end = word.find(['-', '+', '~']).unwrap_or(word.len());
    Some(word.get(..end)?.trim_end_matches('.').to_owned())
}

/// Runs a program that must succeed, such as one that prepares a folder.
pub(crate) fn prepare(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not run `{name}`"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{name}`: {}\n{said}", output.status);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = ALL.iter().map(|server| server.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| server(name).is_ok()));
        assert!(server("telnet").unwrap_err().to_string().contains("help: one of nginx"));
    }

    #[test]
    fn versions_are_found_as_programs_state_them() {
        for (text, version) in [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.2.1", "7.0.15"),
            ("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "15.20"),
            ("mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu", "10.11.19"),
            ("HAProxy version 2.6.12-1+deb12u4 2026/01/02 - https://haproxy.org/", "2.6.12"),
            ("Tor version 0.4.9.11.\nTor is running on Linux", "0.4.9.11"),
            ("v20.20.2", "20.20.2"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version));
        }
    }
}
