//! Forks, `execve` calls and ends of targets.
//!
//! A child becomes a target before its first instruction: the programs run in the parent before the child runs.
//! The collector computes the inherited resources from the fork's sequence position;
//! `docs/decisions/0002-two-generations.md` has the argument.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_get_current_task, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{
    limits,
    loss::Loss,
    record::{END, END_FILES, EXEC, FORK, FORK_FILES, ProcessEvent},
    state::{NO_NUMBER, Target},
};

use crate::{
    loss::lose,
    maps::{BLANK_PROCESS, FORKS, PROCESSES, RECORDS, SWITCH, TARGETS},
    process::thread_start::thread_created,
    resources::records::{now_ns, position},
    threads,
};

/// `CLONE_VM` of `linux/sched.h`: parent and child share their memory.
const CLONE_VM: u64 = 0x100;
/// `CLONE_FILES`: parent and child share their table of file descriptors.
const CLONE_FILES: u64 = 0x400;
/// `CLONE_THREAD`: the "child" is a thread of the same process.
const CLONE_THREAD: u64 = 0x1_0000;

/// Offset of a task's id in `task_struct`, from the kernel's type information: user space sets it when it
/// loads the programs. (The tracepoint's own description would need a mounted tracefs.)
#[unsafe(no_mangle)]
static TASK_PID_OFFSET: u32 = 0;

/// Offset of a task's `signal_struct`, which the threads of a process share.
#[unsafe(no_mangle)]
static TASK_SIGNAL_OFFSET: u32 = 0;
/// Offset of the number of threads that have not begun to end, in `signal_struct`.
#[unsafe(no_mangle)]
static SIGNAL_LIVE_OFFSET: u32 = 0;
/// Offset of the flags, in `signal_struct`.
#[unsafe(no_mangle)]
static SIGNAL_FLAGS_OFFSET: u32 = 0;
/// `SIGNAL_GROUP_EXIT` of `linux/sched/signal.h`, among these flags.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// `task_newtask` runs in the parent, when the child is complete and does not run yet.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub(crate) fn new_task(context: RawTracePointContext) -> i32 {
    _ = fork(&context);
    0
}

fn fork(context: &RawTracePointContext) -> Option<()> {
    // SAFETY: the tracepoint has two arguments: the new task and the flags of clone(2).
    let (task, flags) = unsafe {
        let arguments = context.as_ptr().cast::<u64>();
        (*arguments, *arguments.add(1))
    };
    if *SWITCH.get(0)? == 0 {
        return None;
    }
    if flags & CLONE_THREAD != 0 {
        return thread_created(task, task_id(task)?, flags);
    }
    // SAFETY: copied; nothing changes it while this thread of the process is here.
    let parent = *unsafe { TARGETS.get((bpf_get_current_pid_tgid() >> 32) as u32) }?;
    if parent.follow == 0 {
        return None;
    }
    let child = task_id(task)?;
    // The child of a `vfork` uses its parent's memory until it ends or calls `execve`: its acquisitions and
    // releases there count for the owner of the memory.
    let shares = flags & CLONE_VM != 0;
    // The parent's memory map state applies to the child only if they share the memory.
    let files = if flags & CLONE_FILES != 0 { parent.files } else { child };
    let target = if shares { parent } else { Target { owner: child, number: NO_NUMBER, ..parent } };
    let target = Target { files, ..target };
    if TARGETS.insert(child, &target, 0).is_err() {
        lose(Loss::ChildDropped);
        return None;
    }
    // The copy of an untraced descriptor table is not traced either.
    if files == child && parent.files != 0 {
        announce_copy(FORK_FILES, child, parent.files);
    }
    if shares {
        return None;
    }
    if let Some(process) = PROCESSES.get_ptr(parent.owner) {
        // SAFETY: a live map value, which the verifier knows to be a whole one.
        _ = PROCESSES.insert(child, unsafe { &*process }, 0);
        if let Some(process) = PROCESSES.get_ptr_mut(child) {
            // SAFETY: a live map value; the child does not run yet. It gets a trampoline of its own.
            unsafe { (*process).trampoline = 0 };
        }
    }
    if !announce_copy(FORK, child, parent.owner) {
        _ = TARGETS.remove(child);
    }
    Some(())
}

/// The id of a task.
#[inline(always)]
fn task_id(task: u64) -> Option<u32> {
    // SAFETY: the static is written once, before the programs are loaded: the compiler must not treat it as a constant.
    let offset = u64::from(unsafe { (&raw const TASK_PID_OFFSET).read_volatile() });
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel((task + offset) as *const u32) }.ok()
}

