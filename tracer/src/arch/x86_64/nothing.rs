//! Functions that do nothing: the kernel emulates the first instruction of two of them, and single-steps that of the
//! third. `run/overhead/calibrate.rs` measures what probes on them cost.

use core::arch::naked_asm;

/// All three: to probe the entry, to probe entry and return, to single-step.
pub(super) const ALL: [extern "C" fn(); 3] = [entry, entry_and_return, step];

#[unsafe(naked)]
extern "C" fn entry() {
    naked_asm!("push rbx", "pop rbx", "ret")
}

#[unsafe(naked)]
extern "C" fn entry_and_return() {
    naked_asm!("push rbp", "pop rbp", "ret")
}

#[unsafe(naked)]
extern "C" fn step() {
    naked_asm!("test rdi, rdi", "ret")
}
