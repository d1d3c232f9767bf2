//! Records opened descriptors with their call site, one after the other.
//!
//! The unwinder starts from the registers with which the thread entered the kernel. Programs of one type tail-call each
//! other: the programs at system calls and `io_uring` requests begin, [`take_call`] and [`next_opened`] continue.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::raw_tracepoint,
    programs::{ProbeContext, RawTracePointContext},
};
use tracer_common::{
    attach::ProbeNumber,
    connection::{ESTABLISHED, Role},
    descriptor::{FdOrigin, FdType, OPENED_AT_ONCE},
    loss::Loss,
    state::Thread,
};

use crate::{
    arch::{Registers, read_registers},
    call::Call,
    fd::context::{CONNECTION, FdContext, NEXT, TAKE, continue_with, cookie, current},
    file,
    loss::{died, lose},
    net::{connection, socket},
    resources::young::opened,
    stack::{
        cache,
        site::{self, Start},
    },
};

/// Unwinds the stack of a call that has opened a descriptor.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn take_call(context: RawTracePointContext) -> i32 {
    _ = take(&context);
    0
}

/// Continues with the next descriptor that the call has opened.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn next_opened(context: RawTracePointContext) -> i32 {
    _ = resume_next(&context);
    0
}

/// Records a descriptor that an `io_uring` request has opened.
#[inline(always)]
pub(crate) fn begin(
    context: &RawTracePointContext,
    registers: u64,
    opener: FdOrigin,
    fd: u32,
) -> Option<()> {
    let regs = read_registers(registers)?;
    let call = current(&regs, 0)?;
    let thread = call.thread_or_allocate()?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    thread.opened.next = 0;
    thread.opened.count = 1;
    thread.opened.list[0] = fd;
    thread.opened.registers = registers;
    thread.opened.probe = u32::from(opener.probe());
    continue_with(context, NEXT)
}

/// Records a descriptor that the kernel is about to install, before any thread can use it; or counts one without a file.
#[inline(always)]
pub(crate) fn install(
    context: &impl FdContext,
    call: &Call,
    registers: u64,
    opener: ProbeNumber,
    fd: u32,
    file: u64,
) -> Option<()> {
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*call.thread_or_allocate()?).opened };
    opened.next = 0;
    opened.count = 1;
    opened.list[0] = fd;
    opened.registers = registers;
    opened.file = file;
    opened.probe = u32::from(opener);
    continue_with(context, NEXT)
}

/// Counts a close of a number that is not open at its call site.
#[inline(always)]
pub(crate) fn invalid_close(
    context: &impl FdContext,
    call: &Call,
    fd: u32,
    registers: *const Registers,
) -> Option<()> {
    // -1 stands for none: to close it does nothing, in any thread.
    if (fd as i32) < 0 {
        return None;
    }
    install(context, call, registers as u64, FdOrigin::InvalidClose.probe(), fd, 0)
}

/// Continues with the descriptor that [`install`] has stored: a program of its own, to keep the verifier's work small.
#[inline(always)]
pub(crate) fn continue_install(context: &ProbeContext) -> Option<()> {
    let regs = previous_registers()?;
    let (call, thread) = resumed(&regs)?;
    let fd_type = file::fd_type(thread.opened.file);
    find_site(context, &regs, call, thread, fd_type)
}

/// Records the current descriptor, and then the next one.
#[inline(always)]
fn next(
    context: &RawTracePointContext,
    regs: &Registers,
    call: Call,
    thread: &mut Thread,
) -> Option<()> {
    let at = thread.opened.next as usize;
    if at >= OPENED_AT_ONCE || thread.opened.next >= thread.opened.count {
        return None;
    }
    let fd = thread.opened.list[at & (OPENED_AT_ONCE - 1)];
    thread.opened.file = file::behind(fd).unwrap_or(0);
    let fd_type =
        if thread.opened.file == 0 { FdType::Unknown } else { file::fd_type(thread.opened.file) };
    find_site(context, regs, call, thread, fd_type)
}

