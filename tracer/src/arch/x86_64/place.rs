//! Chooses the instruction of a function to probe.
//!
//! Takes a function's bytes, passes on an offset into them.
//!
//! The cost of a breakpoint depends on the instruction under it: the kernel emulates `push`, `nop`,
//! `jmp`, `jcc` and `call rel` (`arch/x86/kernel/uprobes.c`), and single-steps everything else, which
//! costs a second trap, 20 to 30 times as much in a virtual machine. So a probe is placed at the first emulated
//! instruction that every call executes with its arguments, and for a return probe also its return address, still in
//! place.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};

use super::X86_64;
use crate::arch::{Architecture as _, Place};

/// Bytes of a function to search for a place: its prologue.
const PROLOGUE_BYTES: u64 = 64;

/// The registers that pass arguments, in the order of the arguments.
pub(super) const ARGUMENTS: [Register; X86_64::REGISTER_ARGUMENTS as usize] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// See [`crate::arch::Architecture::place`].
pub(super) fn choose(code: &[u8], offset: u64, arguments: &[u8]) -> Place {
    let entry = Place { offset, behind_entry: 0, emulated: false, words: 0 };
    let needed = registers(arguments);
    let targets = branch_targets(code);
    let mut facts = InstructionInfoFactory::new();
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    while decoder.can_decode() && decoder.ip() < PROLOGUE_BYTES {
        let instruction = decoder.decode();
        let at = instruction.ip();
        // A jump to this instruction would hit the probe without a call.
        if at > 0 && targets.contains(&at) {
            return entry;
        }
        if is_emulated(&instruction) {
            return Place { offset: offset + at, behind_entry: at, emulated: true, words: 0 };
        }
        if instruction.flow_control() != FlowControl::Next || instruction.is_invalid() {
            return entry;
        }
        // An instruction that may fault, wait or enter the kernel must not come before the probe.
        if matches!(instruction.mnemonic(), Mnemonic::Syscall | Mnemonic::Int | Mnemonic::Sysenter)
        {
            return entry;
        }
        let info = facts.info(&instruction);
        let overwritten = info.used_registers().iter().any(|used| {
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let whole = used.register().full_register();
            written && (needed.contains(&whole) || whole == Register::RSP)
        });
        if overwritten {
            // `sub rsp, n` and similar instructions move the return address; without an emulated instruction before
            // it, the entry is the only safe place.
            return entry;
        }
    }
    entry
}

/// See [`crate::arch::Architecture::deeper_place`].
pub(super) fn choose_deeper(code: &[u8], offset: u64, arguments: &[u8]) -> Option<Place> {
    let mut needed = registers(arguments);
    needed.extend([Register::RBP, Register::RBX]);
    let targets = branch_targets(code);
    let mut facts = InstructionInfoFactory::new();
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut words = 0_u8;
    while decoder.can_decode() && decoder.ip() < PROLOGUE_BYTES {
        let instruction = decoder.decode();
        let at = instruction.ip();
        if at > 0 && targets.contains(&at) {
            return None;
        }
        if is_emulated(&instruction) {
            let (offset, behind_entry) = (offset + at, at);
            return Some(Place { offset, behind_entry, emulated: true, words });
        }
        if instruction.flow_control() != FlowControl::Next || instruction.is_invalid() {
            return None;
        }
        if matches!(instruction.code(), Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32)
            && instruction.op0_register() == Register::RSP
        {
            let bytes = instruction.immediate(1);
            let more = u8::try_from(bytes / 8).ok().filter(|_| bytes.is_multiple_of(8))?;
            words = words.checked_add(more)?;
            continue;
        }
        let overwritten = facts.info(&instruction).used_registers().iter().any(|used| {
            let written = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            let whole = used.register().full_register();
            written && (needed.contains(&whole) || whole == Register::RSP)
        });
        if overwritten {
            return None;
        }
    }
    None
}

/// Whether the kernel emulates the instruction instead of single-stepping it, without side effects.
///
/// Of the `nop`s, only the one of a single byte: Linux 6.18 and newer replace one of 5 bytes (7.1: 10 bytes, too) under
/// a probe by a `call`, which writes a return address below the stack pointer. Until the fix of 2026-07 (554ba38456da)
/// that was into the red zone. At a function's entry the red zone is empty; after it, it may contain data.
fn is_emulated(instruction: &Instruction) -> bool {
    let single_byte_nop = instruction.code() == Code::Nopd && instruction.len() == 1;
    single_byte_nop
        || matches!(
            instruction.code(),
            Code::Push_r64 | Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Call_rel32_64
        )
        || (instruction.is_jcc_short_or_near() && instruction.len() >= 2)
}

/// Whether a probe on this code makes the kernel write below the stack pointer: it begins with a `nop` of 5 or 10
/// bytes. See [`is_emulated`].
pub(super) fn is_replaced_by_call(code: &[u8]) -> bool {
    let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
    instruction.mnemonic() == Mnemonic::Nop && matches!(instruction.len(), 5 | 10)
}

/// The registers that pass these arguments.
fn registers(arguments: &[u8]) -> Vec<Register> {
    let register = |argument: &u8| ARGUMENTS.get(usize::from(*argument)).copied();
    arguments.iter().filter_map(register).collect()
}

