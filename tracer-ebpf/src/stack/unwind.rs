//! Unwinds from a frame to its caller, by the unwind table of its code.
//!
//! The tables come from user space (`tracer/src/unwind/`), which reduces `.eh_frame` to rows and rules.
//! This file finds the rule of an address; `arch/` applies it.
//!
//! Each step is a function whose state lies in the thread's map value: the verifier knows nothing about the
//! values there, so it checks the code after a step once, instead of once per path through it.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use tracer_common::{
    limits::{EXECUTABLE_RANGES, TABLE_LEVELS},
    stack::StackEnd,
    state::{CODE_ALLOCATOR, CODE_LOADING, CodeRange, Process, WINDOW_WORDS, Walk},
    unwind::{
        PAGE_ROWS, Page, RULE_BOTTOM, RULE_GAP, RULE_SIGNAL, RULE_UNKNOWN, RuleNumber, key,
        rule_cache, rule_of,
    },
};

use crate::{
    arch,
    call::read_word,
    maps::{RULE_CACHE, RULES, UNWIND_PAGES},
    stack::cache::record_read,
};

/// Bytes of stack read at once.
const WINDOW_BYTES: u64 = 8 * WINDOW_WORDS as u64;

/// The same value, hidden from the optimizer: keeps the compiler from turning it into a
/// branch.
#[inline(always)]
pub(crate) fn opaque(value: u64) -> u64 {
    // SAFETY: reads a local.
    unsafe { (&raw const value).read_volatile() }
}

/// 1 when `one` is above `other`, for numbers that are less than 2⁶³ apart. Without a branch, since the
/// verifier would follow both sides. (With a mask of all ones instead of the 1, newer verifiers would
/// follow both values; and a compiler that knows the numbers' bounds turns the subtraction into a
/// comparison.)
#[inline(always)]
fn above(one: u64, other: u64) -> u64 {
    opaque(opaque(other).wrapping_sub(one) >> 63)
}

/// The executable range that holds `address`.
#[inline(always)]
fn range_of(process: &Process, address: u64) -> Option<&CodeRange> {
    let mut base = 0_usize;
    let mut step = EXECUTABLE_RANGES / 2;
    while step > 0 {
        let middle = (base + step) & (EXECUTABLE_RANGES - 1);
        // SAFETY: masked to the array's length, a power of two.
        let start = unsafe { process.code.get_unchecked(middle) }.start;
        base += step * (above(start, address) ^ 1) as usize;
        step /= 2;
    }
    // SAFETY: as above.
    let range = unsafe { process.code.get_unchecked(base & (EXECUTABLE_RANGES - 1)) };
    (address >= range.start && address < range.end).then_some(range)
}

/// Whether `address` is in an allocator's code.
#[inline(always)]
pub(crate) fn is_allocator(process: &Process, address: u64) -> bool {
    range_of(process, address).is_some_and(|range| range.flags & CODE_ALLOCATOR != 0)
}

/// Whether `address` may be in an allocator's code: just after an exec no code is known.
#[inline(always)]
pub(crate) fn may_be_allocator(process: &Process, address: u64) -> bool {
    range_of(process, address).is_none_or(|range| range.flags & CODE_ALLOCATOR != 0)
}

/// The rule that applies at an address.
#[inline(never)]
fn rule_at(process: *const Process, address: u64) -> i64 {
    if process.is_null() {
        return -(StackEnd::Unreadable as i64);
    }
    // SAFETY: a value of a map, checked by the caller.
    let process = unsafe { &*process };
    let number = process.number as u8;
    let tag = rule_cache::tag(address, number, process.generation as u8);
    let place = RULE_CACHE.get_ptr_mut(rule_cache::slot(address, number));
    if let Some(place) = place {
        // SAFETY: the array's value; words are read and written at once.
        let word = unsafe { place.read_volatile() };
        if let Some(rule) = rule_cache::rule(word, tag) {
            return i64::from(rule);
        }
    }
    let Some(range) = range_of(process, address) else {
        return -(StackEnd::Elsewhere as i64);
    };
    if range.flags & CODE_LOADING != 0 {
        return -(StackEnd::Loading as i64);
    }
    let rule = search(range, address);
    // Never written with generation 0, and so never found with it.
    if let Some(place) = place
        && process.generation != 0
    {
        // SAFETY: as above.
        unsafe { place.write_volatile(rule_cache::word(tag, rule)) };
    }
    i64::from(rule)
}

