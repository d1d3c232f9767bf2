//! Finds unwind rules in a function's code, where no table has them: follows what each instruction does to the stack
//! pointer, and where the caller's `rbp` and `rbx` are.
//!
//! Takes the bytes of one function, passes on rules. Gives up on the whole function rather than guess: two ways to one
//! instruction must agree, and every instruction that writes a register of interest must be one of those below.

use std::collections::BTreeMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};
use tracer_common::arch::x86_64::{BASE_FRAME, BASE_STACK, KEPT, Rule, SAVED_AT_FRAME_ADDRESS};

use crate::arch::Meaning;

/// Bytes of a return address, and of a saved register.
const WORD: i32 = 8;

/// What is known before an instruction. Offsets count from the frame address: the stack pointer before the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// Bytes from the stack pointer to the frame address; `None` after an alignment of the stack.
    depth: Option<i32>,
    /// The same from `rbp`, while it is a frame pointer.
    frame: Option<i32>,
    /// Where the caller's `rbp` is saved; `None` if the register still has it.
    rbp: Option<i32>,
    /// The same of `rbx`.
    rbx: Option<i32>,
    /// Whether there is no caller: the code has cleared the frame pointer, or taken the return address off the stack.
    outermost: bool,
}

impl State {
    const ENTRY: Self =
        Self { depth: Some(WORD), frame: None, rbp: None, rbx: None, outermost: false };

    fn meaning(self) -> Option<Meaning> {
        if self.outermost {
            return Some(Meaning::Bottom);
        }
        let (base, offset) = match (self.depth, self.frame) {
            (Some(depth), _) => (BASE_STACK, depth),
            (None, Some(frame)) => (BASE_FRAME, frame),
            (None, None) => return None,
        };
        let saved =
            |place: Option<i32>| place.map_or((KEPT, 0), |offset| (SAVED_AT_FRAME_ADDRESS, offset));
        let ((rbp, rbp_offset), (rbx, rbx_offset)) = (saved(self.rbp), saved(self.rbx));
        Some(Meaning::Rule(Rule {
            base,
            offset,
            rbp,
            rbp_offset,
            rbx,
            rbx_offset,
            ..Rule::default()
        }))
    }

    /// After an instruction; `None` if that cannot be known.
    fn after(mut self, one: &Instruction, factory: &mut InstructionInfoFactory) -> Option<Self> {
        let first =
            if one.op0_kind() == OpKind::Register { one.op0_register() } else { Register::None };
        let moves = |from: Register, to: Register| {
            one.mnemonic() == Mnemonic::Mov
                && first == to
                && one.op1_kind() == OpKind::Register
                && one.op1_register() == from
        };
        let constant = || i32::try_from(one.try_immediate(1).ok()?.cast_signed()).ok();
        match one.mnemonic() {
            // The callee leaves them as they are.
            Mnemonic::Call => {}
            Mnemonic::Push if one.stack_pointer_increment() == -WORD => {
                let depth = self.depth? + WORD;
                self.depth = Some(depth);
                if first == Register::RBP && self.rbp.is_none() {
                    self.rbp = Some(-depth);
                }
                if first == Register::RBX && self.rbx.is_none() {
                    self.rbx = Some(-depth);
                }
            }
            Mnemonic::Pop if one.stack_pointer_increment() == WORD && first != Register::RSP => {
                let depth = self.depth? - WORD;
                self.depth = Some(depth);
                self.outermost |= depth < WORD;
                if first == Register::RBP {
                    (self.rbp, self.frame) = (None, None);
                }
                if first == Register::RBX {
                    self.rbx = None;
                }
            }
            Mnemonic::Sub if first == Register::RSP => self.depth = Some(self.depth? + constant()?),
            Mnemonic::Add if first == Register::RSP => self.depth = Some(self.depth? - constant()?),
            Mnemonic::And if first == Register::RSP => self.depth = None,
            Mnemonic::Lea if first == Register::RSP && one.memory_index() == Register::None => {
                let by = i32::try_from(one.memory_displacement64().cast_signed()).ok()?;
                self.depth = match one.memory_base() {
                    Register::RSP => Some(self.depth? - by),
                    Register::RBP => Some(self.frame? - by),
                    _ => return None,
                };
            }
            Mnemonic::Leave => {
                self.depth = Some(self.frame? - WORD);
                (self.rbp, self.frame) = (None, None);
            }
            _ if moves(Register::RSP, Register::RBP) && self.rbp.is_some() => {
                self.frame = self.depth;
            }
            _ if moves(Register::RBP, Register::RSP) => self.depth = Some(self.frame?),
            // `xor %ebp, %ebp`, as the psABI asks of the outermost frame.
            Mnemonic::Xor
                if self.rbp.is_none()
                    && first.full_register() == Register::RBP
                    && one.op1_kind() == OpKind::Register
                    && one.op1_register() == first =>
            {
                self.outermost = true;
            }
            _ => {
                let written = |register: Register| {
                    factory.info(one).used_registers().iter().any(|used| {
                        used.register().full_register() == register
                            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead)
                    })
                };
                let mut written = written;
                if written(Register::RSP) || self.rbx.is_none() && written(Register::RBX) {
                    return None;
                }
                if written(Register::RBP) {
                    self.rbp?;
                    self.frame = None;
                }
            }
        }
        // Neither register finds the frame any more.
        (self.outermost || self.depth.is_some() || self.frame.is_some()).then_some(self)
    }
}

