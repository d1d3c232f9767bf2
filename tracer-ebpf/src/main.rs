//! The kernel programs of leaktrace: glue between registers and the maps of `maps.rs`.
//!
//! The programs know shapes (the arguments with size, handle and out-pointer), not functions: the attach
//! cookie of a probe identifies its function. Logic that does not need the kernel lives in `tracer-common`,
//! where tests run it on the host.
//!
//! One folder per subject; what several subjects share is in `resources` and in the files here. No two folders use each
//! other.
#![no_std]
#![no_main]
// Atomic addition: the safe types lack methods for the BPF target, which has no compare-and-swap.
#![expect(internal_features, reason = "see above")]
#![feature(core_intrinsics)]

mod arch;
mod call;
mod fd;
mod file;
mod heap;
mod lib_objects;
mod loss;
mod maps;
mod net;
mod process;
mod resources;
mod stack;
mod threads;

/// The verifier refuses programs that can reach this; the linker drops it.
#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: never reached, see above.
    unsafe { core::hint::unreachable_unchecked() }
}

/// Several helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
