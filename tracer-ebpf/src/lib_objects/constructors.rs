//! The nested constructor calls that a thread is in.

use tracer_common::{object::CONSTRUCTOR_CALLS, state::Thread};

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
