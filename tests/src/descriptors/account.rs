//! Accounts of tables of file descriptors, as the victim prints them, and their comparison with `/proc`.

use std::{collections::BTreeMap, fs, os::unix::fs::FileTypeExt as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::Victim;

/// Functions that open one type only, so that their call sites have a type, too.
pub const ONE_TYPE: [(&str, &str); 27] = [
    ("by_socket", "socket"),
    ("by_socketpair", "socket"),
    ("by_listen", "socket"),
    ("by_connect", "socket"),
    ("by_accept", "socket"),
    ("by_accept4", "socket"),
    ("by_udp", "socket"),
    ("by_unix", "socket"),
    ("by_io_uring_accept", "socket"),
    ("by_io_uring_socket", "socket"),
    ("by_pipe", "pipe"),
    ("by_pipe2", "pipe"),
    ("by_epoll_create1", "epoll"),
    ("by_eventfd", "eventfd"),
    ("by_timerfd", "timerfd"),
    ("by_signalfd", "signalfd"),
    ("by_inotify", "inotify"),
    ("by_fanotify", "fanotify"),
    ("by_memfd", "memfd"),
    ("by_pidfd_open", "pidfd"),
    ("by_clone_pidfd", "pidfd"),
    ("by_io_uring_setup", "io_uring"),
    ("by_perf_event_open", "perf_event"),
    ("by_bpf", "bpf"),
    ("by_userfaultfd", "userfaultfd"),
    ("by_mq_open", "mqueue"),
    ("by_creat", "file"),
];

/// The opener of a descriptor number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// It was open before `ready`.
    Before,
    /// A kernel thread, or libc on a stack of its own.
    Elsewhere,
    /// This function of the victim.
    Function(String),
}

/// An open descriptor number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its target.
    pub kind: String,
    /// Its opener.
    pub by: By,
}

/// The victim's account of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Process id of the table's owner.
    pub pid: u64,
    /// The thread that printed the account: differs from `pid` if the table belongs to that thread alone.
    pub tid: u64,
    /// Open descriptors, by number.
    pub rows: BTreeMap<u64, Row>,
    /// How often descriptors were opened.
    pub opened: u64,
    /// How often each opener opened.
    pub openers: BTreeMap<String, u64>,
    /// How often descriptors were closed.
    pub closed: u64,
    /// Descriptors open when the account began.
    pub held_before: u64,
    /// Requests that the kernel refused, with the reasons.
    pub refused: Vec<String>,
}

/// An integer by its key.
pub(super) fn number(value: &Value, key: &str) -> Result<u64> {
    value.get(key).and_then(Value::as_u64).with_context(|| format!("no number `{key}` in {value}"))
}

/// A text by its key; `None` also for null.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// A list by its key.
fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value.get(key).and_then(Value::as_array).with_context(|| format!("no list `{key}`"))
}

impl Account {
    /// Parses a line of the victim.
    pub fn read(line: &Value) -> Result<Self> {
        if let Some(error) = line.get("error") {
            bail!("the victim is broken: {error}");
        }
        let mut rows = BTreeMap::new();
        for row in list(line, "fds")? {
            let kind = text(row, "type").context("a row has a type")?.to_owned();
            let by = match text(row, "by") {
                None => By::Before,
                Some("elsewhere") => By::Elsewhere,
                Some(function) => By::Function(function.to_owned()),
            };
            let twice = rows.insert(number(row, "fd")?, Row { kind, by });
            ensure!(twice.is_none(), "a number twice: {row}");
        }
        let opened = line.get("opened").and_then(Value::as_object).context("no `opened`")?;
        let refused = list(line, "refused")?.iter().filter_map(Value::as_str);
        Ok(Self {
            pid: number(line, "pid")?,
            tid: number(line, "tid")?,
            rows,
            opened: opened.values().filter_map(Value::as_u64).sum(),
            openers: opened
                .iter()
                .filter_map(|(name, times)| Some((name.clone(), times.as_u64()?)))
                .collect(),
            closed: number(line, "closed")?,
            held_before: number(line, "held_before")?,
            refused: refused.map(str::to_owned).collect(),
        })
    }

    /// Reads `count` lines of a victim that has received `go`.
    pub fn read_all(victim: &Victim, count: usize) -> Result<Vec<Self>> {
        (0..count).map(|_| Self::read(&victim.answer()?)).collect()
    }

    /// The table in `/proc` has the same numbers of the same types, and the account adds up.
    pub fn equals_proc(&self) -> Result<()> {
        let folder = format!("/proc/{}/task/{}/fd", self.pid, self.tid);
        let mut there = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
            let entry = entry?;
            let fd: u64 = entry.file_name().to_string_lossy().parse()?;
            there.insert(fd, type_of(&entry.path())?);
        }
        let said: BTreeMap<u64, &str> =
            self.rows.iter().map(|(fd, row)| (*fd, row.kind.as_str())).collect();
        let there: BTreeMap<u64, &str> = there.iter().map(|(fd, kind)| (*fd, *kind)).collect();
        ensure!(said == there, "{folder}: the victim says {said:?}, it is {there:?}");
        let held = self.held_before + self.opened - self.closed;
        ensure!(held == said.len() as u64, "{held} add up, {} are open", said.len());
        Ok(())
    }

    /// Whether one of these has opened any descriptor, even if it is closed again.
    pub fn has_any(&self, openers: &[&str]) -> bool {
        self.openers.keys().any(|one| openers.contains(&one.as_str()))
    }

    /// Number of open descriptors by function.
    pub(super) fn by_function(accounts: &[Self]) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        for row in accounts.iter().flat_map(|account| account.rows.values()) {
            if let By::Function(name) = &row.by {
                *counts.entry(name.as_str()).or_default() += 1;
            }
        }
        counts
    }
}

/// The target of an entry of `/proc/PID/fd`.
fn type_of(path: &Path) -> Result<&'static str> {
    /// `f_type` of message queues and of namespaces, from the kernel's sources.
    const FILE_SYSTEMS: [(i64, &str); 2] = [(0x1980_0202, "mqueue"), (0x6e73_6673, "namespace")];
    const ANONYMOUS: [(&str, &str); 11] = [
        ("[eventpoll]", "epoll"),
        ("[eventfd]", "eventfd"),
        ("[timerfd]", "timerfd"),
        ("[signalfd]", "signalfd"),
        ("inotify", "inotify"),
        ("[fanotify]", "fanotify"),
        ("[pidfd]", "pidfd"),
        ("[io_uring]", "io_uring"),
        ("[perf_event]", "perf_event"),
        ("bpf-map", "bpf"),
        ("[userfaultfd]", "userfaultfd"),
    ];
    let link = fs::read_link(path)?;
    let link = link.to_string_lossy();
    if let Some(name) = link.strip_prefix("anon_inode:") {
        let known = ANONYMOUS.iter().find(|(inode, _)| *inode == name);
        return Ok(known.map_or("other", |(_, kind)| kind));
    }
    if link.starts_with("/memfd:") {
        return Ok("memfd");
    }
    let file = fs::metadata(path)?.file_type();
    if file.is_file() {
        let system = rustix::fs::statfs(path)?.f_type;
        let known = FILE_SYSTEMS.iter().find(|(number, _)| *number == system);
        return Ok(known.map_or("file", |(_, kind)| kind));
    }
    Ok(if file.is_socket() {
        "socket"
    } else if file.is_fifo() {
        "pipe"
    } else if file.is_dir() {
        "directory"
    } else if file.is_char_device() || file.is_block_device() {
        "device"
    } else {
        "other"
    })
}
