//! File descriptors that system calls open and close, in whatever thread of a target.
//!
//! A close is recorded before the kernel executes it: the number cannot be reused yet. An open is recorded when
//! the call returns. The unwinder starts from the registers with which the thread entered the kernel. User space
//! finds descriptors that were opened or closed in other ways in `/proc`.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use tracer_common::{
    connection::Role,
    descriptor::FdOrigin,
    loss::Loss,
    record::MAY_BE_CLOSED,
    state::{Opened, Thread},
    syscall,
};

use crate::{
    arch::{
        Registers, read_registers, read_syscall_argument, read_syscall_number, syscall_argument,
    },
    call::{Call, read_word},
    fd::{
        action::action,
        context::{FdContext, NEXT, RECEIVED, begin_connection, continue_with, current},
        missed_returns,
        opening::invalid_close,
        serving,
        tracepoint_args::{entered, registers, returned},
    },
    file,
    loss::lose,
    maps::TARGETS,
    net::connection,
    resources::young::{closed, closed_range},
    threads,
};

/// `CLOSE_RANGE_UNSHARE` and `CLOSE_RANGE_CLOEXEC` of `close_range(2)`. The latter closes nothing yet.
const RANGE_UNSHARE: u64 = 2;
/// As above.
const RANGE_LATER: u64 = 4;
/// Commands of `ioctl(2)` that return a descriptor: `TIOCGPTPEER`, `NS_GET_USERNS`, `NS_GET_PARENT`.
const IOCTLS: [u64; 3] = [0x5441, 0xb701, 0xb702];
/// `SO_PEERPIDFD` of `getsockopt(2)`, at the level `SOL_SOCKET`.
const PEER_PIDFD: (u64, u64) = (1, 77);
/// `F_DUPFD` and `F_DUPFD_CLOEXEC` of `fcntl(2)`.
const DUPLICATES: [u64; 2] = [0, 1030];
/// `CLONE_PIDFD` of `clone(2)`.
const CLONE_PIDFD: u64 = 0x1000;
/// `CLONE_FILES` of `unshare(2)`.
const CLONE_FILES: u64 = 0x400;
/// `-EINPROGRESS` of `connect(2)`: the connection is being established.
pub(crate) const IN_PROGRESS: i64 = -115;

/// A system call begins.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn call_enter(context: RawTracePointContext) -> i32 {
    if let Some((regs, number)) = entered(&context) {
        _ = enter(&context, regs, number);
    }
    0
}

/// A system call ends.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn call_exit(context: RawTracePointContext) -> i32 {
    _ = exit(&context);
    0
}

