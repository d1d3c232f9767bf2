//! The kernel programs of leaktrace: glue between registers and the maps of `maps.rs`.
//!
//! The programs know shapes (where size, handle and out-pointer stand), not functions: which function
//! a probe sits on comes with its attach cookie. What can be decided without the kernel is decided in
//! `tracer-common`, where it is tested on the host.
//!
//! One subject per file, in the order in which a call meets them.
#![no_std]
#![no_main]
// Atomic addition: the safe types have no methods for the BPF target, which lacks compare-and-swap.
#![expect(internal_features, reason = "see above")]
#![feature(core_intrinsics)]

mod arguments;
mod bare;
mod call;
mod connection;
mod descriptor;
mod entry;
mod family;
mod file;
mod install;
mod loss;
mod making;
mod maps;
mod message;
mod missed;
mod object;
mod opening;
mod outstanding;
mod pace;
mod remember;
mod resize;
mod ret;
mod ring;
mod room;
mod site;
mod socket;
mod thread_end;
mod told;
mod touch;
mod unwind;

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
