//! What was opened gets its call site, one descriptor after the other.
//!
//! The stack is taken from the registers with which the thread entered the kernel. Programs of one type go on with each
//! other: the tracepoints of system calls and those of an `io_uring` begin, [`take_call`] and [`next_opened`] go on.

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::{ProbeContext, RawTracePointContext},
};
use tracer_common::{
    attach::{Cookie, ProbeNumber, Shape},
    connection::{ESTABLISHED, Role},
    descriptor::{FdOrigin, FdType, OPENED_AT_ONCE},
    kind::Kind,
    loss::Loss,
    state::Thread,
};

use crate::{
    call::Call,
    connection,
    entry::thread_of,
    file,
    loss::lose,
    maps::{CALL_UNWINDER, KERNEL_UNWINDER, SWITCH},
    site::{self, Start},
    socket, stack_cache,
    young::opened,
};

/// Where [`CALL_UNWINDER`] has the program that takes the stack.
const TAKE: u32 = 0;
/// Where it has the one that goes on with the next descriptor.
pub(crate) const NEXT: u32 = 1;
/// Where it has the one that looks at what came with messages.
pub(crate) const RECEIVED: u32 = 2;
/// Where it has the one that tells of a connection.
const CONNECTION: u32 = 3;

/// Takes the stack of a call that has opened something.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn take_call(context: RawTracePointContext) -> i32 {
    _ = take(&context);
    0
}

/// Goes on with the next descriptor that the call has opened.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn next_opened(context: RawTracePointContext) -> i32 {
    _ = another(&context);
    0
}

/// Where programs stand that see descriptors being opened: those at one sort of place are of one type.
pub(crate) trait FdContext: EbpfContext {
    /// Goes on with another program of that type. It does not come back, unless there is none.
    fn tail_call(&self, program: u32);
}

impl FdContext for RawTracePointContext {
    #[inline(always)]
    fn tail_call(&self, program: u32) {
        // SAFETY: the array holds programs of this type.
        unsafe { CALL_UNWINDER.tail_call(self, program) };
    }
}

/// At the kernel's own functions.
impl FdContext for ProbeContext {
    #[inline(always)]
    fn tail_call(&self, program: u32) {
        // SAFETY: as above.
        unsafe { KERNEL_UNWINDER.tail_call(self, program) };
    }
}

/// What an opener would say of itself if it were a function.
#[inline(always)]
fn cookie(probe: ProbeNumber) -> Cookie {
    Cookie::new(probe, Kind::Descriptor as u8, Shape::Size, [0; 3], 0)
}

/// The call under way, of a target whose descriptors are traced.
#[inline(always)]
pub(crate) fn current(regs: *const pt_regs, probe: ProbeNumber) -> Option<Call> {
    if *SWITCH.get(0)? == 0 {
        return None;
    }
    let id = bpf_get_current_pid_tgid();
    let (target, thread) = Call::who(id)?;
    if target.files == 0 {
        return None;
    }
    Some(Call { regs, id, cookie: cookie(probe), detail: 0, target, thread })
}

/// Registers that the kernel has at an address.
#[inline(always)]
pub(crate) fn registers_at(address: u64) -> Option<pt_regs> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const pt_regs) }.ok()
}

/// Goes on with another program. It does not come back.
#[inline(always)]
pub(crate) fn continue_with(context: &impl FdContext, program: u32) -> Option<()> {
    context.tail_call(program);
    // The program is gone: leaktrace is leaving.
    lose(Loss::AcquireDropped);
    None
}

/// Takes care of a descriptor that something other than a system call of its own has opened.
#[inline(always)]
pub(crate) fn begin(
    context: &RawTracePointContext,
    registers: u64,
    opener: FdOrigin,
    fd: u32,
) -> Option<()> {
    let regs = registers_at(registers)?;
    let call = current(&regs, 0)?;
    let thread = thread_of(&call)?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    thread.opened.next = 0;
    thread.opened.count = 1;
    thread.opened.list[0] = fd;
    thread.opened.registers = registers;
    thread.opened.probe = u32::from(opener.probe());
    continue_with(context, NEXT)
}

/// Takes care of a descriptor that the kernel is about to put in its place, where nobody meets it yet.
#[inline(always)]
pub(crate) fn install(
    context: &ProbeContext,
    call: &Call,
    registers: u64,
    opener: ProbeNumber,
    fd: u32,
    file: u64,
) -> Option<()> {
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*thread_of(call)?).opened };
    opened.next = 0;
    opened.count = 1;
    opened.list[0] = fd;
    opened.registers = registers;
    opened.file = file;
    opened.probe = u32::from(opener);
    continue_with(context, NEXT)
}

