//! Where the call that a thread is in is kept: a thread of its own, from its first call until it ends.

use aya_ebpf::bindings::BPF_NOEXIST;
use tracer_common::{
    limits::RECENT_THREADS,
    loss::Loss,
    state::{OLD_NONE, Target, Thread},
};

use crate::{
    loss::lose,
    maps::{FREE_THREAD_STATES, RECENT, THREAD_STATES, THREADS},
};

/// The thread of a thread, if it has one.
#[inline(always)]
pub(crate) fn find(id: u64) -> Option<*mut Thread> {
    let thread = find_raw(id);
    if thread.is_null() { None } else { Some(thread) }
}

/// A function of its own, so that verifiers meet one pointer, which is null or is not.
#[inline(never)]
fn find_raw(id: u64) -> *mut Thread {
    let Some(recent) = RECENT.get_ptr_mut(id as u32 & (RECENT_THREADS - 1)) else {
        return core::ptr::null_mut();
    };
    // SAFETY: live values of maps; a thread's owner changes only when that thread is not in a program.
    unsafe {
        if let Some(thread) = THREAD_STATES.get_ptr_mut(recent.read_volatile())
            && (*thread).id == id
        {
            return thread;
        }
        let Some(number) = THREADS.get(id) else { return core::ptr::null_mut() };
        recent.write_volatile(*number);
        THREAD_STATES.get_ptr_mut(*number).unwrap_or(core::ptr::null_mut())
    }
}

/// Gives a thread of `target` a thread. `None` when there is none (counted).
#[inline(always)]
pub(crate) fn allocate(id: u64, target: Target) -> Option<*mut Thread> {
    let thread = try_allocate(id, target);
    if thread.is_none() {
        lose(Loss::ThreadsFull);
    }
    thread
}

/// The same where nothing is lost without one.
#[inline(always)]
pub(crate) fn try_allocate(id: u64, target: Target) -> Option<*mut Thread> {
    let Ok(Some(number)) = FREE_THREAD_STATES.pop() else {
        return None;
    };
    if THREADS.insert(id, number, u64::from(BPF_NOEXIST)).is_err() {
        _ = FREE_THREAD_STATES.push(number, 0);
        return None;
    }
    let thread = THREAD_STATES.get_ptr_mut(number)?;
    // SAFETY: a live value, this thread's alone from now on. The rest is written before it is read.
    unsafe {
        (*thread).target = target;
        (*thread).active = 0;
        (*thread).site = 0;
        (*thread).old_state = OLD_NONE;
        (*thread).opened.pending = 0;
        (*thread).serving = 0;
        (*thread).detail = 0;
        (*thread).moving = 0;
        (*thread).constructor_calls = 0;
        (*thread).id = id;
    }
    Some(thread)
}

/// Takes a thread's thread back.
#[inline(always)]
pub(crate) fn release(id: u64) {
    // SAFETY: a number that never changes while the value is there.
    let Some(number) = (unsafe { THREADS.get(id) }).copied() else { return };
    if let Some(thread) = THREAD_STATES.get_ptr_mut(number) {
        // SAFETY: a live value of the thread's that is leaving.
        unsafe { (*thread).id = 0 };
    }
    _ = THREADS.remove(id);
    _ = FREE_THREAD_STATES.push(number, 0);
}
