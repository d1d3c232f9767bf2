//! The programs that see file descriptors come and go: loaded and attached.
//!
//! Where the kernel lets its own functions be probed, they are at the few that matter; else at the beginning and the end of
//! every system call of every process. Where the kernel keeps what is behind a descriptor, its type information says.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{Ebpf, programs::KProbe};
use tracer_common::state::Layout;

use super::{
    code::{Code, TRACEPOINT, load_program},
    event,
    missed_runs::Named,
    object::{Failed, own, place, program_failed, tracepoint},
};

/// How file descriptors are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// By probes on functions of the kernel.
    Kprobe,
    /// At every system call.
    Tracepoint,
}

impl Backend {
    /// As the report has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// Where the kernel says how its functions are probed: without tracefs, and so that nothing stays behind.
const PROBES: &str = "/sys/bus/event_source/devices/kprobe";
/// The map that the programs find each other by.
pub(super) const UNWINDER: &str = "CALL_UNWINDER";
/// The kernel's events at system calls.
const SYSCALLS: &str = "raw_syscalls";
/// At the beginning of every system call.
const ENTER: &str = "call_enter";
/// At the end of every system call.
const EXIT: &str = "call_exit";
/// What the one at the end goes on with, in the order of their places in [`UNWINDER`].
const CONTINUED: [&str; 4] = ["take_call", "next_opened", "messages_received", "connection_begins"];
/// At requests to an `io_uring`, and the names that the kernel has given its tracepoints so far.
const RING: [(&str, &[&str]); 2] = [
    ("ring_complete", &["io_uring_complete"]),
    ("ring_submit", &["io_uring_submit_req", "io_uring_submit_sqe"]),
];
/// Where TCP sockets change their state, and its tracepoint.
const STATES: (&str, &str) = ("state_changes", "inet_sock_set_state");
/// The map that the programs at functions of the kernel find each other by.
pub(super) const KERNEL_UNWINDER: &str = "KERNEL_UNWINDER";
/// What those that see descriptors being opened go on with, and their places there.
const INSTALLING: [(u32, &str); 3] =
    [(0, "take_install"), (1, "next_installed"), (3, "connection_installed")];
/// Programs at functions of the kernel, and those functions: openers first.
const FUNCTIONS: [(&str, &[&str]); 6] = [
    ("fd_installed", &["fd_install"]),
    ("fd_replaced", &["do_dup2"]),
    ("child_made", &["wake_up_new_task"]),
    ("close_exit", &["__x64_sys_close_range", "__x64_sys_unshare"]),
    ("connect_exit", &["__x64_sys_connect"]),
    (
        "close_enter",
        &["__x64_sys_close", "__x64_sys_close_range", "__x64_sys_unshare", "__x64_sys_connect"],
    ),
];
/// Calls at which is seen whom a thread serves, and until when: those that servers make.
const ATTRIBUTION: (&str, [&str; 16]) = (
    FUNCTIONS[5].0,
    [
        "read",
        "readv",
        "recvfrom",
        "recvmsg",
        "write",
        "writev",
        "sendto",
        "sendmsg",
        "shutdown",
        "ioctl",
        "accept",
        "accept4",
        "poll",
        "epoll_wait",
        "epoll_pwait",
        "futex",
    ],
);
/// The same for what requests to an `io_uring` close, where tracepoints do not tell of it.
const TAKEN_OUT: (&str, &str) = ("fd_taken_out", "__close_fd_get_file");
/// All of them.
#[cfg(test)]
pub(super) const PROGRAMS: [&str; 19] = [
    ENTER,
    EXIT,
    CONTINUED[0],
    CONTINUED[1],
    CONTINUED[2],
    CONTINUED[3],
    RING[0].0,
    RING[1].0,
    STATES.0,
    INSTALLING[0].1,
    INSTALLING[1].1,
    INSTALLING[2].1,
    FUNCTIONS[0].0,
    FUNCTIONS[1].0,
    FUNCTIONS[2].0,
    FUNCTIONS[3].0,
    FUNCTIONS[4].0,
    FUNCTIONS[5].0,
    TAKEN_OUT.0,
];

/// Since this release, programs at tracepoints can be interrupted by other threads, and are then left out for those; what is
/// run by events cannot be.
const INTERRUPTED_SINCE: u32 = 7;

/// Whether programs at system calls and at requests are to be run by events.
pub(super) fn wants_events() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let major = release.split('.').next().and_then(|number| number.parse::<u32>().ok());
    let wanted = major.is_some_and(|major| major >= INTERRUPTED_SINCE);
    wanted
        && event::number_of(&format!("{SYSCALLS}/sys_enter"))
            .inspect_err(|error| log::info!("no events at system calls: {error}"))
            .is_ok()
}

