//! Applies an unwind rule: from a frame to its caller.
//!
//! In code without a table the unwinder follows the frame pointer, and checks it as far as possible: the next frame
//! must lie above, and its return address in executable memory. `stack/unwind.rs` finds the rules, and reads the stack.

use tracer_common::{
    arch::{
        FrameRegisters, Rule,
        x86_64::{
            BASE_FRAME, BASE_RBX, SAVED_AT_FRAME_ADDRESS, SAVED_AT_FRAME_POINTER, USES_RBP,
            USES_RBX, signal,
        },
    },
    stack::{StackEnd, plausible_frame},
    state::Walk,
    unwind::{RULE_GAP, RULE_PLT, RuleNumber},
};

use super::RETURN_ADDRESS;

/// Moves `walk` to the caller, by the rule of its code, which has this number. `stack_word` reads a word of the stack;
/// `is_code` says whether an address is in executable memory.
#[inline(always)]
pub(crate) fn to_caller(
    walk: &mut Walk,
    number: RuleNumber,
    rule: &Rule,
    stack_word: impl Fn(&mut Walk, u64) -> Option<u64>,
    is_code: impl FnOnce(u64) -> bool,
) -> Result<(), StackEnd> {
    let mut base = walk.stack_pointer;
    if rule.base == BASE_FRAME || rule.rbp == SAVED_AT_FRAME_POINTER {
        if walk.saved_at.rbp != 0 {
            walk.registers.rbp = stack_word(walk, walk.saved_at.rbp).ok_or(StackEnd::Unreadable)?;
            walk.saved_at.rbp = 0;
            walk.untouched &= !USES_RBP;
        }
        walk.trail.uses |= walk.untouched & USES_RBP;
        if rule.base == BASE_FRAME {
            base = walk.registers.rbp;
        }
    } else if rule.base == BASE_RBX {
        if walk.saved_at.rbx != 0 {
            walk.registers.rbx = stack_word(walk, walk.saved_at.rbx).ok_or(StackEnd::Unreadable)?;
            walk.saved_at.rbx = 0;
            walk.untouched &= !USES_RBX;
        }
        walk.trail.uses |= walk.untouched & USES_RBX;
        base = walk.registers.rbx;
    }
    if number == RULE_GAP {
        if !plausible_frame(walk.stack_pointer.wrapping_sub(RETURN_ADDRESS), base) {
            return Err(StackEnd::FramePointerLost);
        }
    }
    let mut frame_address = base.wrapping_add(i64::from(rule.offset) as u64);
    if number == RULE_PLT && (walk.address & 15) >= 11 {
        frame_address += 8;
    }
    if rule.deref != 0 {
        let word = stack_word(walk, frame_address).ok_or(StackEnd::Unreadable)?;
        frame_address = word.wrapping_add(i64::from(rule.add) as u64);
    }
    // The return address lies at the stack pointer or above it.
    if frame_address <= walk.stack_pointer {
        return Err(StackEnd::NotClimbing);
    }
    let slot = frame_address.wrapping_sub(RETURN_ADDRESS);
    let address = stack_word(walk, slot).ok_or(StackEnd::Unreadable)?;
    // No proof of the outermost frame: an outdated table on new code finds zeros, too.
    if address == 0 {
        return Err(StackEnd::Elsewhere);
    }
    if number == RULE_GAP && !is_code(address) {
        return Err(StackEnd::FramePointerLost);
    }
    if rule.rbx == SAVED_AT_FRAME_ADDRESS {
        walk.saved_at.rbx = frame_address.wrapping_add(i64::from(rule.rbx_offset) as u64);
    } else if rule.rbx == SAVED_AT_FRAME_POINTER {
        walk.saved_at.rbx = walk.registers.rbp.wrapping_add(i64::from(rule.rbx_offset) as u64);
    }
    if rule.rbp == SAVED_AT_FRAME_ADDRESS {
        walk.saved_at.rbp = frame_address.wrapping_add(i64::from(rule.rbp_offset) as u64);
    } else if rule.rbp == SAVED_AT_FRAME_POINTER {
        walk.saved_at.rbp = walk.registers.rbp.wrapping_add(i64::from(rule.rbp_offset) as u64);
    }
    walk.address = address;
    walk.back = 1;
    walk.stack_pointer = frame_address;
    Ok(())
}

/// Moves `walk` from a signal frame to the interrupted code.
#[inline(always)]
pub(crate) fn to_interrupted(
    walk: &mut Walk,
    stack_word: impl Fn(&mut Walk, u64) -> Option<u64>,
) -> Result<(), StackEnd> {
    let saved = walk.stack_pointer;
    let mut read =
        |offset: u64| stack_word(walk, saved.wrapping_add(offset)).ok_or(StackEnd::Unreadable);
    let (address, stack_pointer) = (read(signal::RIP)?, read(signal::RSP)?);
    walk.address = address;
    walk.back = 0;
    walk.stack_pointer = stack_pointer;
    walk.saved_at = FrameRegisters {
        rbp: saved.wrapping_add(signal::RBP),
        rbx: saved.wrapping_add(signal::RBX),
    };
    Ok(())
}
