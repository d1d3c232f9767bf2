//! Loads and attaches the programs that trace file descriptors.
//!
//! Where the kernel has kprobes, the programs are attached to the few kernel functions that matter; else to the entry
//! and exit of every system call of every process. The offsets of kernel structures come from the type information.

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
    failed::{KernelError, program_failed},
    lookup::{owned_fd, set_tail_call, tracepoint},
    missed_runs::NamedProgram,
};
use crate::{
    arch::{Architecture as _, Host},
    options::{FdBackend, RequestedBackend},
};

/// The PMU of kprobes: they need no tracefs, and none stays behind after we exit.
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe";
/// The program array of the programs at system calls.
pub(super) const UNWINDER: &str = "CALL_UNWINDER";
/// The kernel's group of tracepoints at system calls.
const SYSCALLS: &str = "raw_syscalls";
/// Runs at the entry of every system call.
const ENTER: &str = "call_enter";
/// Runs at the exit of every system call.
const EXIT: &str = "call_exit";
/// The programs that [`EXIT`] tail-calls, in the order of their slots in [`UNWINDER`].
const EXIT_TAIL_CALLS: [&str; 4] =
    ["take_call", "next_opened", "messages_received", "connection_begins"];
/// Run at requests to an `io_uring`, with the names that their tracepoints have in different kernels.
const RING: [(&str, &[&str]); 2] = [
    ("ring_complete", &["io_uring_complete"]),
    ("ring_submit", &["io_uring_submit_req", "io_uring_submit_sqe"]),
];
/// Runs when a TCP socket changes its state, with its tracepoint.
const TCP_STATES: (&str, &str) = ("state_changes", "inet_sock_set_state");
/// The program array of the programs at kprobes.
pub(super) const KERNEL_UNWINDER: &str = "KERNEL_UNWINDER";
/// The programs that the kprobes tail-call, and their slots in [`KERNEL_UNWINDER`].
const INSTALL_TAIL_CALLS: [(u32, &str); 3] =
    [(0, "take_install"), (1, "next_installed"), (3, "connection_installed")];
