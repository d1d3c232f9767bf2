//! Thread ends: releases the thread's state, and what the programs know of a process that ends with it.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};

use crate::{fd::missed_returns, maps::TARGETS, process::forks, threads};

/// `sched_process_exit` runs in the ending thread of any process.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub(crate) fn thread_end(_context: RawTracePointContext) -> i32 {
    let id = bpf_get_current_pid_tgid();
    _ = missed_returns::thread_ends(id);
    // A thread that never hit a probe has no state.
    threads::release(id);
    let pid = (id >> 32) as u32;
    // SAFETY: copied; it changes only while no thread of the process is here.
    if let Some(target) = unsafe { TARGETS.get(pid) }.copied() {
        // A `vfork`'s child that ends without `execve`: its parent continues.
        if target.owner != pid && id as u32 == pid {
            forks::ended(pid, &target);
            _ = TARGETS.remove(pid);
        } else if target.owner == pid {
            forks::thread_ended(pid, &target);
        }
    }
    0
}
