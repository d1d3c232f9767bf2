//! Return addresses that return probes hide: the kernel replaces them on the stack by the address of its trampoline.
//!
//! The original of a heap call's is in its thread's state, those of constructors in their calls'.

use tracer_common::{
    kind::PAGE_BYTES,
    object::CONSTRUCTOR_CALLS,
    state::{Process, Thread},
};

use crate::{arch, call::Call};

/// Whether a return probe has replaced this return address by its trampoline.
#[inline(always)]
pub(crate) fn is_hijacked(process: &Process, word: u64) -> bool {
    if process.trampoline == 0 { is_page_start(word) } else { word == process.trampoline }
}

/// The check until the collector has seen the trampoline's address: the trampoline is at the start of a page.
#[inline(always)]
fn is_page_start(word: u64) -> bool {
    word != 0 && word & (PAGE_BYTES - 1) == 0 && arch::is_user_address(word)
}

/// Digest of the hidden return addresses, on which a walk of the thread's stack depends: `ConstructorCall::chain` of
/// the innermost constructor call; 0 without one.
#[inline(always)]
pub(crate) fn chain_of(thread: &Thread) -> u64 {
    let Some(last) = (thread.constructor_calls as usize).checked_sub(1) else { return 0 };
    // SAFETY: masked to the array's length.
    unsafe { thread.constructors.get_unchecked(last & (CONSTRUCTOR_CALLS - 1)) }.chain
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
