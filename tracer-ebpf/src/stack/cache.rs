//! Looks up and stores walks in the stack cache, see `tracer_common::stack_cache`.

use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_probe_read_user};
use tracer_common::{
    arch::{FrameRegisters, USES_REGISTERS},
    stack::{Digest, StackEnd},
    stack_cache::{
        self, CachedWalk, ELSEWHERE, REACH_WORDS, WALK_WORDS, WAYS, end, mark, place, read, set,
    },
    state::{STACK_COPY_WORDS, StackCopy, Walk},
};

use crate::{
    call::{Call, read_word},
    maps::{STACK_CACHE, STACK_COPY},
};

/// Initializes the cache lookup of a walk whose registers are set: from its first frame `first`, the memory map's
/// `state`, and the digest of the return addresses that constructors' return probes hide (`hidden_returns::chain_of`).
#[inline(always)]
pub(crate) fn begin(
    walk: &mut Walk,
    call: &Call,
    first: u64,
    (number, state): (u32, u32),
    chain: u64,
) {
    let (generation, walks) = (state & 0xff, state >> 8);
    walk.begin = walk.stack_pointer;
    walk.generation = generation;
    walk.cacheable = u32::from(walks != 0 && generation != 0);
    let owner = stack_cache::walk_owner(call.pid(), call.probe_and_detail(), number, generation);
    let mut proof = stack_cache::begin(owner, first, walk.stack_pointer);
    if chain != 0 {
        proof = proof.with(chain);
    }
    walk.trail.proof = proof;
    walk.set = set(proof);
}

/// Clears the trail before a walk.
#[inline(always)]
pub(crate) fn reset_trail(walk: &mut Walk) {
    walk.untouched = USES_REGISTERS;
    walk.trail.site = 0;
    walk.trail.count = 0;
    walk.trail.uses = 0;
    walk.trail.reach = 0;
}

/// Invalidates the copy of the stack: the walk does not begin at a call, so [`caller`] has not copied it.
#[inline(always)]
pub(crate) fn invalidate_copy() {
    if let Some(copied) = STACK_COPY.get_ptr_mut(0) {
        // SAFETY: a live value of this CPU's.
        unsafe { (&raw mut (*copied).owner).write_volatile(0) };
    }
}

/// The call site of a cached walk with the same beginning and the same stack; else 0.
#[inline(always)]
pub(crate) fn lookup(walk: &Walk, thread: u64) -> u32 {
    if walk.cacheable == 0 { 0 } else { find(walk, thread) }
}

/// The return address of a call that is entered; also copies the words above its slot, for [`lookup`].
#[inline(always)]
pub(crate) fn caller(call: &Call) -> Option<u64> {
    Some(call.return_address(slot_word(call.slot(), call.id)?))
}

#[inline(always)]
fn slot_word(slot: u64, thread: u64) -> Option<u64> {
    let copied = STACK_COPY.get_ptr_mut(0)?;
    // SAFETY: a live value of this CPU's, longer than what is copied; the helper checks the target's
    // address. A program that preempts this one writes there, too, and leaves its thread's id.
    unsafe {
        (&raw mut (*copied).owner).write_volatile(thread);
        let outcome = bpf_probe_read_user(
            (&raw mut (*copied).caller).cast(),
            8 * STACK_COPY_WORDS as u32,
            slot as *const core::ffi::c_void,
        );
        let caller = (&raw const (*copied).caller).read_volatile();
        if outcome == 0 && (&raw const (*copied).owner).read_volatile() == thread {
            return Some(caller);
        }
        // Too close to the stack's end.
        (&raw mut (*copied).owner).write_volatile(0);
    }
    read_word(slot)
}

/// The call site of the cached walk whose words are on the stack now; 0 without one.
#[inline(never)]
fn find(walk: *const Walk, thread: u64) -> u32 {
    if walk.is_null() {
        return 0;
    }
    // SAFETY: part of this thread's own map value, checked by the caller.
    let walk = unsafe { &*walk };
    let Some(copied) = STACK_COPY.get_ptr_mut(0) else { return 0 };
    // SAFETY: a live value of this CPU's.
    let owner = unsafe { (&raw const (*copied).owner).read_volatile() };
    let mut copied_words = STACK_COPY_WORDS as u32 - 1;
    if owner != thread {
        copied_words = 0;
        // SAFETY: as above.
        unsafe { (&raw mut (*copied).owner).write_volatile(thread) };
    }
    for way in 0..WAYS {
        let Some(entry) = STACK_CACHE.get_ptr(walk.set + way) else { return 0 };
        // SAFETY: a live value of the array, copied word by word at once: another CPU may be writing.
        let (site, count, uses, reach, proof) = unsafe {
            (
                (&raw const (*entry).site).read_volatile(),
                (&raw const (*entry).count).read_volatile(),
                (&raw const (*entry).uses).read_volatile(),
                (&raw const (*entry).reach).read_volatile(),
                (&raw const (*entry).proof).read_volatile(),
            )
        };
        // The ways fill up in order.
        if site == 0 {
            return 0;
        }
        if reach > copied_words {
            if copy(copied, walk.begin, reach) != 0 {
                // Beyond the end of this stack.
                continue;
            }
            copied_words = reach;
        }
        let mut found = walk.trail.proof;
        if compare(entry, copied, &raw mut found, count) == 0 {
            continue;
        }
        // SAFETY: as above.
        let owner = unsafe { (&raw const (*copied).owner).read_volatile() };
        if end(found, uses, walk.registers, site, count) == proof && owner == thread {
            return site;
        }
    }
    0
}

