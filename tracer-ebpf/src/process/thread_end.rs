//! Thread ends: releases the thread's state, and what the programs know of a process that ends with it.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext,
};
use tracer_common::state::Target;

use crate::{
    fd::missed_returns,
    maps::{STARTED, SWITCH, TARGETS},
    process::forks,
    resources::young::{thread_ended, thread_key},
    threads,
};

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
        _ = started_thread_ends(id as u32, &target);
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

/// A thread ends that a recorded call may have started. Threads that end with their process have not ended by themselves:
/// the last report shows what was alive then.
#[inline(always)]
fn started_thread_ends(tid: u32, target: &Target) -> Option<()> {
    // SAFETY: copied; nobody else writes the entry of this thread.
    let started = *unsafe { STARTED.get(tid) }?;
    _ = STARTED.remove(tid);
    if *SWITCH.get(0)? != 0 && !forks::is_exiting().unwrap_or(false) {
        thread_ended(&thread_key(target, started.handle), started.position, tid);
    }
    Some(())
}
