//! A thread ends: forget the call it was in.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};

use crate::{family, maps::TARGETS, missed_returns, threads};

/// `sched_process_exit` runs in the ending thread, whichever process it belongs to.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn thread_end(_context: RawTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    _ = missed_returns::thread_ends(id);
    // Not there for threads that never met a probe: nothing to forget.
    threads::release(id);
    let pid = (id >> 32) as u32;
    // SAFETY: copied; it changes only while no thread of the process is here.
    if let Some(target) = unsafe { TARGETS.get(pid) }.copied() {
        // A `vfork`'s child that ends without having become another program: its parent goes on.
        if target.owner != pid && id as u32 == pid {
            family::ended(pid, &target);
            _ = TARGETS.remove(pid);
        }
    }
    0
}