/// How descriptors are seen, and by what.
#[derive(Default)]
pub(super) struct Seen {
    /// In which way, if they are.
    pub(super) backend: Option<Backend>,
    /// Programs run by events, if there are any: to be missed_runs.
    pub(super) missed_runs: Vec<Named>,
    /// Those events.
    pub(super) events: Vec<OwnedFd>,
}

/// Loads the programs and attaches them, those of the backend `wanted`, or of the best one that the kernel allows; nothing
/// is recorded yet.
pub(super) fn load(
    ebpf: &mut Ebpf,
    object: &[u8],
    layout: &Layout,
    wanted: Option<Backend>,
) -> Result<Seen, Failed> {
    let mut seen = Seen::default();
    seen.backend = Some(choose(ebpf, object, layout, wanted, &mut seen)?);
    Ok(seen)
}

fn choose(
    ebpf: &mut Ebpf,
    object: &[u8],
    layout: &Layout,
    wanted: Option<Backend>,
    seen: &mut Seen,
) -> Result<Backend, Failed> {
    states(ebpf)?;
    let mut stand = if layout.at_events == 0 {
        Stand::Tracepoints
    } else {
        Stand::Events(Box::new(Code::new(ebpf, object)?), seen)
    };
    if wanted != Some(Backend::Tracepoint) {
        match at_functions(ebpf, layout, &mut stand) {
            Ok(()) => return Ok(Backend::Kprobe),
            Err(failed) if wanted.is_some() => return Err(failed),
            Err(failed) => log::info!("file descriptors are seen at system calls: {failed}"),
        }
        for (name, _) in FUNCTIONS {
            // Takes it out, too. What is not loaded needs none of this.
            drop(kprobe(ebpf, name)?.unload());
        }
    }
    at_calls(ebpf, layout, &mut stand)?;
    Ok(Backend::Tracepoint)
}

/// Puts programs at functions of the kernel.
fn at_functions(ebpf: &mut Ebpf, layout: &Layout, stand: &mut Stand<'_>) -> Result<(), Failed> {
    if !Path::new(PROBES).exists() {
        return Err(Failed::NoKprobes);
    }
    let failed = |name: &'static str| move |error| program_failed(name, error);
    for (at, name) in INSTALLING {
        kprobe(ebpf, name)?.load().map_err(failed(name))?;
        let program = own(kprobe(ebpf, name)?.fd(), name)?;
        place(ebpf, KERNEL_UNWINDER, at, program.as_fd())?;
    }
    for (name, functions) in FUNCTIONS {
        kprobe(ebpf, name)?.load().map_err(failed(name))?;
        for function in functions {
            kprobe(ebpf, name)?.attach(function, 0).map_err(failed(name))?;
        }
    }
    let program = kprobe(ebpf, ATTRIBUTION.0)?;
    for call in ATTRIBUTION.1 {
        let function = format!("__x64_sys_{call}");
        program.attach(&function, 0).map_err(|error| program_failed(ATTRIBUTION.0, error))?;
    }
    if layout.ring_result != 0 {
        let (name, points) = RING[1];
        ring(ebpf, stand, name, points);
        return Ok(());
    }
    let (name, function) = TAKEN_OUT;
    let program = kprobe(ebpf, name)?;
    if let Err(error) = program.load().and_then(|()| program.attach(function, 0)) {
        log::info!("what requests to an io_uring close is not seen: {error}");
    }
    Ok(())
}

