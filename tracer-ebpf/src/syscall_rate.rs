//! Counts the system calls of targets: how much work they get done, by a measure that is the same whether probes
//! are on or not.

use aya_ebpf::{
    EbpfContext as _, helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint,
    programs::RawTracePointContext,
};

use crate::{
    loss::count,
    maps::{SYSCALLS, TARGETS},
};

/// What the kernel itself puts into a probed process is no work of its own: `uretprobe(2)`, since Linux 6.11, and
/// `uprobe(2)`, since 6.18; the numbers are those of x86-64, where alone they are.
const URETPROBE: u64 = 335;
/// As above.
const UPROBE: u64 = 336;

/// `sys_enter` runs in the thread that makes a system call, whichever process it belongs to. Attached for a
/// fraction of a second now and then, with a budget only.
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
