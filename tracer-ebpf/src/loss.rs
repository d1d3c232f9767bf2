//! Counters of hits and losses. Every loss is counted.
//!
//! Programs can be preempted on kernels since 6.0, also between load and store of a counter of their
//! CPU: every count is one atomic addition.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{helpers::generated::bpf_get_smp_processor_id, maps::PerCpuArray};
use tracer_common::{
    limits::DOUBT_SLOTS,
    loss::Loss,
    stack::Digest,
    state::{DIED_SITES, Died, Key},
};

use crate::maps::{DIED, DOUBT, LOSSES};

/// Bits of a CPU's number that select its copy of [`DIED`]. The number of copies is one more, a power of two. User
/// space sets the mask when it loads the programs.
#[unsafe(no_mangle)]
static DIED_STRIPE_MASK: u32 = 0;

/// Adds to a counter that the verifier has seen to be valid.
///
/// # Safety
/// `counter` points to a live map value.
#[inline(always)]
pub(crate) unsafe fn add(counter: *mut u64, amount: u64) {
    // SAFETY: a live, aligned map value (caller). The old value is not used, which makes this the one
    // atomic instruction that every kernel with BPF has.
    _ = unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub(crate) fn count(counters: &PerCpuArray<u64>, index: u32) {
    if let Some(counter) = counters.get_ptr_mut(index) {
        // SAFETY: the pointer comes from the map and was checked.
        unsafe { add(counter, 1) };
    }
}

/// Counts a loss.
#[inline(always)]
pub(crate) fn lose(reason: Loss) {
    count(&LOSSES, reason as u32);
}

/// Counts a resource that died young at its call site. A program that migrates to another CPU meanwhile adds to the
/// previous CPU's copy, which is harmless.
#[inline(always)]
pub(crate) fn died(site: u32, bytes: u64) {
    // SAFETY: a constant that user space has set, and a helper without preconditions.
    let (mask, cpu) =
        unsafe { ((&raw const DIED_STRIPE_MASK).read_volatile(), bpf_get_smp_processor_id()) };
    let page = site / DIED_SITES as u32 * (mask + 1) + (cpu & mask);
    if let Some(page) = DIED.get_ptr_mut(page) {
        // SAFETY: as above, and masked to the page's length; both fields are aligned 64-bit words.
        unsafe {
            let died = page.cast::<Died>().add(site as usize & (DIED_SITES - 1));
            add(&raw mut (*died).count, 1);
            add(&raw mut (*died).bytes, bytes);
        }
    }
}

/// A release got lost: a resource with this handle that is not younger may be gone.
#[inline(always)]
pub(crate) fn doubt(key: &Key, position: u64) {
    let slot = Digest::seeded(key.pid, 0).with(key.handle).slot(DOUBT_SLOTS);
    if let Some(last) = DOUBT.get_ptr_mut(slot) {
        // SAFETY: a live, aligned map value. Two CPUs may write at once; their positions are then adjacent,
        // and the events between them happened within a microsecond.
        unsafe {
            if *last < position {
                *last = position;
            }
        }
    }
}