/// A program at a function of the kernel.
fn kprobe<'ebpf>(ebpf: &'ebpf mut Ebpf, name: &'static str) -> Result<&'ebpf mut KProbe, Failed> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(Failed::Missing { name })
}

/// Puts the program where TCP sockets change their state.
fn states(ebpf: &mut Ebpf) -> Result<(), Failed> {
    let (name, point) = STATES;
    let program = tracepoint(ebpf, name)?;
    program
        .load()
        .and_then(|()| program.attach(point))
        .map(drop)
        .map_err(|error| program_failed(name, error))
}

/// Where programs at system calls and at requests stand.
enum Stand<'seen> {
    /// At the tracepoints themselves.
    Tracepoints,
    /// They are run by events: the same code, loaded as programs of another type.
    Events(Box<Code>, &'seen mut Seen),
}

impl Stand<'_> {
    /// Loads a program that others go on with.
    fn load(&self, ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, Failed> {
        match self {
            Self::Tracepoints => {
                let program = tracepoint(ebpf, name)?;
                program.load().map_err(|error| program_failed(name, error))?;
                own(tracepoint(ebpf, name)?.fd(), name)
            }
            Self::Events(code, _) => load_program(name, TRACEPOINT, 0, code.instructions(name)?),
        }
    }

    /// Loads a program and puts it at the first that the kernel has of some points of a group.
    fn put(
        &mut self,
        ebpf: &mut Ebpf,
        name: &'static str,
        group: &str,
        points: &[&str],
    ) -> Result<(), Failed> {
        let program = self.load(ebpf, name)?;
        let mut outcome = Err(Failed::Missing { name });
        for point in points {
            outcome = match self {
                Self::Tracepoints => {
                    let attached = tracepoint(ebpf, name)?.attach(point);
                    attached.map(drop).map_err(|error| program_failed(name, error))
                }
                Self::Events(_, seen) => {
                    event::at_tracepoint(program.as_fd(), &format!("{group}/{point}"))
                        .map(|event| seen.events.push(event))
                        .map_err(|source| refused(name, source))
                }
            };
            if outcome.is_ok() {
                break;
            }
        }
        if let Self::Events(_, seen) = self {
            seen.missed_runs.push((name.to_owned(), program));
        }
        outcome
    }
}

fn refused(name: &str, source: io::Error) -> Failed {
    Failed::Program { program: name.to_owned(), verifier: String::new(), source }
}

/// Puts programs at the beginning and at the end of every system call.
fn at_calls(ebpf: &mut Ebpf, layout: &Layout, stand: &mut Stand<'_>) -> Result<(), Failed> {
    for (at, name) in (0..).zip(CONTINUED) {
        let program = stand.load(ebpf, name)?;
        place(ebpf, UNWINDER, at, program.as_fd())?;
    }
    for (name, point) in [(EXIT, "sys_exit"), (ENTER, "sys_enter")] {
        stand.put(ebpf, name, SYSCALLS, &[point])?;
    }
    if layout.ring_result != 0 {
        for (name, points) in RING {
            ring(ebpf, stand, name, points);
        }
    }
    Ok(())
}

/// What a ring opens and closes unseen is found in `/proc`: later, and without a stack.
fn ring(ebpf: &mut Ebpf, stand: &mut Stand<'_>, name: &'static str, points: &[&str]) {
    if let Err(failed) = stand.put(ebpf, name, "io_uring", points) {
        log::info!("requests to an io_uring are not seen: {failed}");
    }
}
