//! File descriptors by kprobes on the few kernel functions that install and remove them, on kernels that allow probes
//! on these functions: other system calls run no program.
//!
//! One kernel function installs the file of a reserved number, for any system call; only `dup2` has another function.
//! The programs run before the installation, and so before any close of the number. Closing is recorded as in
//! `syscalls`, when the call begins. Programs do not interrupt each other here: none is preempted.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_common::{attach::ProbeNumber, connection::Role, descriptor::FdOrigin, syscall};

use crate::{
    arch::{Registers, read_registers, read_syscall_argument, read_syscall_number, syscall_number},
    fd::{
        action::action,
        context::current,
        missed_returns,
        opening::{begin_current_connection, continue_install, install, take},
        syscalls::{IN_PROGRESS, after_unshare, enter, is_pending},
    },
    file,
    net::connection,
    resources::young::closed,
    threads,
};

/// `Opened::pending`: the current descriptor is recorded when the child is complete.
const AFTER_CHILD: u32 = 2;

/// The kernel installs a file at a number: `fd_install(number, file)`.
#[kprobe]
pub(crate) fn fd_installed(context: ProbeContext) -> u32 {
    _ = installed(&context);
    0
}

/// The number of the current system call.
#[inline(always)]
fn number(registers: u64) -> Option<u64> {
    read_syscall_number(registers as *const Registers)
}

/// The probe number of the origin of a descriptor that the current system call opens.
#[inline(always)]
fn opener(registers: u64) -> Option<ProbeNumber> {
    let number = number(registers)?;
    Some(syscall::opener(action(number), number))
}

#[inline(always)]
fn installed(context: &ProbeContext) -> Option<()> {
    let (fd, file) = (context.arg::<u64>(0)? as u32, context.arg::<u64>(1)?);
    let call = current(core::ptr::null(), 0)?;
    missed_returns::recover(&call);
    let registers = file::registers()?;
    let opener = opener(registers)?;
    if opener != FdOrigin::Clone.probe() {
        return install(context, &call, registers, opener, fd, file);
    }
    // The child already has its copy of the table, without this descriptor. Recording it now would give it a
    // sequence position before the fork.
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*call.thread_or_allocate()?).opened };
    opened.pending = AFTER_CHILD;
    opened.list[0] = fd;
    Some(())
}

/// A child is complete and about to run: `wake_up_new_task(child)`.
#[kprobe]
pub(crate) fn child_made(context: ProbeContext) -> u32 {
    _ = child_ready(&context);
    0
}

#[inline(always)]
fn child_ready(context: &ProbeContext) -> Option<()> {
    let thread = threads::find(bpf_get_current_pid_tgid())?;
    // SAFETY: as above.
    let opened = unsafe { &mut (*thread).opened };
    if opened.pending != AFTER_CHILD {
        return None;
    }
    opened.pending = 0;
    let fd = opened.list[0];
    let call = current(core::ptr::null(), 0)?;
    let (registers, file) = (file::registers()?, file::behind(fd)?);
    install(context, &call, registers, FdOrigin::Clone.probe(), fd, file)
}

/// The kernel replaces the file of a number, under the lock of its table: `do_dup2(table, file, number, flags)`.
#[kprobe]
pub(crate) fn fd_replaced(context: ProbeContext) -> u32 {
    _ = replaced(&context);
    0
}

#[inline(always)]
fn replaced(context: &ProbeContext) -> Option<()> {
    let (file, fd) = (context.arg::<u64>(1)?, context.arg::<u64>(2)? as u32);
    let call = current(core::ptr::null(), 0)?;
    missed_returns::recover(&call);
    if let Some(before) = file::behind(fd) {
        _ = connection::closing(&call, before);
        closed(&call, fd, 0);
    } else if file::is_reserved(fd)? {
        // Another thread is opening this number: the kernel refuses.
        return None;
    }
    let registers = file::registers()?;
    install(context, &call, registers, opener(registers)?, fd, file)
}

/// A system call begins that closes, or may unshare the thread's descriptor table: the function's argument points to
/// the caller's registers.
#[kprobe]
pub(crate) fn close_enter(context: ProbeContext) -> u32 {
    _ = entered(&context);
    0
}

#[inline(always)]
fn entered(context: &ProbeContext) -> Option<()> {
    let regs = context.arg::<u64>(0)?;
    enter(context, regs as *const Registers, number(regs)?)
}

/// A system call ends that may have unshared the thread's descriptor table.
#[kretprobe]
pub(crate) fn close_exit(context: RetProbeContext) -> u32 {
    _ = close_returned(&context);
    0
}

#[inline(always)]
fn close_returned(context: &RetProbeContext) -> Option<()> {
    if !is_pending() || context.ret::<u64>() as i64 != 0 {
        return None;
    }
    let regs = read_registers(file::registers()?)?;
    let call = current(&regs, 0)?;
    // SAFETY: as above.
    let thread = unsafe { &mut *call.thread? };
    after_unshare(action(syscall_number(&regs)), &regs, &call, thread);
    Some(())
}

/// `connect(2)` returns: the connection is established or in progress.
#[kretprobe]
pub(crate) fn connect_exit(context: RetProbeContext) -> u32 {
    _ = connected(&context);
    0
}

#[inline(always)]
fn connected(context: &RetProbeContext) -> Option<()> {
    missed_returns::connected(bpf_get_current_pid_tgid());
    if !matches!(context.ret::<u64>() as i64, 0 | IN_PROGRESS) {
        return None;
    }
    let call = current(core::ptr::null(), 0)?;
    _ = call.thread_or_allocate()?;
    let registers = file::registers()? as *const Registers;
    let fd = read_syscall_argument::<0>(registers)? as u32;
    connection::begin(&call, fd, file::behind(fd)?, Role::Connected, 0)
}

/// Records a connection that begins.
#[kprobe]
pub(crate) fn connection_installed(context: ProbeContext) -> u32 {
    _ = begin_current_connection(&context);
    0
}

/// A request to an `io_uring` closes a descriptor, on kernels whose tracepoints lack its number:
/// `__close_fd_get_file(number, …)`.
#[kprobe]
pub(crate) fn fd_taken_out(context: ProbeContext) -> u32 {
    _ = taken_out(&context);
    0
}

#[inline(always)]
fn taken_out(context: &ProbeContext) -> Option<()> {
    let fd = context.arg::<u64>(0)? as u32;
    let call = current(core::ptr::null(), 0)?;
    if let Some(file) = file::behind(fd) {
        _ = connection::closing(&call, file);
        closed(&call, fd, 0);
    }
    Some(())
}

/// Determines the type and the call site of the current descriptor.
#[kprobe]
pub(crate) fn next_installed(context: ProbeContext) -> u32 {
    _ = continue_install(&context);
    0
}

/// Unwinds the stack of a call that opens a descriptor.
#[kprobe]
pub(crate) fn take_install(context: ProbeContext) -> u32 {
    _ = take(&context);
    0
}
