//! The stack of a call, and the number of its call site.
//!
//! The innermost frame is the return address at entry, which is always right. From there frame
//! pointers are followed, as long as they climb and lead to executable memory of the target: without
//! that check, code that uses `rbp` for something else would invent frames (and call sites).

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_probe_read_user, generated::bpf_ringbuf_output},
};
use aya_log_ebpf::debug;
use tracer_common::{
    limits::{EXECUTABLE_RANGES, STACK_DEPTH},
    loss::Loss,
    record::{STACK, StackHead},
    stack::{Digest, StackEnd, plausible_frame},
    state::{Process, Thread},
};

use crate::{
    call::Call,
    loss::lose,
    maps::{FREE_SITES, RECORDS, SITES},
};

/// Whether `address` is in executable memory. Binary search without branches: the verifier would
/// follow both sides of each of them, for every frame.
#[inline(always)]
fn is_code(process: &Process, address: u64) -> bool {
    let mut base = 0_usize;
    let mut step = EXECUTABLE_RANGES / 2;
    while step > 0 {
        let middle = (base + step) & (EXECUTABLE_RANGES - 1);
        // SAFETY: masked to the array's length, a power of two.
        let start = unsafe { process.code.get_unchecked(middle) }.start;
        // All ones when `start` is above the address.
        let above = (address.wrapping_sub(start) as i64 >> 63) as usize;
        base += step & !above;
        step /= 2;
    }
    // SAFETY: as above.
    let range = unsafe { process.code.get_unchecked(base & (EXECUTABLE_RANGES - 1)) };
    address >= range.start && address < range.end
}

/// Takes the stack of `call` into `thread` and returns the number of its call site, 0 when it
/// cannot have one (counted).
#[inline(always)]
pub(crate) fn site(
    context: &impl aya_ebpf::EbpfContext,
    call: &Call,
    thread: &mut Thread,
    caller: u64,
) -> u32 {
    // SAFETY: the map's value lives at least as long as the program runs.
    let process = unsafe { &*call.process };
    let frames = &mut thread.stack.frames;
    frames[0] = caller;
    let mut digest = Digest::seeded(call.pid(), call.cookie.probe()).with(caller);
    let mut depth = 1_usize;
    let mut frame_pointer = call.frame_pointer();
    let mut below = call.stack_pointer();
    let mut end = StackEnd::TooDeep;
    for place in frames.iter_mut().skip(1) {
        if frame_pointer == 0 {
            end = StackEnd::Bottom;
            break;
        }
        if !plausible_frame(below, frame_pointer) {
            end = StackEnd::FramePointerLost;
            break;
        }
        // SAFETY: the helper checks the address.
        let Ok([next, address]) =
            (unsafe { bpf_probe_read_user(frame_pointer as *const [u64; 2]) })
        else {
            end = StackEnd::FramePointerLost;
            break;
        };
        if !is_code(process, address) {
            end = StackEnd::FramePointerLost;
            break;
        }
        *place = address;
        digest = digest.with(address);
        depth += 1;
        below = frame_pointer;
        frame_pointer = next;
    }
    let digest = digest.with(end as u64);
    // SAFETY: values are numbers that never change once written.
    if let Some(number) = unsafe { SITES.get(digest) } {
        return *number;
    }
    announce(context, call, thread, digest, depth, end)
}

/// Gives a stack seen for the first time a number and tells the collector.
#[inline(always)]
fn announce(
    context: &impl aya_ebpf::EbpfContext,
    call: &Call,
    thread: &mut Thread,
    digest: Digest,
    depth: usize,
    end: StackEnd,
) -> u32 {
    let Ok(Some(number)) = FREE_SITES.pop() else {
        lose(Loss::SitesFull);
        return 0;
    };
    thread.stack.head = StackHead {
        record: STACK,
        site: number,
        pid: call.pid(),
        probe: u32::from(call.cookie.probe()),
        depth: depth as u32,
        end: end as u32,
    };
    let bytes = (size_of::<StackHead>() + (depth & STACK_DEPTH) * 8) as u64;
    // SAFETY: the record starts at `thread.stack`, and `depth` is at most STACK_DEPTH (127, so that
    // the mask above only tells the verifier what is true): the bytes are within the map's value.
    let outcome = unsafe {
        bpf_ringbuf_output(
            (&raw const RECORDS).cast_mut().cast(),
            (&raw mut thread.stack).cast(),
            bytes,
            0,
        )
    };
    if outcome != 0 {
        // The number goes back, and the stack will be tried again at its next call.
        _ = FREE_SITES.push(number, 0);
        lose(Loss::StackDropped);
        return 0;
    }
    if SITES.insert(digest, number, u64::from(BPF_NOEXIST)).is_ok() {
        debug!(context, "site {}: {} frames, end {}", number, depth, end as u32);
        return number;
    }
    // Another CPU was first with the same stack: its number stands, ours names a stack without
    // resources. (Numbers are not short: the collector would have to be told to give it back.)
    // SAFETY: as above.
    match unsafe { SITES.get(digest) } {
        Some(number) => *number,
        None => {
            lose(Loss::SitesFull);
            0
        }
    }
}
