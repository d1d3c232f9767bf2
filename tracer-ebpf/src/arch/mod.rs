//! The processor: its registers, how functions and system calls pass arguments and results, where a return address
//! lies, and how a walk gets from a frame to its caller.
//!
//! Each architecture has a file here; all have the same names. Nothing else in this crate names a register.

#[cfg(not(bpf_target_arch = "x86_64"))]
compile_error!("leaktrace has no `arch` for this `bpf_target_arch`, see `cargo xtask bpf`");
#[cfg(bpf_target_arch = "x86_64")]
mod x86_64;

#[cfg(bpf_target_arch = "x86_64")]
pub(crate) use x86_64::{
    Arguments, Registers, UPROBE, URETPROBE, arguments, entry_return_address, frame_registers,
    instruction, is_user_address, popped_slot, read_registers, read_syscall_argument,
    read_syscall_number, return_address, return_slot, returned, stack_pointer,
    stack_pointer_after_return, syscall_argument, syscall_number, to_caller, to_interrupted,
};
