//! The start of a thread: the kernel has made the task for a call that `thread_calls` has seen begin.
//!
//! Only the kernel knows everything before the thread runs, and so before anybody can join or detach it: its handle, which
//! is its thread pointer, and its id.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel};
use tracer_common::{
    attach::ProbeNumber,
    loss::Loss,
    record::ACQUIRE,
    state::{Started, Young},
};

use crate::{
    arch,
    call::{Call, read_word},
    loss::lose,
    maps::STARTED,
    resources::{
        records::{now_ns, position},
        young::{self, thread_key},
    },
};

/// `CLONE_SETTLS` of `linux/sched.h`: the new thread has a thread pointer of its own.
const CLONE_SETTLS: u64 = 0x8_0000;

/// Offset of a task's thread pointer in `task_struct`; user space sets it when it loads the programs.
#[unsafe(no_mangle)]
static TASK_THREAD_POINTER_OFFSET: u32 = 0;

/// The current thread has created a thread: `task`, with the id `tid`, by `clone(2)` with these flags.
pub(crate) fn thread_created(task: u64, tid: u32, flags: u64) -> Option<()> {
    if flags & CLONE_SETTLS == 0 {
        return None;
    }
    let id = bpf_get_current_pid_tgid();
    let (target, thread) = Call::target_and_thread(id)?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *thread? };
    let starting = thread.starting;
    thread.starting.slot = 0;
    // A call that failed before its task was made has left its state behind.
    if starting.slot == 0 || arch::return_address(starting.slot, read_word)? != starting.caller {
        return None;
    }
    // SAFETY: the static is written once, before the programs are loaded: the compiler must not treat it as a constant.
    // The helper checks the address.
    let handle = unsafe {
        let offset = (&raw const TASK_THREAD_POINTER_OFFSET).read_volatile();
        bpf_probe_read_kernel((task + u64::from(offset)) as *const u64)
    }
    .ok()?;
    let (key, position) = (thread_key(&target, handle), position());
    if STARTED.insert(tid, Started { handle, position }, 0).is_err() {
        // Its end would not be seen.
        lose(Loss::ThreadsFull);
        return None;
    }
    let (site, connection) = (starting.site, thread.serving);
    let young = Young { size: 0, time_ns: now_ns(), position, site, connection };
    if !young::send_thread(ACQUIRE, &key, &young, tid, starting.probe as ProbeNumber) {
        lose(Loss::AcquireDropped);
        _ = STARTED.remove(tid);
        return None;
    }
    if starting.detached != 0 {
        young::thread_detached(&key, position, tid);
    }
    Some(())
}
