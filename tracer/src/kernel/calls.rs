//! The programs that see file descriptors come and go: loaded and attached.
//!
//! Where the kernel lets its own functions be probed, they are at the few that matter; else at the beginning and the end of
//! every system call of every process. Where the kernel keeps what is behind a descriptor, its type information says.

use std::{os::fd::AsFd as _, path::Path};

use aya::{Ebpf, programs::KProbe};
use tracer_common::state::Layout;

use super::object::{Failed, own, place, program_failed, tracepoint};

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
    ("close_enter", &["__x64_sys_close", "__x64_sys_close_range", "__x64_sys_unshare"]),
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

/// Loads the programs and attaches them, those of the backend `wanted`, or of the best one that the kernel allows; nothing
/// is recorded yet. Hands on which it is.
pub(super) fn load(
    ebpf: &mut Ebpf,
    layout: &Layout,
    wanted: Option<Backend>,
) -> Result<Backend, Failed> {
    states(ebpf)?;
    if wanted != Some(Backend::Tracepoint) {
        match at_functions(ebpf, layout) {
            Ok(()) => return Ok(Backend::Kprobe),
            Err(failed) if wanted.is_some() => return Err(failed),
            Err(failed) => log::info!("file descriptors are seen at system calls: {failed}"),
        }
        for (name, _) in FUNCTIONS {
            // Takes it out, too. What is not loaded needs none of this.
            drop(kprobe(ebpf, name)?.unload());
        }
    }
    at_calls(ebpf, layout)?;
    Ok(Backend::Tracepoint)
}

/// Puts programs at functions of the kernel.
fn at_functions(ebpf: &mut Ebpf, layout: &Layout) -> Result<(), Failed> {
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
        ring(ebpf, name, points);
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

/// Puts programs at the beginning and at the end of every system call.
fn at_calls(ebpf: &mut Ebpf, layout: &Layout) -> Result<(), Failed> {
    let rings = layout.ring_result != 0;
    for (at, name) in (0..).zip(CONTINUED) {
        let program = tracepoint(ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        let program = own(tracepoint(ebpf, name)?.fd(), name)?;
        place(ebpf, UNWINDER, at, program.as_fd())?;
    }
    for (name, point) in [(EXIT, "sys_exit"), (ENTER, "sys_enter")] {
        let program = tracepoint(ebpf, name)?;
        program.load().map_err(|error| program_failed(name, error))?;
        program.attach(point).map_err(|error| program_failed(name, error))?;
    }
    if rings {
        for (name, points) in RING {
            ring(ebpf, name, points);
        }
    }
    Ok(())
}

/// What a ring opens and closes unseen is found in `/proc`: later, and without a stack.
fn ring(ebpf: &mut Ebpf, name: &'static str, points: &[&str]) {
    let attached = tracepoint(ebpf, name).and_then(|program| {
        program.load().map_err(|error| program_failed(name, error))?;
        let attach = |point: &&str| program.attach(point).is_ok();
        if points.iter().any(attach) { Ok(()) } else { Err(Failed::Missing { name: "io_uring" }) }
    });
    if let Err(failed) = attached {
        log::info!("requests to an io_uring are not seen: {failed}");
    }
}