/// Goes on with what [`install`] has put down: a program of its own, as the verifier takes long for it.
#[inline(always)]
pub(crate) fn continue_install(context: &ProbeContext) -> Option<()> {
    let regs = taken_before()?;
    let (call, thread) = resumed(&regs)?;
    let fd_type = file::fd_type(thread.opened.file);
    find_site(context, &regs, call, thread, fd_type)
}

/// Takes care of the descriptor at hand, and then of the next one.
#[inline(always)]
fn next(
    context: &RawTracePointContext,
    regs: &pt_regs,
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

/// Finds the call site of the descriptor at hand, which leads to something of this fd_type, and goes on from there.
#[inline(always)]
fn find_site(
    context: &impl FdContext,
    regs: &pt_regs,
    call: Call,
    thread: &mut Thread,
    fd_type: FdType,
) -> Option<()> {
    // Read back: the verifier would follow what comes for each sort anew.
    // SAFETY: a place in a map.
    let fd_type = unsafe {
        (&raw mut thread.opened.fd_type).write_volatile(fd_type as u32);
        (&raw const thread.opened.fd_type).read_volatile()
    };
    let probe = thread.opened.probe as ProbeNumber;
    let call = Call { regs, cookie: cookie(probe), detail: fd_type as u8, ..call };
    thread.again = 0;
    site::begin(&call, &Start::interrupted(&call), thread, call.memory_state());
    stack_cache::invalidate_copy();
    let site = stack_cache::lookup(&thread.walk, call.id);
    if site != 0 {
        return keep(context, &call, thread, site);
    }
    site::start_walk(&call, thread);
    context.tail_call(TAKE);
    // The program is gone: leaktrace is leaving.
    lose(Loss::StackDropped);
    Some(())
}

/// The call site of the descriptor at hand is known.
#[inline(always)]
fn keep(context: &impl FdContext, call: &Call, thread: &mut Thread, site: u32) -> Option<()> {
    let at = thread.opened.next as usize & (OPENED_AT_ONCE - 1);
    let fd = thread.opened.list[at];
    opened(call, fd, site);
    if thread.opened.fd_type == FdType::Socket as u32 {
        let role = by_connection(thread.opened.file, thread.opened.probe as ProbeNumber);
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

/// Whether a socket was opened by a connection. If not, it is none, whatever was known of one at its place.
#[inline(always)]
fn by_connection(file: u64, probe: ProbeNumber) -> Option<Role> {
    let sock = socket::behind(file)?;
    if probe == FdOrigin::Accept.probe()
        || probe == FdOrigin::IoUring.probe() && socket::state(sock)? == ESTABLISHED
    {
        return Some(Role::Accepted);
    }
    if probe == FdOrigin::Socket.probe() || probe == FdOrigin::Socketpair.probe() {
        connection::none(sock);
    }
    None
}

/// The descriptor at hand leads to a connection that begins.
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

/// Goes on with a connection that was not opened by the call at hand.
#[inline(always)]
pub(crate) fn begin_connection(
    context: &impl FdContext,
    call: &Call,
    fd: u32,
    file: u64,
    role: Role,
) -> Option<()> {
    let thread = thread_of(call)?;
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*thread).opened };
    opened.next = 0;
    opened.count = 1;
    opened.list[0] = fd;
    opened.file = file;
    opened.site = 0;
    opened.role = role as u32;
    continue_with(context, CONNECTION)
}

/// The registers that the program before this one has looked at.
#[inline(always)]
fn taken_before() -> Option<pt_regs> {
    let (_, thread) = Call::who(bpf_get_current_pid_tgid())?;
    // SAFETY: the value belongs to this thread alone.
    registers_at(unsafe { (*thread?).opened.registers })
}

/// The call as it was when the program before went on with this one.
#[inline(always)]
fn resumed<'regs>(regs: &'regs pt_regs) -> Option<(Call, &'regs mut Thread)> {
    let call = current(regs, 0)?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    let cookie = cookie(thread.opened.probe as ProbeNumber);
    Some((Call { cookie, detail: thread.opened.fd_type as u8, ..call }, thread))
}

#[inline(always)]
pub(crate) fn take(context: &impl FdContext) -> Option<()> {
    let regs = taken_before()?;
    let (call, thread) = resumed(&regs)?;
    let start = |call: &Call, _: &Thread| Start::interrupted(call);
    let Some(site) = site::advance(context, &call, thread, start) else {
        context.tail_call(TAKE);
        return None;
    };
    keep(context, &call, thread, site)
}

#[inline(always)]
fn another(context: &RawTracePointContext) -> Option<()> {
    let regs = taken_before()?;
    let (call, thread) = resumed(&regs)?;
    next(context, &regs, call, thread)
}
