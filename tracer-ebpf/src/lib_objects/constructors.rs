//! The nested constructor calls that a thread is in, and the return addresses that their return probes hide.

use tracer_common::{object::CONSTRUCTOR_CALLS, state::Thread};

use crate::{call::Call, heap::entry::is_hijacked};

/// Id of the innermost constructor call that the thread is in; 0 for none.
#[inline(always)]
pub(crate) fn within(thread: &Thread) -> u64 {
    if thread.constructor_calls == 0 {
        return 0;
    }
    let last = (thread.constructor_calls as usize - 1) & (CONSTRUCTOR_CALLS - 1);
    // SAFETY: masked to the array's length.
    unsafe { thread.constructors.get_unchecked(last) }.id
}

/// Digest of the hidden return addresses, on which a walk of the thread's stack depends: `ConstructorCall::chain` of
/// the innermost constructor call; 0 without one.
#[inline(always)]
pub(crate) fn chain_of(thread: &Thread) -> u64 {
    let Some(last) = (thread.constructor_calls as usize).checked_sub(1) else { return 0 };
    // SAFETY: masked to the array's length.
    unsafe { thread.constructors.get_unchecked(last & (CONSTRUCTOR_CALLS - 1)) }.chain
}

/// Forgets constructor calls whose return address lies below `slot`: the thread left them without a return.
#[inline(always)]
pub(crate) fn forget_below(thread: &mut Thread, slot: u64) {
    for _ in 0..CONSTRUCTOR_CALLS {
        let number = thread.constructor_calls as usize;
        if number == 0 {
            return;
        }
        // SAFETY: masked to the array's length.
        if unsafe { thread.constructors.get_unchecked((number - 1) & (CONSTRUCTOR_CALLS - 1)) }.slot
            >= slot
        {
            return;
        }
        thread.constructor_calls = number as u32 - 1;
    }
}

/// The original return address at `slot`: `found`, unless the return probe of a constructor that tail-called this
/// function has replaced it.
#[inline(always)]
pub(crate) fn caller_of(call: &Call, thread: &Thread, slot: u64, found: u64) -> u64 {
    if thread.constructor_calls == 0 {
        return found;
    }
    let Some(process) = call.process() else { return found };
    // SAFETY: the map's value lives at least as long as the program runs.
    if !is_hijacked(unsafe { &*process }, found) {
        return found;
    }
    match original(thread, slot) {
        0 => found,
        caller => caller,
    }
}

/// The return address at `slot` that a constructor's return probe has replaced; 0 when none has.
#[inline(never)]
pub(crate) fn original(thread: *const Thread, slot: u64) -> u64 {
    if thread.is_null() {
        return 0;
    }
    // SAFETY: the value belongs to this thread alone, checked by the caller.
    let thread = unsafe { &*thread };
    for at in 0..CONSTRUCTOR_CALLS {
        // SAFETY: below the array's length.
        let constructor = unsafe { thread.constructors.get_unchecked(at) };
        if (at as u32) < thread.constructor_calls && constructor.slot == slot {
            return constructor.caller;
        }
    }
    0
}