/// Searches the table of `range`: down from its root to a page of rows.
#[inline(always)]
fn search(range: &CodeRange, address: u64) -> RuleNumber {
    let wanted = key(address.wrapping_sub(range.origin) as u32);
    let mut page = range.root;
    let mut levels = range.levels;
    for _ in 0..TABLE_LEVELS {
        if levels == 0 {
            break;
        }
        let Some(rows) = UNWIND_PAGES.get(page) else { return RULE_UNKNOWN };
        let row = row_in(rows, wanted);
        if levels == 1 {
            return if row <= wanted { rule_of(row) } else { RULE_GAP };
        }
        page = u32::from(rule_of(row));
        levels -= 1;
    }
    RULE_GAP
}

/// The last row of a page that is not above `wanted`, or its first one.
#[inline(always)]
fn row_in(rows: &Page, wanted: u64) -> u64 {
    let mut base = 0_usize;
    let mut step = PAGE_ROWS / 2;
    while step > 0 {
        // SAFETY: masked to the page's length, a power of two.
        let row = unsafe { *rows.get_unchecked((base + step) & (PAGE_ROWS - 1)) };
        base += step * (above(row >> 1, wanted >> 1) ^ 1) as usize;
        step /= 2;
    }
    // SAFETY: as above.
    unsafe { *rows.get_unchecked(base & (PAGE_ROWS - 1)) }
}

/// Moves `walk` from its frame to the caller. Returns 0, or, when there is no caller, 1 plus the number of the
/// end.
#[inline(never)]
pub(crate) fn step(walk: *mut Walk, process: *const Process) -> u32 {
    if walk.is_null() || process.is_null() {
        return 1 + StackEnd::Unreadable as u32;
    }
    // SAFETY: part of this thread's own map value, checked by the caller.
    let walk = unsafe { &mut *walk };
    match advance(walk, process) {
        Ok(()) => 0,
        Err(end) => 1 + end as u32,
    }
}

#[inline(always)]
fn advance(walk: &mut Walk, process: *const Process) -> Result<(), StackEnd> {
    let number = rule_at(process, walk.address.wrapping_sub(walk.back));
    if number < 0 {
        return Err(StackEnd::from_number((-number) as u8));
    }
    let number = number as RuleNumber;
    if number == RULE_BOTTOM {
        return Err(StackEnd::Bottom);
    }
    if number == RULE_UNKNOWN {
        return Err(StackEnd::RuleUnknown);
    }
    if number == RULE_SIGNAL {
        return arch::to_interrupted(walk, stack_word);
    }
    let rule = RULES.get(u32::from(number)).ok_or(StackEnd::RuleUnknown)?;
    // SAFETY: a value of a map, checked by the caller.
    let is_code = |address| range_of(unsafe { &*process }, address).is_some();
    arch::to_caller(walk, number, rule, stack_word, is_code)
}

/// Index of a word of the target's stack in the window, plus 1; 0 when it cannot be read. Moves the window if needed:
/// to the stack pointer if the word is near it, since a walk's next words lie above.
#[inline(never)]
fn window_word(walk: *mut Walk, address: u64) -> i64 {
    if walk.is_null() {
        return 0;
    }
    // SAFETY: part of this thread's own map value, checked by the caller.
    let walk = unsafe { &mut *walk };
    let mut inside = address.wrapping_sub(walk.window_at);
    if inside > WINDOW_BYTES - 8 || inside & 7 != 0 {
        let below = address.wrapping_sub(walk.stack_pointer);
        let from =
            if below <= WINDOW_BYTES - 8 && below & 7 == 0 { walk.stack_pointer } else { address };
        // SAFETY: the window's length; the helper checks the target's address.
        let outcome = unsafe {
            bpf_probe_read_user(
                (&raw mut walk.window).cast(),
                WINDOW_BYTES as u32,
                from as *const core::ffi::c_void,
            )
        };
        if outcome != 0 {
            // Too close to the stack's end.
            walk.window_at = 1;
            return 0;
        }
        walk.window_at = from;
        inside = address.wrapping_sub(from);
    }
    1 + ((inside / 8) as i64 & (WINDOW_WORDS as i64 - 1))
}

/// A word of the target's stack.
#[inline(always)]
fn stack_word(walk: &mut Walk, address: u64) -> Option<u64> {
    let place = window_word(walk, address);
    let word = if place == 0 {
        read_word(address)?
    } else {
        // SAFETY: masked to the window's length, a power of two.
        unsafe { *walk.window.get_unchecked((place - 1) as usize & (WINDOW_WORDS - 1)) }
    };
    record_read(walk, address, word);
    Some(word)
}
