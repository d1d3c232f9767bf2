//! Thread states: finds, allocates and releases them. A thread has one from its first call until it ends.

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

/// The state of a thread, if it has one.
#[inline(always)]
pub(crate) fn find(id: u64) -> Option<*mut Thread> {
    let thread = find_raw(id);
    if thread.is_null() { None } else { Some(thread) }
}

/// Not inlined, so that the verifier sees a single pointer that may be null.
#[inline(never)]
fn find_raw(id: u64) -> *mut Thread {
    let Some(recent) = RECENT.get_ptr_mut(id as u32 & (RECENT_THREADS - 1)) else {
        return core::ptr::null_mut();
    };
    // SAFETY: live values of maps; a state's owner changes only while that thread runs no program.
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

/// Allocates a state for a thread of `target`. `None` when none is free (counted).
#[inline(always)]
pub(crate) fn allocate(id: u64, target: Target) -> Option<*mut Thread> {
    let thread = try_allocate(id, target);
    if thread.is_none() {
        lose(Loss::ThreadsFull);
    }
    thread
}

/// The same for a caller that loses nothing without a state: not counted.
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
    // SAFETY: a live value, owned by this thread alone from now on. The other fields are written before they are read.
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
        (*thread).starting.slot = 0;
        (*thread).id = id;
    }
    Some(thread)
}

/// Releases a thread's state.
#[inline(always)]
pub(crate) fn release(id: u64) {
    // SAFETY: a number that never changes while the entry exists.
    let Some(number) = (unsafe { THREADS.get(id) }).copied() else { return };
    if let Some(thread) = THREAD_STATES.get_ptr_mut(number) {
        // SAFETY: a live value, owned by the ending thread.
        unsafe { (*thread).id = 0 };
    }
    _ = THREADS.remove(id);
    _ = FREE_THREAD_STATES.push(number, 0);
}
