//! The traced processes, as `/proc` shows them.
//!
//! Takes a process id, a name or a command; passes on the process's identity, its mappings ([`mappings`]),
//! its end ([`watch`]), and for a command a process that is stopped before its program runs ([`launch`]).
//! Knows nothing of probes, kernel programs or names of functions, and never changes a process that it did
//! not start.

pub mod code_history;
mod command;
pub mod descendants;
pub mod descriptors;
mod follow;
pub mod launch;
pub mod limits;
pub mod mappings;
pub mod memory;
pub mod pages;
mod ptrace;
pub mod root;
pub mod runtime;
mod sock_diag;
pub mod socket_list;
pub mod sockets;
pub mod stacks;
pub mod usage;
pub mod watch;
pub mod zombies;

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use procfs::{
    ProcError,
    process::{LimitValue, Process, StatFlags},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tape::{Redact, Redactor, redact};

/// File name prefixes of C libraries: glibc's, glibc's until 2.33, and musl's.
pub const LIBC_NAMES: [&str; 4] = ["libc.so", "libc-2.", "ld-musl-", "libc.musl-"];

/// Process id in our own pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pid(pub u32);

impl Pid {
    /// Our own id.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// The path of a file or folder under the process's `/proc` folder.
    pub fn proc_path(self, name: impl AsRef<Path>) -> PathBuf {
        PathBuf::from(format!("/proc/{self}")).join(name)
    }

    /// As system calls take it; `None` for an id that the kernel never assigns.
    fn raw(self) -> Option<i32> {
        i32::try_from(self.0).ok().filter(|pid| *pid > 0)
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a process cannot be traced, or a command cannot be started.
#[derive(Debug, Error)]
pub enum TargetError {
    /// No process has this id.
    #[error("could not find process {0}: no such process")]
    NoSuchProcess(Pid),
    /// It has ended, but its parent has not reaped it.
    #[error("could not trace process {0}: it has ended (zombie)")]
    Ended(Pid),
    /// Kernel threads have no user memory to leak.
    #[error("could not trace process {0}: it is a kernel thread")]
    KernelThread(Pid),
    /// The id is a thread's, not a process's.
    #[error("could not trace process {thread}: it is a thread of process {process}")]
    Thread {
        /// The id that was given.
        thread: Pid,
        /// The id of its process.
        process: Pid,
    },
    /// The kernel programs read 64-bit registers and stacks.
    #[error("could not trace process {0}: its executable is a 32-bit program")]
    Elf32(Pid),
    /// We may not read the process's files in `/proc`.
    #[error("could not read {what} of process {pid}: permission denied")]
    Permission {
        /// The process.
        pid: Pid,
        /// Which part of `/proc`.
        what: &'static str,
    },
    /// `/proc` could not be read for another reason.
    #[error("could not read {what} of process {pid}")]
    Unreadable {
        /// The process.
        pid: Pid,
        /// Which part of `/proc`.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// No such program, neither as a path nor in `PATH`.
    #[error("could not start `{}`: command not found", .0.display())]
    CommandNotFound(OsString),
    /// The file exists, but cannot be executed.
    #[error("could not start `{}`", .command.display())]
    CommandRefused {
        /// The program as typed.
        command: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command could not be started and stopped before its program runs.
    #[error("could not {step} for `{}`", .command.display())]
    Launch {
        /// The program as typed.
        command: OsString,
        /// The step that failed, as a verb and its object.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TargetError {
    /// The error for a failure to read `what`.
    fn reading(pid: Pid, what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::ESRCH) => Self::NoSuchProcess(pid),
            _ if source.kind() == io::ErrorKind::PermissionDenied => Self::Permission { pid, what },
            _ if source.kind() == io::ErrorKind::NotFound => Self::NoSuchProcess(pid),
            _ => Self::Unreadable { pid, what, source },
        }
    }

    fn parsing(pid: Pid, what: &'static str, error: ProcError) -> Self {
        match error {
            ProcError::PermissionDenied(_) => Self::Permission { pid, what },
            ProcError::NotFound(_) => Self::NoSuchProcess(pid),
            ProcError::Io(source, _) => Self::reading(pid, what, source),
            other => Self::Unreadable { pid, what, source: io::Error::other(other) },
        }
    }
}

/// The identity of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its id.
    pub pid: Pid,
    /// Path of the executable as the process sees it; unknown without permission.
    pub exe: Option<String>,
    /// Arguments, starting with the program's name.
    pub cmdline: Vec<String>,
    /// Soft limit of open file descriptors; `None` when unknown or unlimited.
    pub fd_limit: Option<u64>,
    /// Clock ticks from boot to its start. Identifies the process together with the id, which the kernel may
    /// reuse.
    pub start_time: u64,
}

impl Redact for Identity {
    /// The arguments are left out, and the program's folder.
    fn redacted(&self, _: &mut Redactor) -> Self {
        let exe = self.exe.as_deref().map(redact::path);
        let cmdline = self.cmdline.first().map(|name| redact::path(name)).into_iter().collect();
        Self { exe, cmdline, ..self.clone() }
    }
}

/// The identity of a process, or why it cannot be traced.
pub fn identify(pid: Pid) -> Result<Identity, TargetError> {
    let process = open(pid)?;
    let status = process.status().map_err(|error| TargetError::parsing(pid, "status", error))?;
    if let Some(leader) = u32::try_from(status.tgid).ok().filter(|tgid| *tgid != pid.0) {
        return Err(TargetError::Thread { thread: pid, process: Pid(leader) });
    }
    let described = describe(&process, pid)?;
    let mut head = [0; 5];
    // Opened through `/proc/PID/exe`: works in every mount namespace, and for deleted files.
    match File::open(pid.proc_path("exe")).and_then(|mut exe| exe.read_exact(&mut head)) {
        Ok(()) if head == *b"\x7fELF\x01" => Err(TargetError::Elf32(pid)),
        Ok(()) => Ok(described),
        Err(error) => Err(TargetError::reading(pid, "the executable", error)),
    }
}

/// Every process whose command name, executable or first argument has exactly this file name, in the order of their
/// ids; without ourselves. A process that we may not inspect is found by its command name only.
pub fn find_by_name(name: &str) -> Vec<Identity> {
    let Ok(processes) = procfs::process::all_processes() else { return Vec::new() };
    let mut found: Vec<Identity> = processes
        .flatten()
        .filter_map(|process| {
            let pid = Pid(u32::try_from(process.pid).ok()?);
            // The command name first: one small file for each of thousands of processes.
            let comm = process.stat().ok()?.comm;
            let identity = || describe(&process, pid).ok();
            if pid == Pid::own() {
                return None;
            }
            if comm == name {
                return identity();
            }
            let identity = identity()?;
            let named = |path: &String| file_name(path) == name;
            (identity.exe.iter().any(named) || identity.cmdline.first().is_some_and(named))
                .then_some(identity)
        })
        .collect();
    found.sort_by_key(|identity| identity.pid);
    found
}

/// Resident memory, bytes; `None` when the process has ended.
pub fn rss_bytes(pid: Pid) -> Option<u64> {
    let statm = fs::read_to_string(pid.proc_path("statm")).ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    // A zombie has no memory, and reports 0.
    (pages > 0).then(|| pages.saturating_mul(page_bytes))
}

/// Peak resident memory, bytes; `None` when the process has ended.
pub fn peak_rss_bytes(pid: Pid) -> Option<u64> {
    let status = open(pid).ok()?.status().ok()?;
    status.vmhwm.map(|kib| kib.saturating_mul(1024))
}

fn open(pid: Pid) -> Result<Process, TargetError> {
    let raw = pid.raw().ok_or(TargetError::NoSuchProcess(pid))?;
    Process::new(raw).map_err(|error| TargetError::parsing(pid, "the folder in /proc", error))
}

/// The identity of a live user process; does not check whether it can be traced.
fn describe(process: &Process, pid: Pid) -> Result<Identity, TargetError> {
    let stat = process.stat().map_err(|error| TargetError::parsing(pid, "stat", error))?;
    if StatFlags::from_bits_truncate(stat.flags).contains(StatFlags::PF_KTHREAD) {
        return Err(TargetError::KernelThread(pid));
    }
    if matches!(stat.state, 'Z' | 'X' | 'x') {
        return Err(TargetError::Ended(pid));
    }
    let cmdline = fs::read(pid.proc_path("cmdline"))
        .map_err(|error| TargetError::reading(pid, "the command line", error))?;
    let exe = fs::read_link(pid.proc_path("exe")).ok().map(|path| {
        let (path, _deleted) = mappings::strip_deleted(path.as_os_str().as_bytes());
        String::from_utf8_lossy(path).into_owned()
    });
    let fd_limit =
        process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
            LimitValue::Value(limit) => Some(limit),
            LimitValue::Unlimited => None,
        });
    Ok(Identity { pid, exe, cmdline: arguments(&cmdline), fd_limit, start_time: stat.starttime })
}

/// Arguments from the bytes of `cmdline`: each ends with a zero byte, unless the process has overwritten them with a
/// title. A title is often filled up with zero bytes to the old length: they are no arguments, although a command may
/// indeed end with empty ones.
fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = cmdline.trim_ascii_end();
    let end = text.iter().rposition(|byte| *byte != 0);
    let Some(text) = end.and_then(|last| text.get(..=last)) else { return Vec::new() };
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Pid, TargetError, arguments, find_by_name, identify, peak_rss_bytes, rss_bytes};

    #[test]
    fn our_own_process_is_identified() {
        let own = identify(Pid::own()).unwrap();
        let exe = std::env::current_exe().unwrap();
        assert_eq!(own.exe.as_deref(), exe.to_str());
        assert_eq!(own.cmdline[0], std::env::args().next().unwrap());
        assert!(own.fd_limit.is_some() && own.start_time > 0);
        assert!(rss_bytes(Pid::own()).unwrap() > 1 << 20);
        assert!(peak_rss_bytes(Pid::own()).unwrap() > 1 << 20);
    }

    #[test]
    fn our_own_process_is_not_found_by_name() {
        let exe = std::env::current_exe().unwrap();
        let name = exe.file_name().unwrap().to_str().unwrap();
        assert!(find_by_name(name).iter().all(|found| found.pid != Pid::own()));
    }

    #[test]
    fn a_process_is_found_by_the_whole_name_of_its_executable_only() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let found = |name| find_by_name(name).iter().any(|found| found.pid == Pid(child.id()));
        assert!(found("cat"));
        assert!(!found("ca") && !found("/bin/cat"));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn pids_outside_the_kernels_range_do_not_exist() {
        for pid in [0, (1 << 22) + 1, u32::MAX] {
            assert!(matches!(identify(Pid(pid)), Err(TargetError::NoSuchProcess(_))), "{pid}");
            assert_eq!(rss_bytes(Pid(pid)), None);
        }
    }

    #[test]
    fn a_zombie_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid(child.id());
        let watch = super::watch::Watch::new(pid).unwrap();
        drop(child.stdin.take());
        watch.wait().unwrap();
        assert!(matches!(identify(pid), Err(TargetError::Ended(_))));
        assert_eq!(rss_bytes(pid), None);
        child.wait().unwrap();
        assert!(matches!(identify(pid), Err(TargetError::NoSuchProcess(_))));
    }

    #[test]
    fn a_thread_is_not_a_process() {
        let (tid, process) = std::thread::spawn(|| {
            let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
            match identify(Pid(tid)) {
                Err(TargetError::Thread { thread, process }) => (thread.0 == tid, process),
                other => panic!("{other:?}"),
            }
        })
        .join()
        .unwrap();
        assert!(tid);
        assert_eq!(process, Pid::own());
    }

    #[test]
    fn kernel_threads_are_refused() {
        // Process 2 is `kthreadd`, unless this runs in a pid namespace of its own.
        let kernel = std::fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm == "kthreadd\n");
        let refused = matches!(identify(Pid(2)), Err(TargetError::KernelThread(_)));
        assert_eq!(kernel, refused);
    }

    #[test]
    fn arguments_survive_titles_and_empty_words() {
        let check = |bytes: &[u8], words: &[&str]| assert_eq!(arguments(bytes), words);
        check(b"", &[]);
        check(b"server\0-p\080\0", &["server", "-p", "80"]);
        check(b"server\0\0last\0", &["server", "", "last"]);
        check(b"nginx: worker process", &["nginx: worker process"]);
        check(b"postgres: idle \0\0\0\0\0", &["postgres: idle "]);
        check(b"\0\0", &[]);
        check(b"\xff\0", &["\u{fffd}"]);
    }

    #[test]
    fn errors_name_the_failed_action() {
        let text = TargetError::KernelThread(Pid(2)).to_string();
        assert_eq!(text, "could not trace process 2: it is a kernel thread");
        let text = TargetError::CommandNotFound("nosuch".into()).to_string();
        assert_eq!(text, "could not start `nosuch`: command not found");
    }
}