/// Announces that `child` has a copy of the resources of `parent` from now on.
#[inline(always)]
fn announce_copy(record: u32, child: u32, parent: u32) -> bool {
    let position = position();
    // Before all else: from here on the parent's releases are announced if the child has a copy.
    if let Some(after) = FORKS.get_ptr_mut(parent & (limits::FORKS - 1)) {
        // SAFETY: a live, aligned map value. Two processes that share it may write at once: their positions are
        // adjacent.
        unsafe {
            if *after <= position {
                *after = position + 1;
            }
        }
    }
    let sent = send_event(record, child, parent, position);
    if !sent {
        lose(Loss::ChildDropped);
    }
    sent
}

/// `sched_process_exec` runs in the process itself, when its new memory is in place.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub(crate) fn new_program(context: RawTracePointContext) -> i32 {
    _ = exec(&context);
    0
}

fn exec(context: &RawTracePointContext) -> Option<()> {
    // SAFETY: the tracepoint has three arguments: the task, its former id, and the executed program.
    let former = unsafe { *context.as_ptr().cast::<u64>().add(1) } as u32;
    let id = bpf_get_current_pid_tgid();
    let pid = (id >> 32) as u32;
    // SAFETY: copied; the process has this one thread, and it is here.
    let before = *unsafe { TARGETS.get(pid) }?;
    // The code ranges are unknown until the collector has read the new memory map. Until then a stack
    // consists of its first frame.
    _ = PROCESSES.insert(pid, BLANK_PROCESS.get(0)?, 0);
    let programs = before.programs.wrapping_add(1);
    // `execve` unshares the descriptor table. Its descriptors stay open.
    let files = if before.files == 0 { 0 } else { pid };
    let target = Target { owner: pid, programs, number: NO_NUMBER, files, ..before };
    if files != before.files {
        announce_copy(FORK_FILES, pid, before.files);
    }
    _ = TARGETS.insert(pid, &target, 0);
    // A call in progress ended with the old stack.
    threads::release(id);
    // Another thread than the leader called `execve`, and is the leader now.
    threads::release(u64::from(pid) << 32 | u64::from(former));
    if !send_event(EXEC, pid, before.owner, position()) {
        lose(Loss::ChildDropped);
        _ = TARGETS.remove(pid);
    }
    Some(())
}

/// A process that shares its parent's memory ends: the kernel frees its descriptor table.
pub(crate) fn ended(pid: u32, target: &Target) {
    if target.files == pid && !send_event(END_FILES, pid, pid, position()) {
        lose(Loss::ChildDropped);
    }
}

/// A thread of a followed process ends: with the last one, the process. Afterwards the kernel may reuse its id.
pub(crate) fn thread_ended(pid: u32, target: &Target) {
    if target.follow == 0 || !is_last_thread().unwrap_or(false) {
        return;
    }
    // The place is free at once: a server may fork faster than the collector reads.
    _ = TARGETS.remove(pid);
    _ = PROCESSES.remove(pid);
    // Without the record, the collector sees the end at its next look at the process.
    _ = send_event(END, pid, pid, position());
}

/// Whether the whole process ends: by `exit_group(2)`, or killed by a signal.
pub(crate) fn is_exiting() -> Option<bool> {
    // SAFETY: as below.
    unsafe {
        let signal = u64::from((&raw const TASK_SIGNAL_OFFSET).read_volatile());
        let flags = u64::from((&raw const SIGNAL_FLAGS_OFFSET).read_volatile());
        let signal = bpf_probe_read_kernel((bpf_get_current_task() + signal) as *const u64).ok()?;
        let flags = bpf_probe_read_kernel((signal + flags) as *const u32).ok()?;
        Some(flags & SIGNAL_GROUP_EXIT != 0)
    }
}

/// Whether no other thread of this process still runs its program. Two that end at once may both see that.
fn is_last_thread() -> Option<bool> {
    // SAFETY: the statics are written once, before the programs are loaded: the compiler must not treat them as
    // constants. The helpers check the addresses.
    unsafe {
        let signal = u64::from((&raw const TASK_SIGNAL_OFFSET).read_volatile());
        let live = u64::from((&raw const SIGNAL_LIVE_OFFSET).read_volatile());
        let signal = bpf_probe_read_kernel((bpf_get_current_task() + signal) as *const u64).ok()?;
        Some(bpf_probe_read_kernel((signal + live) as *const i32).ok()? == 0)
    }
}

/// Sends a record; `false` when the ring buffer is full.
#[inline(always)]
fn send_event(record: u32, pid: u32, parent: u32, position: u64) -> bool {
    let Some(mut entry) = RECORDS.reserve::<ProcessEvent>(0) else {
        return false;
    };
    entry.write(ProcessEvent { record, pid, parent, padding: 0, position, time_ns: now_ns() });
    // Wakes the collector, which has to inspect the process.
    entry.submit(0);
    true
}
