//! Arguments of the programs at system calls and ring requests: from raw tracepoints, or from perf events on kernels
//! where programs at raw tracepoints can be interrupted.

use aya_ebpf::{EbpfContext as _, helpers::bpf_probe_read_kernel, programs::RawTracePointContext};

use crate::{
    arch::{Registers, read_syscall_number},
    file::{self, at},
};

/// One argument: number `RAW` of the raw tracepoint, or word number `EVENT` of its perf event.
#[inline(always)]
pub(crate) fn argument<const RAW: usize, const EVENT: usize>(
    context: &RawTracePointContext,
) -> u64 {
    let words = context.as_ptr().cast::<u64>();
    if at!(at_events) == 0 {
        // SAFETY: the callers' tracepoints have this argument.
        return unsafe { *words.add(RAW) };
    }
    // Through the helper, rather than from the context as above: the compiler would merge both into one read at a
    // variable offset, which the verifier of 6.18 refuses.
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(words.add(EVENT)) }.unwrap_or(0)
}

/// The registers with which the thread entered the kernel: the first argument of both tracepoints; perf events lack
/// them.
#[inline(always)]
pub(crate) fn registers(context: &RawTracePointContext) -> Option<*const Registers> {
    if at!(at_events) == 0 {
        // SAFETY: both tracepoints have it.
        return Some(unsafe { *context.as_ptr().cast::<u64>() } as *const Registers);
    }
    Some(file::registers()? as *const Registers)
}

/// The registers and the call's number, at its beginning.
#[inline(always)]
pub(crate) fn entered(context: &RawTracePointContext) -> Option<(*const Registers, u64)> {
    let regs = registers(context)?;
    if at!(at_events) == 0 {
        // SAFETY: the tracepoint has two arguments.
        return Some((regs, unsafe { *context.as_ptr().cast::<u64>().add(1) }));
    }
    Some((regs, read_syscall_number(regs)?))
}

/// The returned value, at the end of a call.
#[inline(always)]
pub(crate) fn returned(context: &RawTracePointContext) -> u64 {
    argument::<1, 2>(context)
}
