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
mod constructors;
mod entry;
mod family;
mod fd_kprobes;
mod file;
mod io_uring;
mod loss;
mod maps;
mod missed_returns;
mod object;
mod opening;
mod resize;
mod returns;
mod scm;
mod site;
mod socket;
mod stack_cache;
mod syscall_rate;
mod syscalls;
mod thread_end;
mod threads;
mod touch;
mod tracepoint_args;
mod unwind;
mod young;

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