/// Programs at kprobes, and their kernel functions: those that open descriptors. Attached first.
const KPROBES: [(&str, &[&str]); 3] = [
    ("fd_installed", &["fd_install"]),
    ("fd_replaced", &["do_dup2"]),
    ("child_made", &["wake_up_new_task"]),
];
/// Programs at kprobes on the kernel's functions for these system calls.
const SYSCALL_KPROBES: [(&str, &[&str]); 3] = [
    ("close_exit", &["close_range", "unshare"]),
    ("connect_exit", &["connect"]),
    ("close_enter", &["close", "close_range", "unshare", "connect"]),
];
/// System calls at which the program attributes a thread's work to a connection: those that servers make.
const ATTRIBUTION: (&str, [&str; 16]) = (
    SYSCALL_KPROBES[2].0,
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
/// Sees descriptors that requests to an `io_uring` close, where its tracepoints do not report the request.
const RING_CLOSE: (&str, &str) = ("fd_taken_out", "__close_fd_get_file");
/// All programs.
#[cfg(test)]
pub(super) const PROGRAMS: [&str; 19] = [
    ENTER,
    EXIT,
    EXIT_TAIL_CALLS[0],
    EXIT_TAIL_CALLS[1],
    EXIT_TAIL_CALLS[2],
    EXIT_TAIL_CALLS[3],
    RING[0].0,
    RING[1].0,
    TCP_STATES.0,
    INSTALL_TAIL_CALLS[0].1,
    INSTALL_TAIL_CALLS[1].1,
    INSTALL_TAIL_CALLS[2].1,
    KPROBES[0].0,
    KPROBES[1].0,
    KPROBES[2].0,
    SYSCALL_KPROBES[0].0,
    SYSCALL_KPROBES[1].0,
    SYSCALL_KPROBES[2].0,
    RING_CLOSE.0,
];

/// Since this release, a program at a raw tracepoint can be preempted; the kernel then skips it for the threads that
/// run in the meantime. A program of a perf event cannot be preempted.
const PREEMPTIBLE_SINCE: u32 = 7;

/// Whether to run the programs at system calls and ring requests from perf events.
pub(super) fn wants_events() -> bool {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy();
    let major = release.split('.').next().and_then(|number| number.parse::<u32>().ok());
    let is_preemptible = major.is_some_and(|major| major >= PREEMPTIBLE_SINCE);
    is_preemptible
        && event::number_of(&format!("{SYSCALLS}/sys_enter"))
            .inspect_err(|error| log::info!("no perf events at system calls: {error}"))
            .is_ok()
}

/// The loaded and attached programs that trace descriptors.
#[derive(Default)]
pub(super) struct FdPrograms {
    /// How descriptors are traced, if they are.
    pub(super) backend: Option<FdBackend>,
    /// Programs run by perf events, whose missed runs must be counted.
    pub(super) event_programs: Vec<NamedProgram>,
    /// Those perf events.
    pub(super) events: Vec<OwnedFd>,
}

/// Loads and attaches the programs of the backend `requested`, or of the best one that the kernel allows. Nothing is
/// recorded yet.
pub(super) fn load(
    ebpf: &mut Ebpf,
    object: &[u8],
    layout: &Layout,
    requested: RequestedBackend,
) -> Result<FdPrograms, KernelError> {
    let mut attached = FdPrograms::default();
    attached.backend = Some(choose(ebpf, object, layout, requested, &mut attached)?);
    Ok(attached)
}

fn choose(
    ebpf: &mut Ebpf,
    object: &[u8],
    layout: &Layout,
    requested: RequestedBackend,
    attached: &mut FdPrograms,
) -> Result<FdBackend, KernelError> {
    attach_tcp_states(ebpf)?;
    let mut hooks = if layout.at_events == 0 {
        Hooks::Tracepoints
    } else {
        Hooks::Events(Box::new(Code::new(ebpf, object)?), attached)
    };
    if requested != Some(FdBackend::Tracepoint) {
        match attach_kprobes(ebpf, layout, &mut hooks) {
            Ok(()) => return Ok(FdBackend::Kprobe),
            Err(failed) if requested.is_some() => return Err(failed),
            Err(failed) => log::info!("tracing file descriptors at system calls: {failed}"),
        }
        for (name, _) in KPROBES.into_iter().chain(SYSCALL_KPROBES) {
            // Detaches it, too. An error only means that it was never loaded.
            drop(kprobe(ebpf, name)?.unload());
        }
    }
    attach_at_system_calls(ebpf, layout, &mut hooks)?;
    Ok(FdBackend::Tracepoint)
}

/// Attaches the kprobes.
fn attach_kprobes(
    ebpf: &mut Ebpf,
    layout: &Layout,
    hooks: &mut Hooks<'_>,
) -> Result<(), KernelError> {
    if !Path::new(KPROBE_PMU).exists() {
        return Err(KernelError::NoKprobes);
    }
    let failed = |name: &'static str| move |error| program_failed(name, error);
    for (slot, name) in INSTALL_TAIL_CALLS {
        kprobe(ebpf, name)?.load().map_err(failed(name))?;
        let program = owned_fd(kprobe(ebpf, name)?.fd(), name)?;
        set_tail_call(ebpf, KERNEL_UNWINDER, slot, program.as_fd())?;
    }
    for (name, functions) in KPROBES {
        kprobe(ebpf, name)?.load().map_err(failed(name))?;
        for function in functions {
            kprobe(ebpf, name)?.attach(function, 0).map_err(failed(name))?;
        }
    }
    for (name, calls) in SYSCALL_KPROBES {
        kprobe(ebpf, name)?.load().map_err(failed(name))?;
        attach_at_calls(ebpf, name, calls)?;
    }
    let (name, calls) = ATTRIBUTION;
    attach_at_calls(ebpf, name, &calls)?;
    if layout.ring_result != 0 {
        let (name, points) = RING[1];
        attach_ring(ebpf, hooks, name, points);
        return Ok(());
    }
    let (name, function) = RING_CLOSE;
    let program = kprobe(ebpf, name)?;
    if let Err(error) = program.load().and_then(|()| program.attach(function, 0)) {
        log::info!("could not trace the descriptors that requests to an io_uring close: {error}");
    }
    Ok(())
}

/// Attaches a kprobe at the kernel's functions for these system calls.
fn attach_at_calls(ebpf: &mut Ebpf, name: &'static str, calls: &[&str]) -> Result<(), KernelError> {
    let program = kprobe(ebpf, name)?;
    for call in calls {
        let function = format!("{}{call}", Host::SYSCALL_PREFIX);
        program.attach(&function, 0).map_err(|error| program_failed(name, error))?;
    }
    Ok(())
}

/// The kprobe program of this name.
fn kprobe<'ebpf>(
    ebpf: &'ebpf mut Ebpf,
    name: &'static str,
) -> Result<&'ebpf mut KProbe, KernelError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or(KernelError::Missing { name })
}

