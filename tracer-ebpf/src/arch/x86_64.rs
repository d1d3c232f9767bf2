//! x86-64: the registers of a hit, the System V calling convention, and the convention of Linux's system calls.
//!
//! Functions that take `&Registers` read the context of a program or a copy of it; those that take a pointer read the
//! kernel's memory.

mod unwind;

use core::mem::offset_of;

use aya_ebpf::{bindings::pt_regs, helpers::bpf_probe_read_kernel};
use tracer_common::arch::FrameRegisters;

pub(crate) use unwind::{to_caller, to_interrupted};

/// The registers of a thread, as the kernel stores them.
pub(crate) type Registers = pt_regs;

/// Numbers of the system calls that the kernel itself injects into a probed process: `uretprobe(2)`, since Linux 6.11.
pub(crate) const URETPROBE: u64 = 335;
/// As above: `uprobe(2)`, since 6.18. No other architecture has them.
pub(crate) const UPROBE: u64 = 336;

/// Bytes of a return address on the stack.
const RETURN_ADDRESS: u64 = 8;

/// Where the registers keep the arguments of a system call, by number.
const SYSCALL_ARGUMENTS: [usize; 4] = [
    offset_of!(pt_regs, rdi),
    offset_of!(pt_regs, rsi),
    offset_of!(pt_regs, rdx),
    offset_of!(pt_regs, r10),
];

/// The arguments of a function call.
pub(crate) struct Arguments([u64; 8]);

impl Arguments {
    /// The one with this number.
    #[inline(always)]
    pub(crate) fn get(&self, number: u8) -> u64 {
        // SAFETY: masked to the array's length.
        unsafe { (&raw const self.0).cast::<u64>().add(usize::from(number & 7)).read_volatile() }
    }
}

/// The arguments, at a function's entry.
#[inline(always)]
pub(crate) fn arguments(regs: &Registers) -> Arguments {
    // All are copied first: the verifier requires a constant offset for each field of the context, and LLVM
    // would turn a choice of fields into a choice of offsets. Arguments 6 and 7 do not exist; for zeros LLVM
    // would emit a loop over bytes.
    let last = regs.r9;
    Arguments([regs.rdi, regs.rsi, regs.rdx, regs.rcx, regs.r8, last, last, last])
}

/// The returned value, at a function's return; the first argument if `is_first_argument`, at a tail call to a function
/// that returns it.
#[inline(always)]
pub(crate) fn returned(regs: &Registers, is_first_argument: bool) -> u64 {
    // Both are copied first, as above.
    let both = [regs.rax, regs.rdi];
    let chosen = usize::from(is_first_argument);
    // SAFETY: 0 or 1.
    unsafe { (&raw const both).cast::<u64>().add(chosen & 1).read_volatile() }
}

/// The stack pointer.
#[inline(always)]
pub(crate) fn stack_pointer(regs: &Registers) -> u64 {
    regs.rsp
}

/// Address of the instruction.
#[inline(always)]
pub(crate) fn instruction(regs: &Registers) -> u64 {
    regs.rip
}

/// The other registers by which unwind rules find frames.
#[inline(always)]
pub(crate) fn frame_registers(regs: &Registers) -> FrameRegisters {
    FrameRegisters { rbp: regs.rbp, rbx: regs.rbx }
}

/// Stack address of the return address, `words` pushed words after a function's entry.
#[inline(always)]
pub(crate) fn return_slot(stack_pointer: u64, words: u8) -> u64 {
    stack_pointer + u64::from(words) * 8
}

/// The return address at a function's entry; `word` lies at its slot.
#[inline(always)]
pub(crate) fn entry_return_address(_: &Registers, word: u64) -> u64 {
    word
}

/// The return address of a call in progress, by its slot, as a return probe may have changed it. `read` reads a word of
/// the stack.
#[inline(always)]
pub(crate) fn return_address(slot: u64, read: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
    read(slot)
}

/// The stack pointer after a return through the return address at `slot`.
#[inline(always)]
pub(crate) fn stack_pointer_after_return(slot: u64) -> u64 {
    slot + RETURN_ADDRESS
}

/// Stack address of the return address that has just been popped.
#[inline(always)]
pub(crate) fn popped_slot(stack_pointer: u64) -> u64 {
    stack_pointer.wrapping_sub(RETURN_ADDRESS)
}

/// Whether user space can have a mapping at an address.
#[inline(always)]
pub(crate) fn is_user_address(address: u64) -> bool {
    address >> 57 == 0
}

/// Number of a system call, from registers in the kernel's memory.
#[inline(always)]
pub(crate) fn read_syscall_number(regs: *const Registers) -> Option<u64> {
    register(regs, offset_of!(pt_regs, orig_rax))
}

/// Argument number `N` of a system call, from registers in the kernel's memory.
#[inline(always)]
pub(crate) fn read_syscall_argument<const N: usize>(regs: *const Registers) -> Option<u64> {
    register(regs, const { SYSCALL_ARGUMENTS[N] })
}

/// Copies registers from the kernel's memory.
#[inline(always)]
pub(crate) fn read_registers(address: u64) -> Option<Registers> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(address as *const Registers) }.ok()
}

/// Reads one of the registers.
#[inline(always)]
fn register(regs: *const Registers, offset: usize) -> Option<u64> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(regs.cast::<u8>().add(offset).cast::<u64>()) }.ok()
}

/// Number of a system call, from copied registers.
#[inline(always)]
pub(crate) fn syscall_number(regs: &Registers) -> u64 {
    regs.orig_rax
}

/// Argument number `N` of a system call, from copied registers.
#[inline(always)]
pub(crate) fn syscall_argument<const N: usize>(regs: &Registers) -> u64 {
    match N {
        0 => regs.rdi,
        1 => regs.rsi,
        2 => regs.rdx,
        _ => regs.r10,
    }
}
