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

/// The same value, of which the compiler knows nothing: keeps the compiler from making
/// a branch of it.
#[inline(always)]
fn opaque(value: u64) -> u64 {
    // SAFETY: reads the local that the parameter is.
    unsafe { (&raw const value).read_volatile() }
}

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
        // 1 when `start` is above the address. (A mask of all ones would make newer verifiers follow
        // both of its values.)
        let above = opaque(address.wrapping_sub(start) >> 63) as usize;
        base += step * (above ^ 1);
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
    thread.stack.frames[0] = caller;
    thread.digest = Digest::seeded(call.pid(), call.cookie.probe()).with(caller);
    thread.stack.head.depth = 1;
    thread.stack.head.end = StackEnd::FramePointerLost as u32;
    let process = call.process().unwrap_or(core::ptr::null());
    walk(thread, process, call.frame_pointer(), call.stack_pointer());
    // SAFETY: values are numbers that never change once written.
    if let Some(number) = unsafe { SITES.get(thread.digest) } {
        return *number;
    }
    announce(context, call, thread)
}

/// Follows frame pointers from `frame_pointer`, which must lie above `below`.
///
/// A function of its own, with its results in the thread's memory: the verifier then checks what
/// comes after it once, and not anew for each number of frames and each end.
#[inline(never)]
fn walk(thread: *mut Thread, process: *const Process, mut frame_pointer: u64, mut below: u64) {
    if thread.is_null() || process.is_null() {
        return;
    }
    // SAFETY: both are values of maps, checked by the caller; the thread's is this thread's own.
    let (thread, process) = unsafe { (&mut *thread, &*process) };
    let mut digest = thread.digest;
    let mut depth = 1_u32;
    let mut end = StackEnd::TooDeep;
    for place in thread.stack.frames.iter_mut().skip(1) {
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
    thread.digest = digest.with(end as u64);
    thread.stack.head.depth = depth;
    thread.stack.head.end = end as u32;
}

/// Gives a stack seen for the first time a number and tells the collector.
#[inline(always)]
fn announce(context: &impl aya_ebpf::EbpfContext, call: &Call, thread: &mut Thread) -> u32 {
    let Ok(Some(number)) = FREE_SITES.pop() else {
        lose(Loss::SitesFull);
        return 0;
    };
    let StackHead { depth, end, .. } = thread.stack.head;
    thread.stack.head = StackHead {
        record: STACK,
        site: number,
        pid: call.pid(),
        probe: u32::from(call.cookie.probe()),
        depth,
        end,
    };
    let bytes = (size_of::<StackHead>() + (depth as usize & STACK_DEPTH) * 8) as u64;
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
    if SITES.insert(thread.digest, number, u64::from(BPF_NOEXIST)).is_ok() {
        debug!(context, "site {}: {} frames, end {}", number, depth, end);
        return number;
    }
    // Another CPU was first with the same stack: its number stands, ours names a stack without
    // resources. (Numbers are not short: the collector would have to be told to give it back.)
    // SAFETY: as above.
    match unsafe { SITES.get(thread.digest) } {
        Some(number) => *number,
        None => {
            lose(Loss::SitesFull);
            0
        }
    }
}
