//! A target forks, or becomes another program.
//!
//! A child is a target from before its first instruction: the programs here run in the parent while the
//! child does not run yet. What it inherits is worked out by the collector, which is told of the fork's
//! place in the order of things; `docs/decisions/0002-two-generations.md` has the argument.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel},
    macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{
    limits,
    loss::Loss,
    record::{END_FILES, EXEC, FORK, FORK_FILES, ProcessEvent},
    state::{NO_NUMBER, Target},
};

use crate::{
    loss::lose,
    maps::{BLANK_PROCESS, FORKS, PROCESSES, RECORDS, SWITCH, TARGETS},
    threads,
    young::{now_ns, position},
};

/// `CLONE_VM` of `linux/sched.h`: parent and child share their memory.
const CLONE_VM: u64 = 0x100;
/// `CLONE_FILES`: parent and child share their table of file descriptors.
const CLONE_FILES: u64 = 0x400;
/// `CLONE_THREAD`: the "child" is a thread of the same process.
const CLONE_THREAD: u64 = 0x1_0000;

/// Where `task_struct` keeps a task's id, from the kernel's type information: set by user space when it
/// loads the programs. (The tracepoint's own description would need a mounted tracefs.)
#[unsafe(no_mangle)]
static TASK_PID_OFFSET: u32 = 0;

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
    if flags & CLONE_THREAD != 0 || *SWITCH.get(0)? == 0 {
        return None;
    }
    // SAFETY: copied; nobody changes it while this thread of the process is here.
    let parent = *unsafe { TARGETS.get((bpf_get_current_pid_tgid() >> 32) as u32) }?;
    if parent.follow == 0 {
        return None;
    }
    // SAFETY: the static is written once, before the programs are loaded: the compiler must not know.
    let offset = u64::from(unsafe { (&raw const TASK_PID_OFFSET).read_volatile() });
    // SAFETY: the helper checks the address.
    let child = unsafe { bpf_probe_read_kernel((task + offset) as *const u32) }.ok()?;
    // In its parent's memory it runs until it ends or becomes another program: what it acquires and
    // releases there is the owner's.
    let shares = flags & CLONE_VM != 0;
    // What is known of its parent's memory map is known of a shared one only.
    let files = if flags & CLONE_FILES != 0 { parent.files } else { child };
    let target = if shares { parent } else { Target { owner: child, number: NO_NUMBER, ..parent } };
    let target = Target { files, ..target };
    if TARGETS.insert(child, &target, 0).is_err() {
        lose(Loss::ChildDropped);
        return None;
    }
    // Of a table that is not followed, neither is the copy.
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

/// What `parent` holds has a copy from now on.
#[inline(always)]
fn announce_copy(record: u32, child: u32, parent: u32) -> bool {
    let position = position();
    // First of all: from here on what the parent releases is announced if the child has a copy.
    if let Some(after) = FORKS.get_ptr_mut(parent & (limits::FORKS - 1)) {
        // SAFETY: a live, aligned map value. Two that share it may write at once: next to each other.
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
    // SAFETY: the tracepoint has three arguments: the task, its former id, and what is executed.
    let former = unsafe { *context.as_ptr().cast::<u64>().add(1) } as u32;
    let id = bpf_get_current_pid_tgid();
    let pid = (id >> 32) as u32;
    // SAFETY: copied; the process has this one thread, and it is here.
    let before = *unsafe { TARGETS.get(pid) }?;
    // Where code is, is not known any more until the collector has looked. A stack is its first frame
    // until then.
    _ = PROCESSES.insert(pid, BLANK_PROCESS.get(0)?, 0);
    let programs = before.programs.wrapping_add(1);
    // A shared table of descriptors is shared no more. What is in it stays.
    let files = if before.files == 0 { 0 } else { pid };
    let target = Target { owner: pid, programs, number: NO_NUMBER, files, ..before };
    if files != before.files {
        announce_copy(FORK_FILES, pid, before.files);
    }
    _ = TARGETS.insert(pid, &target, 0);
    // The call it may have been in is gone with its stack.
    threads::release(id);
    // A thread other than the first one has become the first one.
    threads::release(u64::from(pid) << 32 | u64::from(former));
    if !send_event(EXEC, pid, before.owner, position()) {
        lose(Loss::ChildDropped);
        _ = TARGETS.remove(pid);
    }
    Some(())
}

/// A process that ran in its parent's memory ends: its table of descriptors goes with it.
pub(crate) fn ended(pid: u32, target: &Target) {
    if target.files == pid && !send_event(END_FILES, pid, pid, position()) {
        lose(Loss::ChildDropped);
    }
}

/// Sends a record; `false` when the ring buffer is full.
#[inline(always)]
fn send_event(record: u32, pid: u32, parent: u32, position: u64) -> bool {
    let Some(mut entry) = RECORDS.reserve::<ProcessEvent>(0) else {
        return false;
    };
    entry.write(ProcessEvent { record, pid, parent, padding: 0, position, time_ns: now_ns() });
    // The reader is woken: it has to look at the process.
    entry.submit(0);
    true
}
