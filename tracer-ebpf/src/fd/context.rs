//! The calls that open descriptors, as the programs see them: each continues with another program of its type.

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    programs::{ProbeContext, RawTracePointContext},
};
use tracer_common::{
    attach::{Cookie, ProbeNumber, Shape},
    connection::Role,
    kind::Kind,
    loss::Loss,
};

use crate::{
    arch::Registers,
    call::Call,
    loss::lose,
    maps::{CALL_UNWINDER, KERNEL_UNWINDER, SWITCH},
};

/// Index in [`CALL_UNWINDER`] of the program that unwinds the stack.
pub(crate) const TAKE: u32 = 0;
/// Index of the program that continues with the next descriptor.
pub(crate) const NEXT: u32 = 1;
/// Index of the program that finds descriptors in received messages.
pub(crate) const RECEIVED: u32 = 2;
/// Index of the program that records a connection.
pub(crate) const CONNECTION: u32 = 3;

/// Context of a program that sees descriptors being opened: tail calls reach only programs of the same type.
pub(crate) trait FdContext: EbpfContext {
    /// Tail-calls another program of that type. Returns only if the program is missing.
    fn tail_call(&self, program: u32);
}

impl FdContext for RawTracePointContext {
    #[inline(always)]
    fn tail_call(&self, program: u32) {
        // SAFETY: the array holds programs of this type.
        unsafe { CALL_UNWINDER.tail_call(self, program) };
    }
}

/// Kprobes on kernel functions.
impl FdContext for ProbeContext {
    #[inline(always)]
    fn tail_call(&self, program: u32) {
        // SAFETY: as above.
        unsafe { KERNEL_UNWINDER.tail_call(self, program) };
    }
}

/// The cookie of an opening call, as if it were a probed function.
#[inline(always)]
pub(crate) fn cookie(probe: ProbeNumber) -> Cookie {
    Cookie::new(probe, Kind::Descriptor as u8, Shape::Size, [0; 3], 0)
}

/// The current call, of a target whose descriptors are traced.
#[inline(always)]
pub(crate) fn current(regs: *const Registers, probe: ProbeNumber) -> Option<Call> {
    if *SWITCH.get(0)? == 0 {
        return None;
    }
    let id = bpf_get_current_pid_tgid();
    let (target, thread) = Call::target_and_thread(id)?;
    if target.files == 0 {
        return None;
    }
    Some(Call { regs, id, cookie: cookie(probe), detail: 0, target, thread })
}

/// Tail-calls another program, and counts a loss if it is missing.
#[inline(always)]
pub(crate) fn continue_with(context: &impl FdContext, program: u32) -> Option<()> {
    context.tail_call(program);
    // The program is missing: leaktrace is shutting down.
    lose(Loss::AcquireDropped);
    None
}

/// Records a connection that the current call did not open.
#[inline(always)]
pub(crate) fn begin_connection(
    context: &impl FdContext,
    call: &Call,
    fd: u32,
    file: u64,
    role: Role,
) -> Option<()> {
    let thread = call.thread_or_allocate()?;
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