/// Attaches the program at state changes of TCP sockets.
fn attach_tcp_states(ebpf: &mut Ebpf) -> Result<(), KernelError> {
    let (name, point) = TCP_STATES;
    let program = tracepoint(ebpf, name)?;
    program
        .load()
        .and_then(|()| program.attach(point))
        .map(drop)
        .map_err(|error| program_failed(name, error))
}

/// How programs at system calls and ring requests are attached.
enum Hooks<'attached> {
    /// At raw tracepoints.
    Tracepoints,
    /// By perf events: the same code, loaded as programs of another type.
    Events(Box<Code>, &'attached mut FdPrograms),
}

impl Hooks<'_> {
    /// Loads a program without attaching it.
    fn load(&self, ebpf: &mut Ebpf, name: &'static str) -> Result<OwnedFd, KernelError> {
        match self {
            Self::Tracepoints => {
                let program = tracepoint(ebpf, name)?;
                program.load().map_err(|error| program_failed(name, error))?;
                owned_fd(tracepoint(ebpf, name)?.fd(), name)
            }
            Self::Events(code, _) => load_program(name, TRACEPOINT, 0, code.instructions(name)?),
        }
    }

    /// Loads a program and attaches it to the first of `points` in `group` that the kernel has.
    fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        name: &'static str,
        group: &str,
        points: &[&str],
    ) -> Result<(), KernelError> {
        let program = self.load(ebpf, name)?;
        let mut outcome = Err(KernelError::Missing { name });
        for point in points {
            outcome = match self {
                Self::Tracepoints => {
                    let attached = tracepoint(ebpf, name)?.attach(point);
                    attached.map(drop).map_err(|error| program_failed(name, error))
                }
                Self::Events(_, fd_programs) => {
                    event::at_tracepoint(program.as_fd(), &format!("{group}/{point}"))
                        .map(|event| fd_programs.events.push(event))
                        .map_err(|source| refused(name, source))
                }
            };
            if outcome.is_ok() {
                break;
            }
        }
        if let Self::Events(_, fd_programs) = self {
            fd_programs.event_programs.push((name.to_owned(), program));
        }
        outcome
    }
}

fn refused(name: &str, source: io::Error) -> KernelError {
    KernelError::Program { program: name.to_owned(), verifier: String::new(), source }
}

/// Attaches programs at the entry and exit of every system call.
fn attach_at_system_calls(
    ebpf: &mut Ebpf,
    layout: &Layout,
    hooks: &mut Hooks<'_>,
) -> Result<(), KernelError> {
    for (slot, name) in (0..).zip(EXIT_TAIL_CALLS) {
        let program = hooks.load(ebpf, name)?;
        set_tail_call(ebpf, UNWINDER, slot, program.as_fd())?;
    }
    for (name, point) in [(EXIT, "sys_exit"), (ENTER, "sys_enter")] {
        hooks.attach(ebpf, name, SYSCALLS, &[point])?;
    }
    if layout.ring_result != 0 {
        for (name, points) in RING {
            attach_ring(ebpf, hooks, name, points);
        }
    }
    Ok(())
}

/// Attaches a program at ring requests. Without it, descriptors that a ring opens and closes are found in `/proc`:
/// later, and without a stack.
fn attach_ring(ebpf: &mut Ebpf, hooks: &mut Hooks<'_>, name: &'static str, points: &[&str]) {
    if let Err(failed) = hooks.attach(ebpf, name, "io_uring", points) {
        log::info!("could not trace requests to an io_uring: {failed}");
    }
}
