//! What a system call does with descriptors and connections, by its number.

use tracer_common::syscall::{ACTIONS, NUMBERS};

/// The action for the call with this number.
#[inline(always)]
pub(crate) fn action(number: u64) -> u8 {
    // A volatile read, so that the compiler keeps the table in memory instead of turning it into code.
    // SAFETY: masked to the table's length.
    unsafe {
        (&raw const ACTIONS).cast::<u8>().add(number as usize & (NUMBERS - 1)).read_volatile()
    }
}
