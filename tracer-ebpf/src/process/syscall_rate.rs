//! Counts the system calls of targets: a measure of their throughput that does not depend on whether probes
//! are attached.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::{
    loss::count,
    maps::{SYSCALLS, TARGETS},
};

/// Not counted, since the kernel itself injects them into a probed process: `uretprobe(2)`, since Linux 6.11, and
/// `uprobe(2)`, since 6.18. The numbers are those of x86-64, the only architecture that has them.
const URETPROBE: u64 = 335;
/// As above.
const UPROBE: u64 = 336;

/// `sys_enter` runs in the calling thread of any process. Attached only with a budget, for a fraction of a second now
/// and then.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub(crate) fn pace(context: RawTracePointContext) -> i32 {
    // SAFETY: the tracepoint has two arguments: the registers and the call's number.
    let number = unsafe { *context.as_ptr().cast::<u64>().add(1) };
    if (URETPROBE..=UPROBE).contains(&number) {
        return 0;
    }
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if TARGETS.get_ptr(pid).is_some() {
        count(&SYSCALLS, 0);
    }
    0
}
