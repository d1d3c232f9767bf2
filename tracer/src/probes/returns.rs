//! Finds every exit of a function, to read its outcome without a return probe.
//!
//! Takes a function, passes on the places of all return instructions that may end a call of it, or why it cannot find
//! all of them: missing some outcomes would make the figures wrong.
//!
//! A function may also end with a jump to another one, which then returns to the caller in its place (a tail call):
//! that one's return instructions count too. Calls from elsewhere may hit them; the BPF programs recognize these by the
//! position of the return address.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::object::{Body, Functions, RETURN_FIRST_ARGUMENT, Target};
use crate::arch::{Architecture as _, Destination, Flow, Host, Instruction};

/// Limit of code pieces to follow: real functions have far fewer.
const PIECES: usize = 64;
/// Limit of return instructions to probe: attaching each probe takes time.
const RETURNS: usize = 128;
/// Limit of instructions to decode of a function whose extent is unknown: it bounds time, not the size of functions.
const INSTRUCTIONS: usize = 20_000;

/// An instruction that ends a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct End {
    /// Its offset in the file.
    pub offset: u64,
    /// Whether the outcome is the first argument of the function that it jumps to, and not the return value here.
    pub first_argument: bool,
}

/// The exits of one piece of code.
#[derive(Debug, Default, PartialEq, Eq)]
struct Exits {
    /// Addresses of its return instructions.
    returns: Vec<u64>,
    /// Its jumps to other code.
    jumps: Vec<Jump>,
}

/// A jump out of a piece of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Jump {
    /// Its address.
    at: u64,
    to: Destination,
    conditional: bool,
}

/// All instructions that end a call of the function at `address`. `seen` says whether a function of another object has
/// a probe of its own that sees its outcome.
pub(super) fn of(
    all: &Functions<'_>,
    address: u64,
    seen: impl Fn(&str) -> bool,
) -> Result<Vec<End>, String> {
    let mut ends = BTreeSet::new();
    let mut known = BTreeSet::new();
    let mut left = vec![address];
    let mut passes_on = false;
    while let Some(address) = left.pop() {
        let (piece, exits) = if let Some(piece) = all.whole(address) {
            (piece, exits(piece.code, piece.address)?)
        } else {
            // Its extent is unknown: follows its jumps instead.
            let piece = all.rest(address).ok_or_else(not_in_the_file)?;
            (piece, reached(&piece, |to| all.is_stub(to))?)
        };
        if !known.insert(piece.address) {
            continue;
        }
        let end = |at: u64, first_argument| End {
            offset: piece.offset + (at - piece.address),
            first_argument,
        };
        ends.extend(exits.returns.iter().map(|at| end(*at, false)));
        for jump in exits.jumps {
            let target = match jump.to {
                Destination::Address(to) => Some(all.through_stub(to)),
                Destination::Slot(slot) => all.through_slot(slot),
            };
            match target {
                Some(Target::Code(to)) => left.push(to),
                Some(Target::Import(name))
                    if RETURN_FIRST_ARGUMENT.contains(&name) && !jump.conditional =>
                {
                    ends.insert(end(jump.at, true));
                }
                Some(Target::Import(name)) => match all.own(name) {
                    Some(to) => left.push(to),
                    None if seen(name) => passes_on = true,
                    None => {
                        return Err(format!(
                            "it ends in `{name}`, which is found at run time only"
                        ));
                    }
                },
                None => return Err(format!("where its jump at {:#x} leads is not known", jump.at)),
            }
        }
        if known.len() > PIECES || ends.len() > RETURNS {
            return Err("it has too many ways out".to_owned());
        }
    }
    if ends.is_empty() && !passes_on {
        return Err("it never returns".to_owned());
    }
    Ok(ends.into_iter().collect())
}

fn not_in_the_file() -> String {
    "its code is not in the file".to_owned()
}

/// The exits of all code that is reachable from the beginning of `piece`, which may extend beyond the function. After a
/// call that never returns, this finds more than the function's own exits, which is harmless.
fn reached(piece: &Body<'_>, is_stub: impl Fn(u64) -> bool) -> Result<Exits, String> {
    let mut exits = Exits::default();
    let mut left = vec![piece.address];
    let mut starts = BTreeSet::new();
    let end = piece.address + piece.code.len() as u64;
    while let Some(from) = left.pop() {
        let within = from.checked_sub(piece.address).and_then(|at| usize::try_from(at).ok());
        // Code before the piece is a piece of its own.
        let Some(code) = within.and_then(|at| piece.code.get(at..)).filter(|_| from < end) else {
            return Err(format!("its code at {from:#x} is not found"));
        };
        for instruction in Host::decode(code, from) {
            if !starts.insert(instruction.address) {
                break;
            }
            if starts.len() > INSTRUCTIONS {
                return Err("it is too long".to_owned());
            }
            match step(&instruction)? {
                Step::On => continue,
                Step::Stop => {}
                Step::Return => exits.returns.push(instruction.address),
                Step::Jump(jump) => {
                    match jump.to {
                        Destination::Address(to) if to >= piece.address && !is_stub(to) => {
                            left.push(to);
                        }
                        _ => exits.jumps.push(jump),
                    }
                    if jump.conditional {
                        continue;
                    }
                }
            }
            break;
        }
    }
    Ok(exits)
}

/// How control flow continues after an instruction.
enum Step {
    /// At the next instruction.
    On,
    /// It does not continue.
    Stop,
    Return,
    Jump(Jump),
}

fn step(instruction: &Instruction) -> Result<Step, String> {
    let at = instruction.address;
    Ok(match instruction.flow {
        Flow::Next | Flow::Call(_) => Step::On,
        Flow::Stop => Step::Stop,
        Flow::Return => Step::Return,
        Flow::Jump { to, conditional } => Step::Jump(Jump { at, to, conditional }),
        Flow::Unknown(why) => return Err(format!("{why} at {at:#x}")),
    })
}

