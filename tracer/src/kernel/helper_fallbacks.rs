//! Fallbacks for BPF helpers that Linux 5.10 lacks.
//!
//! Takes a program's instructions and rewrites calls to a missing helper into calls to a function appended to the
//! program, or to another helper. So one object file serves all kernels, and kernels that have the helpers run it
//! unchanged. Pure. The encoding: `Documentation/bpf/standardization/instruction-set.rst` of Linux.

use aya_obj::generated::bpf_insn;

use crate::arch::{Architecture as _, Host};

/// `bpf_get_attach_cookie`, Linux 5.15.
pub(super) const GET_ATTACH_COOKIE: i32 = 174;
/// `bpf_task_pt_regs`, Linux 5.15.
pub(super) const TASK_PT_REGS: i32 = 175;
/// `bpf_get_current_task_btf`, Linux 5.11.
pub(super) const GET_CURRENT_TASK_BTF: i32 = 158;
/// `bpf_get_current_task`: the same pointer as a plain number.
pub(super) const GET_CURRENT_TASK: i32 = 35;
/// `bpf_probe_read_kernel`.
const PROBE_READ_KERNEL: i32 = 113;

/// `call`; with source 0 the immediate is a helper's number, with source 1 the relative offset of a function.
const CALL: u8 = 0x85;
/// Source register of a `call` to a function.
const FUNCTION: u8 = 1;
/// The first of the two instruction slots that load a 64-bit constant into a register.
const SET: u8 = 0x18;
const EXIT: u8 = 0x95;

/// Where the kernel saves the registers with which a thread entered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// `stack` in `struct task_struct`, bytes.
    pub(super) offset: i32,
    /// `THREAD_SIZE`, bytes. The registers are at the very end.
    pub(super) bytes: i32,
}

const fn instruction(code: u8, destination: u8, source: u8, off: i16, imm: i32) -> Unpacked {
    Unpacked { code, destination, source, off, imm }
}

/// One instruction with its bit fields unpacked.
#[derive(Clone, Copy)]
struct Unpacked {
    code: u8,
    destination: u8,
    source: u8,
    off: i16,
    imm: i32,
}

impl Unpacked {
    fn packed(self) -> bpf_insn {
        bpf_insn {
            code: self.code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(self.destination, self.source),
            off: self.off,
            imm: self.imm,
        }
    }
}

/// A function that returns `value`.
pub(super) fn returning(value: u64) -> Vec<bpf_insn> {
    let half = |bits: u64| (bits & 0xffff_ffff) as u32;
    let (low, high) = (half(value).cast_signed(), half(value >> 32).cast_signed());
    [instruction(SET, 0, 0, 0, low), instruction(0, 0, 0, 0, high), instruction(EXIT, 0, 0, 0, 0)]
        .map(Unpacked::packed)
        .to_vec()
}

/// A function that returns the address of the saved registers of the task in its argument; an address that cannot be
/// read if the task's stack pointer cannot be read.
pub(super) fn task_registers(stack: Stack) -> Vec<bpf_insn> {
    [
        // r3 = r1 + offset
        instruction(0xbf, 3, 1, 0, 0),
        instruction(0x07, 3, 0, 0, stack.offset),
        // r1 = r10 - 8, which holds 0
        instruction(0xbf, 1, 10, 0, 0),
        instruction(0x07, 1, 0, 0, -8),
        instruction(0x7a, 10, 0, -8, 0),
        // r2 = 8
        instruction(0xb7, 2, 0, 0, 8),
        instruction(CALL, 0, 0, 0, PROBE_READ_KERNEL),
        // r0 = the stack's base, as read + its length - the bytes of the registers
        instruction(0x79, 0, 10, -8, 0),
        instruction(0x07, 0, 0, 0, stack.bytes - Host::SAVED_REGISTERS_BYTES),
        instruction(EXIT, 0, 0, 0, 0),
    ]
    .map(Unpacked::packed)
    .to_vec()
}

