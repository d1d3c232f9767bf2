//! What the programs know of a processor: its registers, and how functions and system calls pass arguments and results.
//!
//! One file per architecture; all have the same names. Besides them only the unwinder knows registers: those of a walk
//! (`state::Walk`), which rules restore.

mod x86_64;

pub(crate) use x86_64::{
    Arguments, Registers, UPROBE, URETPROBE, arguments, frame_pointer, instruction,
    is_user_address, popped_slot, rbx, read_registers, read_syscall_argument, read_syscall_number,
    return_slot, returned, stack_pointer, stack_pointer_after_return, syscall_argument,
    syscall_number,
};
