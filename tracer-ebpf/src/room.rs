//! Where the call that a thread is in is kept: a room of its own, from its first call until it ends.

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

/// The room of a thread, if it has one.
#[inline(always)]
pub(crate) fn find(id: u64) -> Option<*mut Thread> {
    let room = look(id);
    if room.is_null() { None } else { Some(room) }
}

/// A function of its own, so that verifiers meet one pointer, which is null or is not.
#[inline(never)]
fn look(id: u64) -> *mut Thread {
    let Some(recent) = RECENT.get_ptr_mut(id as u32 & (RECENT_THREADS - 1)) else {
        return core::ptr::null_mut();
    };
    // SAFETY: live values of maps; a room's owner changes only when that thread is not in a program.
    unsafe {
        if let Some(room) = THREAD_STATES.get_ptr_mut(recent.read_volatile())
            && (*room).id == id
        {
            return room;
        }
        let Some(number) = THREADS.get(id) else { return core::ptr::null_mut() };
        recent.write_volatile(*number);
        THREAD_STATES.get_ptr_mut(*number).unwrap_or(core::ptr::null_mut())
    }
}

/// Gives a thread of `target` a room. `None` when there is none (counted).
#[inline(always)]
pub(crate) fn give(id: u64, target: Target) -> Option<*mut Thread> {
    let room = give_if_any(id, target);
    if room.is_none() {
        lose(Loss::ThreadsFull);
    }
    room
}

/// The same where nothing is lost without one.
#[inline(always)]
pub(crate) fn give_if_any(id: u64, target: Target) -> Option<*mut Thread> {
    let Ok(Some(number)) = FREE_THREAD_STATES.pop() else {
        return None;
    };
    if THREADS.insert(id, number, u64::from(BPF_NOEXIST)).is_err() {
        _ = FREE_THREAD_STATES.push(number, 0);
        return None;
    }
    let room = THREAD_STATES.get_ptr_mut(number)?;
    // SAFETY: a live value, this thread's alone from now on. The rest is written before it is read.
    unsafe {
        (*room).target = target;
        (*room).active = 0;
        (*room).site = 0;
        (*room).old_state = OLD_NONE;
        (*room).opened.pending = 0;
        (*room).serving = 0;
        (*room).detail = 0;
        (*room).moving = 0;
        (*room).constructor_calls = 0;
        (*room).id = id;
    }
    Some(room)
}

/// Takes a thread's room back.
#[inline(always)]
pub(crate) fn leave(id: u64) {
    // SAFETY: a number that never changes while the value is there.
    let Some(number) = (unsafe { THREADS.get(id) }).copied() else { return };
    if let Some(room) = THREAD_STATES.get_ptr_mut(number) {
        // SAFETY: a live value of the thread's that is leaving.
        unsafe { (*room).id = 0 };
    }
    _ = THREADS.remove(id);
    _ = FREE_THREAD_STATES.push(number, 0);
}