/// The rules of the function whose code is `code`, at `start`: each from its address on, `None` where nothing is known.
/// Empty if its code cannot be followed.
pub(super) fn rules(code: &[u8], start: u64) -> Vec<(u64, Option<Meaning>)> {
    follow(code, start).unwrap_or_default()
}

fn follow(code: &[u8], start: u64) -> Option<Vec<(u64, Option<Meaning>)>> {
    let end = start.saturating_add(code.len() as u64);
    let mut factory = InstructionInfoFactory::new();
    // State and end of each instruction.
    let mut known: BTreeMap<u64, (State, u64)> = BTreeMap::new();
    let mut open = vec![(start, State::ENTRY)];
    while let Some((mut at, mut state)) = open.pop() {
        while (start..end).contains(&at) {
            if let Some((before, _)) = known.get(&at) {
                if *before != state {
                    return None;
                }
                break;
            }
            let bytes = code.get(usize::try_from(at - start).ok()?..)?;
            let one = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            if one.is_invalid() {
                // What follows a call that never returns.
                break;
            }
            known.insert(at, (state, one.next_ip()));
            match one.flow_control() {
                FlowControl::Return | FlowControl::Exception | FlowControl::IndirectBranch => break,
                FlowControl::UnconditionalBranch => {
                    open.push((one.near_branch_target(), state));
                    break;
                }
                FlowControl::ConditionalBranch => open.push((one.near_branch_target(), state)),
                FlowControl::Next if one.mnemonic() == Mnemonic::Hlt => break,
                _ => state = state.after(&one, &mut factory)?,
            }
            at = one.next_ip();
        }
    }
    let mut rules = Vec::new();
    let mut covered = start;
    for (at, (state, next)) in known {
        if at > covered {
            rules.push((covered, None));
        }
        rules.push((at, state.meaning()));
        covered = next;
    }
    rules.push((covered, None));
    Some(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(base: u8, offset: i32, rbp: Option<i32>, rbx: Option<i32>) -> Option<Meaning> {
        let depth = (base == BASE_STACK).then_some(offset);
        let frame = (base == BASE_FRAME).then_some(offset);
        State { depth, frame, rbp, rbx, outermost: false }.meaning()
    }

    /// The rule at an offset.
    fn at(rules: &[(u64, Option<Meaning>)], offset: u64) -> Option<Meaning> {
        rules.iter().rev().find(|(from, _)| *from <= 0x1000 + offset).and_then(|(_, rule)| *rule)
    }

    #[test]
    fn pushes_and_pops_move_the_frame_address() {
        // push rbp; mov rbp, rdi; push rbx; sub rsp, 8; call +0; add rsp, 8; pop rbx; pop rbp; ret
        let code = [
            0x55, 0x48, 0x89, 0xfd, 0x53, 0x48, 0x83, 0xec, 8, 0xe8, 0, 0, 0, 0, 0x48, 0x83, 0xc4,
            8, 0x5b, 0x5d, 0xc3,
        ];
        let rules = rules(&code, 0x1000);
        for (offset, expected) in [
            (0, rule(BASE_STACK, 8, None, None)),
            (1, rule(BASE_STACK, 16, Some(-16), None)),
            (5, rule(BASE_STACK, 24, Some(-16), Some(-24))),
            (14, rule(BASE_STACK, 32, Some(-16), Some(-24))),
            (19, rule(BASE_STACK, 16, Some(-16), None)),
            (20, rule(BASE_STACK, 8, None, None)),
            (21, None),
        ] {
            assert_eq!(at(&rules, offset), expected, "{offset}");
        }
    }

    #[test]
    fn a_frame_pointer_finds_the_frame_of_an_aligned_stack() {
        // push rbp; mov rbp, rsp; and rsp, -32; nop; leave; ret
        let code = [0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xe4, 0xe0, 0x90, 0xc9, 0xc3];
        let rules = rules(&code, 0x1000);
        assert_eq!(at(&rules, 8), rule(BASE_FRAME, 16, Some(-16), None));
        assert_eq!(at(&rules, 10), rule(BASE_STACK, 8, None, None));
    }

    #[test]
    fn both_sides_of_a_branch_have_rules_and_code_behind_the_end_has_none() {
        // test edi, edi; je +2; push rax; ret (wrong depth, but no join); xor eax, eax; ret; int3
        let code = [0x85, 0xff, 0x74, 0x02, 0x50, 0xc3, 0x31, 0xc0, 0xc3, 0xcc];
        let rules = rules(&code, 0x1000);
        assert_eq!(at(&rules, 5), rule(BASE_STACK, 16, None, None));
        assert_eq!(at(&rules, 6), rule(BASE_STACK, 8, None, None));
        assert_eq!(at(&rules, 9), None);
    }

    #[test]
    fn a_thread_begins_where_the_frame_pointer_is_cleared() {
        // xor ebp, ebp; pop rdi; call *r9; hlt
        let code = [0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0xf4];
        assert_eq!(at(&rules(&code, 0x1000), 6), Some(Meaning::Bottom));
    }

    #[test]
    fn what_cannot_be_followed_has_no_rules() {
        for code in [
            // mov rsp, rdi; ret
            &[0x48, 0x89, 0xfc, 0xc3][..],
            // mov ebx, edi; ret: the caller's rbx is lost
            &[0x89, 0xfb, 0xc3],
            // test edi, edi; je +1; push rax; ret: two depths at the return
            &[0x85, 0xff, 0x74, 0x01, 0x50, 0xc3],
            // and rsp, -16 without a frame pointer
            &[0x48, 0x83, 0xe4, 0xf0, 0xc3],
        ] {
            assert!(rules(code, 0x1000).is_empty(), "{code:x?}");
        }
    }
}
