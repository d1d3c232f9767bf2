//! What is told at system calls and at requests: by the arguments of tracepoints, or where those can be interrupted by events.

use aya_ebpf::{
    EbpfContext as _, bindings::pt_regs, helpers::bpf_probe_read_kernel,
    programs::RawTracePointContext,
};

use crate::{
    file::{self, at},
    syscalls::register,
};

/// What a tracepoint tells: its argument with the number `RAW`, or the word with the number `EVENT` of its event.
#[inline(always)]
pub(crate) fn argument<const RAW: usize, const EVENT: usize>(
    context: &RawTracePointContext,
) -> u64 {
    let words = context.as_ptr().cast::<u64>();
    if at!(at_events) == 0 {
        // SAFETY: the tracepoints that this is asked at have as many.
        return unsafe { *words.add(RAW) };
    }
    // By the helper, and not from the context as above: the compiler would make one read at an offset of its choice out of
    // both, which the verifier of 6.18 refuses.
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(words.add(EVENT)) }.unwrap_or(0)
}

/// The registers with which the thread entered the kernel: at both tracepoints the first argument, and no part of events.
#[inline(always)]
pub(crate) fn registers(context: &RawTracePointContext) -> Option<*const pt_regs> {
    if at!(at_events) == 0 {
        // SAFETY: both tracepoints have it.
        return Some(unsafe { *context.as_ptr().cast::<u64>() } as *const pt_regs);
    }
    Some(file::registers()? as *const pt_regs)
}

/// The same and the call's number, at its beginning.
#[inline(always)]
pub(crate) fn entered(context: &RawTracePointContext) -> Option<(*const pt_regs, u64)> {
    let regs = registers(context)?;
    if at!(at_events) == 0 {
        // SAFETY: the tracepoint has two arguments.
        return Some((regs, unsafe { *context.as_ptr().cast::<u64>().add(1) }));
    }
    Some((regs, register(regs, core::mem::offset_of!(pt_regs, orig_rax))?))
}

/// What the call returns, at its end.
#[inline(always)]
pub(crate) fn returned(context: &RawTracePointContext) -> u64 {
    argument::<1, 2>(context)
}
