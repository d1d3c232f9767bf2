//! Counts the system calls of targets: a measure of their throughput that does not depend on whether probes
//! are attached.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::{
    arch::{UPROBE, URETPROBE},
    loss::count,
    maps::{SYSCALLS, TARGETS},
};

/// `sys_enter` runs in the calling thread of any process. Attached only with a budget, for a fraction of a second now
/// and then.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn pace(context: RawTracePointContext) -> i32 {
    // SAFETY: the tracepoint has two arguments: the registers and the call's number.
    let number = unsafe { *context.as_ptr().cast::<u64>().add(1) };
    // The kernel itself makes the target call these.
    if (URETPROBE..=UPROBE).contains(&number) {
        return 0;
    }
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if TARGETS.get_ptr(pid).is_some() {
        count(&SYSCALLS, 0);
    }
    0
}