/// Copies the first words above the return address. Returns 0 when they could be read.
#[inline(never)]
fn copy(copied: *mut StackCopy, from: u64, words: u32) -> i64 {
    if copied.is_null() {
        return 1;
    }
    let bytes = (words.wrapping_sub(1) & (REACH_WORDS as u32 - 1)) * 8 + 8;
    // SAFETY: at most the array's length; the helper checks the target's address.
    unsafe {
        bpf_probe_read_user(
            (&raw mut (*copied).words).cast(),
            bytes,
            from as *const core::ffi::c_void,
        )
    }
}

/// Whether the copied words match the entry; continues the digest with them.
#[inline(never)]
fn compare(
    entry: *const CachedWalk,
    copied: *const StackCopy,
    proof: *mut Digest,
    count: u32,
) -> u32 {
    if entry.is_null() || copied.is_null() || proof.is_null() {
        return 0;
    }
    // SAFETY: values of maps and a local of the caller's, checked.
    let (words, marks, proof) = unsafe { (&(*copied).words, &(*entry).words, &mut *proof) };
    let mut digest = *proof;
    for at in 0..WALK_WORDS {
        if at as u32 >= count {
            break;
        }
        // SAFETY: below the array's length, which `at` is a constant of.
        let wanted = unsafe { (&raw const marks[at]).read_volatile() };
        let place = place(wanted);
        // SAFETY: masked to the array's length.
        let word = unsafe { words.as_ptr().add(place).read_volatile() };
        if mark(place as u32, word) != wanted {
            return 0;
        }
        digest = read(digest, place as u32, word);
    }
    *proof = digest;
    1
}

/// Records that the walk has read `word` at `address`.
#[inline(always)]
pub(crate) fn record_read(walk: &mut Walk, address: u64, word: u64) {
    let offset = address.wrapping_sub(walk.begin);
    let trail = &mut walk.trail;
    let at = trail.count as usize;
    if offset >= 8 * REACH_WORDS as u64 || offset & 7 != 0 || at >= WALK_WORDS {
        trail.uses |= ELSEWHERE;
        return;
    }
    let place = (offset / 8) as u32;
    trail.proof = read(trail.proof, place, word);
    // SAFETY: masked to the array's length, a power of two.
    unsafe { *trail.words.get_unchecked_mut(at & (WALK_WORDS - 1)) = mark(place, word) };
    trail.count = at as u32 + 1;
    if place >= trail.reach {
        trail.reach = place + 1;
    }
}

/// Stores the finished walk with its call site. `initial` are the registers at its beginning.
#[inline(always)]
pub(crate) fn insert(walk: &mut Walk, stack_end: u32, site: u32, initial: FrameRegisters) {
    let is_cacheable = walk.cacheable != 0;
    let trail = &mut walk.trail;
    // Any other end may differ next time, with the same words on the stack.
    let is_final = matches!(
        StackEnd::from_number(stack_end as u8),
        StackEnd::Bottom
            | StackEnd::FramePointerLost
            | StackEnd::TooDeep
            | StackEnd::RuleUnknown
            | StackEnd::NotClimbing
    );
    if site == 0 || !is_final || trail.uses & ELSEWHERE != 0 || !is_cacheable {
        return;
    }
    trail.site = site;
    trail.proof = end(trail.proof, trail.uses, initial, site, trail.count);
    // SAFETY: a helper without preconditions.
    let mut way = unsafe { bpf_get_prandom_u32() } & (WAYS - 1);
    for free in 0..WAYS {
        if STACK_CACHE.get(walk.set + free).is_some_and(|entry| entry.site == 0) {
            way = free;
            break;
        }
    }
    _ = STACK_CACHE.set(walk.set + way, &walk.trail, 0);
}
