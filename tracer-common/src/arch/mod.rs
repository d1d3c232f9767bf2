//! What both sides know of the processor: numbers of system calls, and the registers by which frames are found.
//!
//! Each architecture has a folder here, with the same names as the others; `unsupported.rs` serves all architectures
//! without one. When the programs are compiled for BPF, `bpf_target_arch` names the processor of the traced machine.

#[cfg(any(
    leaktrace_unsupported_arch,
    not(any(target_arch = "x86_64", bpf_target_arch = "x86_64"))
))]
mod unsupported;
#[cfg(all(
    not(leaktrace_unsupported_arch),
    any(target_arch = "x86_64", bpf_target_arch = "x86_64")
))]
pub mod x86_64;

#[cfg(any(
    leaktrace_unsupported_arch,
    not(any(target_arch = "x86_64", bpf_target_arch = "x86_64"))
))]
use unsupported as this;
#[cfg(all(
    not(leaktrace_unsupported_arch),
    any(target_arch = "x86_64", bpf_target_arch = "x86_64")
))]
use x86_64 as this;

pub use this::{
    FrameRegisters, IO_URING_ENTER, PAGE_BYTES, READ, READV, Rule, USES_REGISTERS, syscall_actions,
};