/// Handles the beginning of a call. For most calls, which open and close nothing, it reads only the number.
#[inline(always)]
pub(crate) fn enter(context: &impl FdContext, regs: *const Registers, number: u64) -> Option<()> {
    let action = action(number);
    if action == syscall::NOTHING {
        return None;
    }
    if action == syscall::WAIT || action == syscall::FUTEX {
        return waiting(action, regs);
    }
    if action == syscall::SERVE {
        let fd = read_syscall_argument::<0>(regs)? as u32;
        if serving::is_served(fd) {
            return Some(());
        }
        let call = current(core::ptr::null(), 0)?;
        missed_returns::recover(&call);
        return serving::serve(context, &call, fd);
    }
    let call = current(core::ptr::null(), 0)?;
    missed_returns::recover(&call);
    match action {
        syscall::CONNECT => {
            let fd = read_syscall_argument::<0>(regs)? as u32;
            return missed_returns::connecting(&call, fd);
        }
        syscall::CLOSE => {
            let fd = read_syscall_argument::<0>(regs)? as u32;
            let Some(file) = file::behind(fd) else {
                return invalid_close(context, &call, fd, regs);
            };
            _ = connection::closing(&call, file);
            closed(&call, fd, 0);
            return Some(());
        }
        syscall::DUP2 => {
            let (from, to) = (
                read_syscall_argument::<0>(regs)? as u32,
                read_syscall_argument::<1>(regs)? as u32,
            );
            if from != to
                && file::behind(from).is_some()
                && let Some(file) = file::behind(to)
            {
                _ = connection::closing(&call, file);
            }
        }
        syscall::RECVMSG | syscall::RECVMMSG => {
            _ = serving::serve(context, &call, read_syscall_argument::<0>(regs)? as u32);
        }
        action if action == syscall::opens(FdOrigin::Accept) => serving::stop_serving(call.id),
        syscall::CLOSE_RANGE => {
            let first = read_syscall_argument::<0>(regs)? as u32;
            let last = read_syscall_argument::<1>(regs)? as u32;
            let flags = read_syscall_argument::<2>(regs)?;
            if flags == 0 {
                if first <= last {
                    closed_range(&call, first, last);
                }
                return Some(());
            }
            // If the call unshares the table first, only its end shows whose descriptors it closed.
        }
        // Frequent with other commands.
        syscall::IOCTL if !IOCTLS.contains(&read_syscall_argument::<1>(regs)?) => {
            return serving::serve(context, &call, read_syscall_argument::<0>(regs)? as u32);
        }
        syscall::GETSOCKOPT if read_syscall_argument::<2>(regs)? != PEER_PIDFD.1 => {
            return serving::serve(context, &call, read_syscall_argument::<0>(regs)? as u32);
        }
        _ => {}
    }
    let thread = call.thread_or_allocate()?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    unsafe { (*thread).opened.pending = 1 };
    Some(())
}

/// The thread waits, usually for work.
#[inline(always)]
fn waiting(action: u8, regs: *const Registers) -> Option<()> {
    let id = bpf_get_current_pid_tgid();
    if action == syscall::FUTEX {
        let operation = read_syscall_argument::<1>(regs)?;
        if !syscall::waits_for_work(operation) {
            return None;
        }
    }
    serving::stop_serving(id);
    Some(())
}

/// Whether the thread is in a call that may open a descriptor. Clears the mark.
#[inline(always)]
pub(crate) fn is_pending() -> bool {
    let id = bpf_get_current_pid_tgid();
    if let Some(thread) = threads::find(id) {
        // SAFETY: the value belongs to this thread alone.
        return unsafe { core::mem::replace(&mut (*thread).opened.pending, 0) } != 0;
    }
    // A target's thread without a state may have entered its call before tracing began.
    // SAFETY: copied.
    let Some(target) = (unsafe { TARGETS.get((id >> 32) as u32) }).copied() else { return false };
    // From its next call on the thread has a state.
    _ = threads::try_allocate(id, target);
    true
}