/// Targets of the function's own branches, as offsets in it.
fn branch_targets(code: &[u8]) -> Vec<u64> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut targets = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.near_branch_target() != 0 {
            targets.push(instruction.near_branch_target());
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use tracer_common::{attach::Shape, object::NONE};

    use super::*;

    #[track_caller]
    fn check(code: &[u8], shape: Shape, arguments: [u8; 3], expected: (u64, bool)) {
        let place = choose(code, 0x1000, &shape.uses(arguments));
        assert_eq!((place.behind_entry, place.emulated), expected);
        assert_eq!(place.offset, 0x1000 + expected.0);
    }

    #[test]
    fn a_call_after_the_frame_setup_is_used_where_only_the_entry_is_probed() {
        // evbuffer_new of libevent 2.1.12: sub rsp,8; mov esi,136; mov edi,1; call
        let code =
            [0x48, 0x83, 0xec, 0x08, 0xbe, 0x88, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0xe8, 0, 0, 0, 0];
        check(&code, Shape::Construct, [NONE; 3], (0, false));
        let place = choose_deeper(&code, 0x1000, &[]).unwrap();
        let found = (place.offset, place.behind_entry, place.emulated, place.words);
        assert_eq!(found, (0x100e, 14, true, 1));
        // A needed argument is overwritten before it.
        assert_eq!(choose_deeper(&code, 0x1000, &[0]), None);
        // `choose` finds a push; a function that overwrites rbx is not followed.
        let saved = [0x48, 0x83, 0xec, 0x08, 0x48, 0x89, 0xfb, 0xe8, 0, 0, 0, 0];
        assert_eq!(choose_deeper(&saved, 0, &[]), None);
    }

    #[test]
    fn a_push_at_the_entry_is_used() {
        check(&[0x41, 0x55, 0x48, 0x89, 0xf8], Shape::CountSize, [0, 1, 0], (0, true));
    }

    #[test]
    fn glibc_free_is_probed_at_its_conditional_jump() {
        let free = [0x48, 0x85, 0xff, 0x0f, 0x84, 0xbf, 0, 0, 0, 0x55];
        check(&free, Shape::Release, [0, 0, 0], (3, true));
    }

    #[test]
    fn an_endbr64_is_skipped() {
        check(&[0xf3, 0x0f, 0x1e, 0xfa, 0x55], Shape::Size, [0, 0, 0], (4, true));
    }

    #[test]
    fn an_overwritten_argument_keeps_the_probe_at_the_entry() {
        // mov rdi, rsi; push rbp
        check(&[0x48, 0x89, 0xf7, 0x55], Shape::Size, [0, 0, 0], (0, false));
        // A function that needs only its second argument is not affected.
        check(&[0x48, 0x89, 0xf7, 0x55], Shape::Size, [1, 0, 0], (3, true));
        // mov edi, esi writes the whole register too.
        check(&[0x89, 0xf7, 0x55], Shape::Size, [0, 0, 0], (0, false));
    }

    #[test]
    fn a_moved_stack_pointer_keeps_the_probe_at_the_entry() {
        // sub rsp, 0x58; push rbp
        check(&[0x48, 0x83, 0xec, 0x58, 0x55], Shape::Remap, [0, 1, 2], (0, false));
    }

    #[test]
    fn no_place_after_a_system_call_is_used() {
        // mov eax, 11; syscall; push rbp
        check(&[0xb8, 0x0b, 0, 0, 0, 0x0f, 0x05, 0x55], Shape::Unmap, [0, 1, 0], (0, false));
    }

    #[test]
    fn a_branch_target_is_not_used() {
        // test rdi, rdi; push rbp; jmp back to the push
        check(&[0x48, 0x85, 0xff, 0x55, 0xeb, 0xfd], Shape::Release, [0, 0, 0], (0, false));
    }

    /// `nop dword [rax+rax]`, and the one of 10 bytes.
    const LONG_NOPS: [&[u8]; 2] = [
        &[0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x02, 0x00, 0x00],
    ];

    #[test]
    fn a_long_nop_after_the_entry_is_never_used() {
        for nop in LONG_NOPS {
            // test rdi, rdi; nop; ret
            let alone = [&[0x48, 0x85, 0xff], nop, &[0xc3]].concat();
            check(&alone, Shape::Release, [0, 0, 0], (0, false));
            assert_eq!(choose_deeper(&alone, 0, &[0]), None);
            // A push after it is used.
            let then_push = [&[0x48, 0x85, 0xff], nop, &[0x55]].concat();
            check(&then_push, Shape::Release, [0, 0, 0], (3 + nop.len() as u64, true));
            assert!(is_replaced_by_call(nop));
        }
        // The kernel does not replace a nop of one byte.
        check(&[0x48, 0x85, 0xff, 0x90], Shape::Release, [0, 0, 0], (3, true));
        for other in [&[0x90_u8][..], &[0x66, 0x90], &[0x0f, 0x1f, 0x00], &[0x55], &[]] {
            assert!(!is_replaced_by_call(other), "{other:x?}");
        }
    }

    #[test]
    fn code_that_does_not_decode_is_probed_at_its_entry() {
        check(&[0x06, 0x06], Shape::Size, [0, 0, 0], (0, false));
        check(&[], Shape::Size, [0, 0, 0], (0, false));
    }
}
