//! The ptrace requests that launching a command needs.
//!
//! Takes one process that the calling thread has seized, passes on its stops as [`Stop`]. All calls must come
//! from that thread: the kernel ties a tracee to a thread, not to a process. Uses `libc` directly, because nix
//! has neither `PTRACE_LISTEN` nor real-time signals, which must be delivered like all others.
//! See ptrace(2), "Stopped states" and `PTRACE_SEIZE`.

use std::io;

use libc::{c_int, c_uint, c_void, pid_t};

/// Event of a group stop or an interrupt: `PTRACE_EVENT_STOP` of `linux/ptrace.h`.
const EVENT_STOP: c_int = 128;
/// The bit that `PTRACE_O_TRACESYSGOOD` adds to the signal of a syscall stop.
const SYSCALL_BIT: c_int = 0x80;
/// `PTRACE_GET_SYSCALL_INFO` of `linux/ptrace.h` (since 5.3), absent from libc's musl bindings.
const GET_SYSCALL_INFO: c_uint = 0x420e;
/// `op` of a stop at a system call's entry.
const INFO_ENTRY: u8 = 1;

/// A stop or the end of a tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Exited with this status.
    Exited(i32),
    /// Killed by this signal.
    Killed(i32),
    /// About to receive this signal; the next request decides which signal it receives.
    Signal(i32),
    /// Stopped by job control (SIGSTOP, Ctrl-Z); must stay stopped until SIGCONT.
    Group,
    /// Has executed a new program.
    Exec,
    /// About to exit; its memory is still mapped.
    Exiting,
    /// Entering or leaving a system call.
    Syscall,
    /// Stopped by our interrupt, or continued by SIGCONT.
    Interrupted,
}

/// How to resume a stopped tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resume {
    /// Runs until the next stop.
    Run,
    /// Runs until the next entry to or exit from a system call.
    ToSyscall,
    /// Stays stopped, and reports when job control continues it.
    Listen,
    /// Runs untraced.
    Detach,
}

/// A system call at its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyscallEntry {
    /// Its number.
    pub(super) number: u64,
    /// Its third argument: the protection, for `mmap` and `mprotect`.
    pub(super) third: u64,
}

/// A process seized by this thread.
#[derive(Debug)]
pub(super) struct Tracee {
    pid: pid_t,
}

impl Tracee {
    /// Seizes a process without stopping it. No `PTRACE_O_EXITKILL`: if we die, it survives.
    pub(super) fn seize(pid: pid_t) -> io::Result<Self> {
        let options =
            libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_TRACESYSGOOD;
        let tracee = Self { pid };
        tracee.request(libc::PTRACE_SEIZE, options)?;
        Ok(tracee)
    }

    /// Waits for the next stop. Fails with `ErrorKind::Interrupted` if this thread receives a signal first.
    pub(super) fn wait(&self) -> io::Result<Stop> {
        let mut status = 0;
        // SAFETY: `status` is a valid pointer for the result.
        if unsafe { libc::waitpid(self.pid, &raw mut status, libc::__WALL) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(decode_status(status))
    }

    /// Resumes a stopped tracee and delivers `signal` (0 for none). Succeeds also if the tracee was killed in the
    /// meantime: the next wait reports that.
    pub(super) fn resume(&self, how: Resume, signal: i32) -> io::Result<()> {
        let request = match how {
            Resume::Run => libc::PTRACE_CONT,
            Resume::ToSyscall => libc::PTRACE_SYSCALL,
            Resume::Listen => libc::PTRACE_LISTEN,
            Resume::Detach => libc::PTRACE_DETACH,
        };
        match self.request(request, signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Makes a running tracee stop with [`Stop::Interrupted`], or with another stop that comes first.
    pub(super) fn interrupt(&self) -> io::Result<()> {
        self.request(libc::PTRACE_INTERRUPT, 0)
    }

    /// At a [`Stop::Syscall`]: the call, if this is its entry.
    pub(super) fn syscall_entry(&self) -> Option<SyscallEntry> {
        // `struct ptrace_syscall_info`: a first word that starts with `op`, two addresses, and at an
        // entry the number and six arguments.
        let mut info = [0_u64; 11];
        let buffer: *mut c_void = info.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most the given size, that of `info`.
        let size = unsafe { libc::ptrace(GET_SYSCALL_INFO, self.pid, size_of_val(&info), buffer) };
        let [head, _, _, number, _, _, third, ..] = info;
        let [op, ..] = head.to_ne_bytes();
        (size > 0 && op == INFO_ENTRY).then_some(SyscallEntry { number, third })
    }

    fn request(&self, request: c_uint, data: c_int) -> io::Result<()> {
        let nothing: *mut c_void = std::ptr::null_mut();
        // All requests made here take `data` as a number.
        let data = libc::c_long::from(data);
        // SAFETY: none of these requests reads or writes our memory.
        if unsafe { libc::ptrace(request, self.pid, nothing, data) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// Decodes a status of `waitpid` for a seized process.
fn decode_status(status: c_int) -> Stop {
    if libc::WIFEXITED(status) {
        return Stop::Exited(libc::WEXITSTATUS(status));
    }
    if libc::WIFSIGNALED(status) {
        return Stop::Killed(libc::WTERMSIG(status));
    }
    match (status >> 16, libc::WSTOPSIG(status)) {
        (libc::PTRACE_EVENT_EXEC, _) => Stop::Exec,
        (libc::PTRACE_EVENT_EXIT, _) => Stop::Exiting,
        (EVENT_STOP, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => Stop::Group,
        (0, signal) if signal == libc::SIGTRAP | SYSCALL_BIT => Stop::Syscall,
        (0, signal) => Stop::Signal(signal),
        _ => Stop::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::{EVENT_STOP, Stop, decode_status};

    #[test]
    fn statuses_are_decoded() {
        let stopped = |event: i32, signal: i32| event << 16 | signal << 8 | 0x7f;
        let check = |status, stop| assert_eq!(decode_status(status), stop, "{status:#x}");
        check(3 << 8, Stop::Exited(3));
        check(9, Stop::Killed(9));
        check(9 | 0x80, Stop::Killed(9));
        check(stopped(0, libc::SIGTERM), Stop::Signal(libc::SIGTERM));
        check(stopped(0, 64), Stop::Signal(64));
        check(stopped(0, libc::SIGSTOP), Stop::Signal(libc::SIGSTOP));
        check(stopped(0, libc::SIGTRAP), Stop::Signal(libc::SIGTRAP));
        check(stopped(0, libc::SIGTRAP | 0x80), Stop::Syscall);
        check(stopped(EVENT_STOP, libc::SIGSTOP), Stop::Group);
        check(stopped(EVENT_STOP, libc::SIGTTOU), Stop::Group);
        check(stopped(EVENT_STOP, libc::SIGTRAP), Stop::Interrupted);
        check(stopped(libc::PTRACE_EVENT_EXEC, libc::SIGTRAP), Stop::Exec);
        check(stopped(libc::PTRACE_EVENT_EXIT, libc::SIGTRAP), Stop::Exiting);
    }
}