/// The exits of the code at `address`.
fn exits(code: &[u8], address: u64) -> Result<Exits, String> {
    let end = address + code.len() as u64;
    let mut exits = Exits::default();
    let mut starts = BTreeSet::new();
    let mut within = BTreeSet::new();
    let mut last = None;
    for instruction in Host::decode(code, address) {
        starts.insert(instruction.address);
        match step(&instruction)? {
            Step::On | Step::Stop => {}
            Step::Return => exits.returns.push(instruction.address),
            Step::Jump(jump) => match jump.to {
                Destination::Address(to) if (address..end).contains(&to) => _ = within.insert(to),
                _ => exits.jumps.push(jump),
            },
        }
        if !instruction.is_padding {
            last = Some(instruction);
        }
    }
    // There is data between instructions, or the decoder is out of step: a probe there would damage the code.
    if let Some(to) = within.difference(&starts).next() {
        return Err(format!("it jumps into the middle of an instruction, at {to:#x}"));
    }
    match last {
        None => Err(not_in_the_file()),
        Some(last) if last.may_be_last => Ok(exits),
        Some(_) => Err("it goes on in what follows it".to_owned()),
    }
}

#[cfg(target_arch = "x86_64")]
#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: &[u8], returns: &[u64], jumps: &[(u64, u64, bool)]) {
        let exits = exits(code, 0x1000).unwrap();
        assert_eq!(exits.returns, returns);
        let found = exits.jumps.iter().map(|jump| match jump.to {
            Destination::Address(to) => (jump.at, to, jump.conditional),
            Destination::Slot(_) => panic!("{jump:?}"),
        });
        assert_eq!(found.collect::<Vec<_>>(), jumps);
    }

    #[track_caller]
    fn refused(code: &[u8], why: &str) {
        let error = exits(code, 0x1000).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn every_form_of_a_return_is_found() {
        // test rdi, rdi; je +1; ret; ret 8; rep ret; bnd ret
        let code = [0x48, 0x85, 0xff, 0x74, 0x01, 0xc3, 0xc2, 8, 0, 0xf3, 0xc3, 0xf2, 0xc3];
        check(&code, &[0x1005, 0x1006, 0x1009, 0x100b], &[]);
    }

    #[test]
    fn jumps_out_are_distinguished_from_jumps_within() {
        // je to the ret; jne 0x2000; ret; jmp 0x1200; nop
        let code = [0x74, 0x06, 0x0f, 0x85, 0xf8, 0x0f, 0, 0, 0xc3, 0xe9, 0xf2, 0x01, 0, 0, 0x90];
        check(&code, &[0x1008], &[(0x1002, 0x2000, true), (0x1009, 0x1200, false)]);
    }

    #[test]
    fn a_jump_through_a_slot_is_kept_and_one_through_a_register_is_refused() {
        // jmp [rip+0x10]
        let through = exits(&[0xff, 0x25, 0x10, 0, 0, 0], 0x1000).unwrap();
        let jump = Jump { at: 0x1000, to: Destination::Slot(0x1016), conditional: false };
        assert_eq!(through.jumps, [jump]);
        refused(&[0xff, 0xe0], "an indirect jump at 0x1000");
        refused(&[0x3e, 0xff, 0xe0, 0xc3], "an indirect jump");
        // jmp [rax+8]
        refused(&[0xff, 0x60, 0x08], "an indirect jump");
    }

    #[test]
    fn a_call_that_never_returns_may_be_the_last() {
        // ret; call; and padding
        check(&[0xc3, 0xe8, 0, 0, 0, 0, 0x0f, 0x1f, 0x00], &[0x1000], &[]);
        check(&[0xc3, 0x0f, 0x0b], &[0x1000], &[]);
    }

    #[test]
    fn without_an_extent_all_reachable_code_is_followed() {
        // je +2; jmp +3 (to the last ret); ud2; ret; pop: unreachable; ret; jmp stub
        let code = [0x74, 0x06, 0xeb, 0x04, 0x0f, 0x0b, 0xc3, 0x5d, 0xc3, 0xe9, 0xf2, 0, 0, 0];
        let piece = Body { address: 0x1000, offset: 0, code: &code };
        let exits = reached(&piece, |to| to == 0x1100).unwrap();
        assert_eq!(exits.returns, [0x1008]);
        assert_eq!(exits.jumps, []);
        let piece = Body { address: 0x1009, offset: 9, code: &code[9..] };
        let exits = reached(&piece, |to| to == 0x1100).unwrap();
        let jump = Jump { at: 0x1009, to: Destination::Address(0x1100), conditional: false };
        assert_eq!((exits.returns.len(), exits.jumps.as_slice()), (0, &[jump][..]));
        assert!(reached(&piece, |_| false).unwrap_err().contains("is not found"));
    }

    #[test]
    fn undecidable_code_is_refused() {
        refused(&[], "not in the file");
        refused(&[0xc3, 0x06], "cannot be decoded at 0x1001");
        // Truncated in the middle of an instruction.
        refused(&[0xc3, 0x48, 0x85], "cannot be decoded at 0x1001");
        // mov eax, edi without an end; je without one
        refused(&[0x89, 0xf8], "goes on");
        refused(&[0x74, 0xfe], "goes on");
        // jmp into the immediate of the mov
        refused(&[0xeb, 0x01, 0xb8, 0, 0, 0, 0, 0xc3], "middle of an instruction, at 0x1003");
        refused(&[0xcb], "far return");
    }
}

#[cfg(target_arch = "x86_64")]
#[cfg(test)]
#[path = "returns_tests.rs"]
mod in_objects;