/// A program that only calls `helper` with its context: it loads if the kernel has the helper.
pub(super) fn calling(helper: i32) -> Vec<bpf_insn> {
    [
        instruction(CALL, 0, 0, 0, helper),
        instruction(0xb7, 0, 0, 0, 0),
        instruction(EXIT, 0, 0, 0, 0),
    ]
    .map(Unpacked::packed)
    .to_vec()
}

/// The indexes of the calls to `helper`. The second slot of a 64-bit constant is not an instruction; its opcode is 0.
fn calls(instructions: &[bpf_insn], helper: i32) -> Vec<usize> {
    let is_call = |one: &bpf_insn| one.code == CALL && one.src_reg() == 0 && one.imm == helper;
    let found = instructions.iter().enumerate().filter(|(_, one)| is_call(one));
    found.map(|(index, _)| index).collect()
}

/// Whether a program calls `helper`.
pub(super) fn has_call(instructions: &[bpf_insn], helper: i32) -> bool {
    !calls(instructions, helper).is_empty()
}

/// Replaces calls to `helper` by calls to another helper that takes the same arguments.
pub(super) fn replace_by_helper(instructions: &mut [bpf_insn], helper: i32, other: i32) {
    for index in calls(instructions, helper) {
        if let Some(call) = instructions.get_mut(index) {
            call.imm = other;
        }
    }
}

/// Replaces calls to `helper` by calls to `function`, which is appended to the program.
pub(super) fn replace_by_function(
    instructions: &mut Vec<bpf_insn>,
    helper: i32,
    function: &[bpf_insn],
) {
    let start = instructions.len();
    let calls = calls(instructions, helper);
    for index in &calls {
        // The offset is relative to the next instruction; programs have far fewer than 2³¹ instructions.
        let offset = i32::try_from(start - index - 1).unwrap_or(i32::MAX);
        if let Some(call) = instructions.get_mut(*index) {
            call.set_src_reg(FUNCTION);
            call.imm = offset;
        }
    }
    if !calls.is_empty() {
        instructions.extend_from_slice(function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(instructions: &[bpf_insn]) -> Vec<(u8, u8, u8, i16, i32)> {
        let word = |one: &bpf_insn| (one.code, one.dst_reg(), one.src_reg(), one.off, one.imm);
        instructions.iter().map(word).collect()
    }

    #[test]
    fn a_helper_call_becomes_a_call_to_an_appended_function() {
        let mut program = calling(GET_ATTACH_COOKIE);
        replace_by_function(&mut program, GET_ATTACH_COOKIE, &returning(0x8000_0001_0000_0002));
        assert_eq!(
            words(&program),
            [
                // Skips two instructions, to the fourth.
                (CALL, 0, FUNCTION, 0, 2),
                (0xb7, 0, 0, 0, 0),
                (EXIT, 0, 0, 0, 0),
                (SET, 0, 0, 0, 2),
                (0, 0, 0, 0, i32::MIN + 1),
                (EXIT, 0, 0, 0, 0),
            ]
        );
        assert!(!has_call(&program, GET_ATTACH_COOKIE));
    }

    #[test]
    fn a_function_that_is_not_called_is_not_appended() {
        let mut program = calling(GET_CURRENT_TASK_BTF);
        replace_by_function(&mut program, GET_ATTACH_COOKIE, &returning(1));
        replace_by_helper(&mut program, GET_CURRENT_TASK_BTF, GET_CURRENT_TASK);
        assert_eq!(words(&program), words(&calling(GET_CURRENT_TASK)));
    }

    #[test]
    fn a_constant_that_looks_like_a_helper_call_is_left_alone() {
        let mut program = returning(u64::from(GET_ATTACH_COOKIE.unsigned_abs()) << 32);
        let before = words(&program);
        replace_by_function(&mut program, GET_ATTACH_COOKIE, &returning(1));
        assert_eq!(words(&program), before);
    }
}