/// Finds the call site of the current descriptor, which has this type, and records it there.
#[inline(always)]
fn find_site(
    context: &impl FdContext,
    regs: &Registers,
    call: Call,
    thread: &mut Thread,
    fd_type: FdType,
) -> Option<()> {
    // Written and read back, so that the verifier does not follow the rest once for each type.
    // SAFETY: a field of a map value.
    let fd_type = unsafe {
        (&raw mut thread.opened.fd_type).write_volatile(fd_type as u32);
        (&raw const thread.opened.fd_type).read_volatile()
    };
    let probe = thread.opened.probe as ProbeNumber;
    let call = Call { regs, cookie: cookie(probe), detail: fd_type as u8, ..call };
    thread.again = 0;
    site::begin(&call, &Start::interrupted(&call), thread, call.memory_state());
    cache::invalidate_copy();
    let site = cache::lookup(&thread.walk, call.id);
    if site != 0 {
        return keep(context, &call, thread, site);
    }
    site::start_walk(&call, thread);
    context.tail_call(TAKE);
    // The program is missing: leaktrace is shutting down.
    lose(Loss::StackDropped);
    Some(())
}

/// Records the current descriptor, whose call site is known.
#[inline(always)]
fn keep(context: &impl FdContext, call: &Call, thread: &mut Thread, site: u32) -> Option<()> {
    if thread.opened.probe == u32::from(FdOrigin::InvalidClose.probe()) {
        // Nothing is outstanding, like after what was released at once.
        died(site, 0);
        return Some(());
    }
    let at = thread.opened.next as usize & (OPENED_AT_ONCE - 1);
    let fd = thread.opened.list[at];
    opened(call, fd, site);
    if thread.opened.fd_type == FdType::Socket as u32 {
        let role = connection_role(thread.opened.file, thread.opened.probe as ProbeNumber);
        if let Some(role) = role {
            thread.opened.site = site;
            thread.opened.role = role as u32;
            return continue_with(context, CONNECTION);
        }
    }
    thread.opened.next += 1;
    if thread.opened.next < thread.opened.count {
        return continue_with(context, NEXT);
    }
    Some(())
}

/// The role of a socket that was opened with a connection; `None` for an unconnected socket, whose stale connection is
/// removed.
#[inline(always)]
fn connection_role(file: u64, probe: ProbeNumber) -> Option<Role> {
    let sock = socket::behind(file)?;
    if probe == FdOrigin::Accept.probe()
        || probe == FdOrigin::IoUring.probe() && socket::state(sock)? == ESTABLISHED
    {
        return Some(Role::Accepted);
    }
    if probe == FdOrigin::Socket.probe() || probe == FdOrigin::Socketpair.probe() {
        connection::remove_stale(sock);
    }
    None
}

/// Records the connection of the current descriptor.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn connection_begins(context: RawTracePointContext) -> i32 {
    _ = begin_current_connection(&context);
    0
}

#[inline(always)]
pub(crate) fn begin_current_connection(context: &impl FdContext) -> Option<()> {
    let call = current(core::ptr::null(), 0)?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    let fd = thread.opened.list[thread.opened.next as usize & (OPENED_AT_ONCE - 1)];
    let role = Role::from_number(thread.opened.role as u8);
    _ = connection::begin(&call, fd, thread.opened.file, role, thread.opened.site);
    thread.opened.next += 1;
    if thread.opened.next < thread.opened.count {
        return continue_with(context, NEXT);
    }
    Some(())
}

/// The registers that the previous program used.
#[inline(always)]
fn previous_registers() -> Option<Registers> {
    let (_, thread) = Call::target_and_thread(bpf_get_current_pid_tgid())?;
    // SAFETY: the value belongs to this thread alone.
    read_registers(unsafe { (*thread?).opened.registers })
}

/// The call as the previous program left it.
#[inline(always)]
fn resumed<'regs>(regs: &'regs Registers) -> Option<(Call, &'regs mut Thread)> {
    let call = current(regs, 0)?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    let cookie = cookie(thread.opened.probe as ProbeNumber);
    Some((Call { cookie, detail: thread.opened.fd_type as u8, ..call }, thread))
}

#[inline(always)]
pub(crate) fn take(context: &impl FdContext) -> Option<()> {
    let regs = previous_registers()?;
    let (call, thread) = resumed(&regs)?;
    let start = |call: &Call, _: &Thread| Start::interrupted(call);
    let Some(site) = site::advance(context, &call, thread, start) else {
        context.tail_call(TAKE);
        return None;
    };
    keep(context, &call, thread, site)
}

#[inline(always)]
fn resume_next(context: &RawTracePointContext) -> Option<()> {
    let regs = previous_registers()?;
    let (call, thread) = resumed(&regs)?;
    next(context, &regs, call, thread)
}