#[inline(always)]
fn exit(context: &RawTracePointContext) -> Option<()> {
    let (registers, returned) = (registers(context)?, returned(context));
    if !is_pending() || ((returned as i64) < 0 && returned as i64 != IN_PROGRESS) {
        return None;
    }
    let number = read_syscall_number(registers)?;
    let action = action(number);
    if action <= syscall::CLOSE || ((returned as i64) < 0 && action != syscall::CONNECT) {
        return None;
    }
    let regs = read_registers(registers as u64)?;
    let call = current(&regs, 0)?;
    let thread = call.thread_or_allocate()?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    thread.opened.registers = registers as u64;
    thread.opened.next = 0;
    thread.opened.count = 1;
    thread.opened.list[0] = returned as u32;
    let opener = match action {
        syscall::CLOSE_RANGE | syscall::UNSHARE => {
            after_unshare(action, &regs, &call, thread);
            return None;
        }
        syscall::DUP2 => {
            if syscall_argument::<0>(&regs) == returned {
                return None;
            }
            closed(&call, returned as u32, MAY_BE_CLOSED);
            FdOrigin::Dup2
        }
        syscall::FCNTL => {
            if !DUPLICATES.contains(&syscall_argument::<1>(&regs)) {
                return None;
            }
            FdOrigin::Fcntl
        }
        syscall::SIGNALFD => {
            if syscall_argument::<0>(&regs) as i32 >= 0 {
                return None;
            }
            FdOrigin::Signalfd
        }
        syscall::BPF => {
            if syscall::BPF_OPENS >> (syscall_argument::<0>(&regs) & 63) & 1 == 0
                || syscall_argument::<0>(&regs) > 63
            {
                return None;
            }
            FdOrigin::Bpf
        }
        syscall::PIPE => {
            read_pair(&mut thread.opened, syscall_argument::<0>(&regs))?;
            FdOrigin::Pipe
        }
        syscall::SOCKETPAIR => {
            read_pair(&mut thread.opened, syscall_argument::<3>(&regs))?;
            FdOrigin::Socketpair
        }
        syscall::CLONE | syscall::CLONE3 => {
            let (flags, place) = if action == syscall::CLONE {
                (syscall_argument::<0>(&regs), syscall_argument::<2>(&regs))
            } else {
                (
                    read_word(syscall_argument::<0>(&regs))?,
                    read_word(syscall_argument::<0>(&regs) + 8)?,
                )
            };
            // The child gets no descriptor.
            if flags & CLONE_PIDFD == 0 || returned == 0 {
                return None;
            }
            thread.opened.list[0] = read_word(place)? as u32;
            FdOrigin::Clone
        }
        syscall::RECVMSG | syscall::RECVMMSG => {
            thread.opened.count = 0;
            FdOrigin::Received
        }
        syscall::IOCTL => {
            if !IOCTLS.contains(&syscall_argument::<1>(&regs)) {
                return None;
            }
            FdOrigin::Ioctl
        }
        syscall::GETSOCKOPT => {
            if (syscall_argument::<1>(&regs), syscall_argument::<2>(&regs)) != PEER_PIDFD {
                return None;
            }
            thread.opened.list[0] = read_word(syscall_argument::<3>(&regs))? as u32;
            FdOrigin::Getsockopt
        }
        syscall::SERVE | syscall::WAIT | syscall::FUTEX => return None,
        syscall::CONNECT => {
            let file = file::behind(syscall_argument::<0>(&regs) as u32)?;
            return begin_connection(
                context,
                &call,
                syscall_argument::<0>(&regs) as u32,
                file,
                Role::Connected,
            );
        }
        _ => {
            thread.opened.probe = u32::from(syscall::opener(action, number));
            return continue_with(context, NEXT);
        }
    };
    thread.opened.probe = u32::from(opener.probe());
    continue_with(context, if opener == FdOrigin::Received { RECEIVED } else { NEXT })
}

/// After a call that may unshare the descriptor table. If the table is still shared, records the range that the call
/// closed.
#[inline(always)]
pub(crate) fn after_unshare(action: u8, regs: &Registers, call: &Call, thread: &mut Thread) {
    if action == syscall::UNSHARE {
        if syscall_argument::<0>(regs) & CLONE_FILES != 0 {
            _ = owns_table(thread);
        }
    } else if syscall_argument::<2>(regs) & RANGE_UNSHARE != 0
        && !owns_table(thread)
        && syscall_argument::<2>(regs) & RANGE_LATER == 0
    {
        closed_range(call, syscall_argument::<0>(regs) as u32, syscall_argument::<1>(regs) as u32);
    }
}

/// Reads the two descriptors at `place`.
#[inline(always)]
fn read_pair(opened: &mut Opened, place: u64) -> Option<()> {
    let both = read_word(place)?;
    opened.list[0] = both as u32;
    opened.list[1] = (both >> 32) as u32;
    opened.count = 2;
    Some(())
}

/// Whether the thread has a descriptor table of its own. If so, its descriptors are no longer traced, which is counted.
#[inline(always)]
fn owns_table(thread: &mut Thread) -> bool {
    let own = file::has_own_table();
    if own {
        thread.target.files = 0;
        lose(Loss::TableUnshared);
    }
    own
}
