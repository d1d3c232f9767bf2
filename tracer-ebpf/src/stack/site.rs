//! Unwinds the stack of a call, and finds the number of its call site.
//!
//! The innermost frame is the return address at entry, which is always correct; `unwind` continues from
//! there. Each distinct stack is stored once; a new one is sent to the collector.

use aya_ebpf::{
    EbpfContext, bindings::BPF_NOEXIST, helpers::generated::bpf_ringbuf_output,
    programs::ProbeContext,
};
use aya_log_ebpf::debug;
use tracer_common::{
    arch::FrameRegisters,
    limits::STACK_DEPTH,
    loss::Loss,
    record::{STACK, StackHead},
    stack::{Digest, INTERRUPTED, StackEnd},
    state::{Process, Thread, Walk},
};

use crate::{
    arch,
    call::Call,
    loss::lose,
    maps::{FREE_SITES, RECORDS, SITES, UNWINDER},
    stack::{
        cache,
        hidden_returns::{self, is_hijacked},
        unwind::{self, opaque},
    },
};

/// Frames that one run of the program unwinds: verifiers since 5.10 check these with ease (they
/// give up at 8,192 branches on one path, and a frame has 60).
const FRAMES_AT_ONCE: u32 = 8;
/// The walk needs another run of the program.
const UNFINISHED: u32 = u32::MAX;

/// Makes `call` the current call of `thread`, as soon as its call site is known. Callers do this last:
/// it tail-calls another program, and control does not return. `taken` does the rest of that program's work on a
/// cache hit.
#[inline(always)]
pub(crate) fn take(
    context: &ProbeContext,
    call: &Call,
    thread: &mut Thread,
    taken: impl FnOnce(&Call, &mut Thread, u32),
) {
    begin(call, &caller(call, thread), thread, call.memory_state());
    let site = cache::lookup(&thread.walk, call.id);
    if site != 0 {
        taken(call, thread, site);
        return;
    }
    thread.again = 0;
    start_walk(call, thread);
    // SAFETY: the array holds programs of this type.
    unsafe { UNWINDER.tail_call(context, 0) };
    // The program is missing: leaktrace is shutting down.
    lose(Loss::StackDropped);
}

/// The initial digest of a call's stack.
#[inline(always)]
fn seed(call: &Call) -> Digest {
    Digest::seeded(call.pid(), call.probe_and_detail())
}

/// Where a walk begins.
pub(crate) struct Start {
    /// Address in the innermost frame's function.
    pub(crate) address: u64,
    /// 1 when `address` is a return address.
    pub(crate) back: u64,
    /// Stack pointer there.
    pub(crate) stack_pointer: u64,
}

impl Start {
    /// Where the thread entered the kernel.
    #[inline(always)]
    pub(crate) fn interrupted(call: &Call) -> Self {
        Self { address: call.instruction(), back: 0, stack_pointer: call.stack_pointer() }
    }
}

/// The start of a call's walk: its caller.
#[inline(always)]
pub(crate) fn caller(call: &Call, thread: &Thread) -> Start {
    let stack_pointer = arch::stack_pointer_after_return(call.slot());
    Start { address: thread.caller, back: 1, stack_pointer }
}

/// The current frame of a walk, as stored in a stack.
#[inline(always)]
fn frame(walk: &Walk) -> u64 {
    if walk.back == 0 { walk.address | INTERRUPTED } else { walk.address }
}

/// Initializes a walk for the cache lookup.
#[inline(always)]
pub(crate) fn begin(call: &Call, start: &Start, thread: &mut Thread, state: (u32, u32)) {
    let chain = hidden_returns::chain_of(thread);
    let walk = &mut thread.walk;
    walk.address = start.address;
    walk.back = start.back;
    walk.stack_pointer = start.stack_pointer;
    walk.registers = call.frame_registers();
    let first = frame(walk);
    cache::begin(walk, call, first, state, chain);
}

/// Initializes the rest of a walk before its first step. (The window need not be cleared.)
#[inline(always)]
pub(crate) fn start_walk(call: &Call, thread: &mut Thread) {
    let first = frame(&thread.walk);
    thread.digest = seed(call).with(first);
    thread.stack.frames[0] = first;
    thread.stack.head.depth = 1;
    let walk = &mut thread.walk;
    walk.saved_at = FrameRegisters::default();
    walk.window_at = 1;
    cache::reset_trail(walk);
}

/// Continues the walk of `thread`. At its end returns the number of the call site (0 when there is none,
/// which is counted); until then returns `None`: the program has to run again.
#[inline(always)]
pub(crate) fn advance(
    context: &impl EbpfContext,
    call: &Call,
    thread: *mut Thread,
    start: impl Fn(&Call, &Thread) -> Start,
) -> Option<u32> {
    let end = walk(thread, call.process().unwrap_or(core::ptr::null()));
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *thread };
    let is_to_repeat = end == StackEnd::Changed as u32 && thread.again == 0;
    if is_to_repeat {
        thread.again = 1;
        begin(call, &start(call, thread), thread, call.fresh_memory_state());
        start_walk(call, thread);
    }
    if is_to_repeat || end == UNFINISHED {
        return None;
    }
    thread.digest = thread.digest.with(u64::from(end));
    thread.stack.head.end = end;
    let site = number(context, call, thread);
    cache::insert(&mut thread.walk, end, site, call.frame_registers());
    Some(site)
}

/// Unwinds from the current frame outwards. Returns the reason for stopping.
#[inline(never)]
fn walk(thread: *mut Thread, process: *const Process) -> u32 {
    if thread.is_null() || process.is_null() {
        return StackEnd::Elsewhere as u32;
    }
    // SAFETY: both are values of maps, checked by the caller; the thread's is this thread's own.
    let (thread, seen) = unsafe { (&mut *thread, &*process) };
    let generation = thread.walk.generation;
    for _ in 0..FRAMES_AT_ONCE {
        let depth = thread.stack.head.depth as usize;
        if depth >= STACK_DEPTH || depth >= seen.depth as usize {
            return StackEnd::TooDeep as u32;
        }
        let outcome = unwind::step(&raw mut thread.walk, process);
        // User space may have replaced the code ranges meanwhile.
        if volatile(&seen.generation) != generation {
            return StackEnd::Changed as u32;
        }
        if outcome != 0 {
            return outcome - 1;
        }
        if is_hijacked(seen, thread.walk.address) {
            let address =
                hidden_returns::original(thread, arch::popped_slot(thread.walk.stack_pointer));
            if address != 0 {
                thread.walk.address = address;
            } else if seen.trampoline != 0 {
                return StackEnd::Hijacked as u32;
            }
        }
        let address = frame(&thread.walk);
        // The bound checked above once more, as a mask for the verifier.
        let place = opaque(depth as u64) as usize & STACK_DEPTH;
        // SAFETY: below the array's length, or at most in the spare word behind it.
        unsafe { thread.stack.frames.as_mut_ptr().add(place).write(address) };
        thread.stack.head.depth = depth as u32 + 1;
        thread.digest = thread.digest.with(address);
    }
    UNFINISHED
}

/// The number of the call site with the unwound stack; 0 when there is none (counted).
#[inline(always)]
fn number(context: &impl EbpfContext, call: &Call, thread: &mut Thread) -> u32 {
    // SAFETY: values are numbers that never change once written.
    if let Some(number) = unsafe { SITES.get(thread.digest) } {
        return *number;
    }
    announce(context, call, thread)
}

/// Reads the present value from memory.
#[inline(always)]
fn volatile(value: &u32) -> u32 {
    // SAFETY: reads through a valid reference.
    unsafe { (&raw const *value).read_volatile() }
}

/// Assigns a number to a new stack, and sends the stack to the collector.
#[inline(always)]
fn announce(context: &impl EbpfContext, call: &Call, thread: &mut Thread) -> u32 {
    let Ok(Some(number)) = FREE_SITES.pop() else {
        lose(Loss::SitesFull);
        return 0;
    };
    let StackHead { depth, end, .. } = thread.stack.head;
    thread.stack.head = StackHead {
        record: STACK,
        site: number,
        pid: call.pid(),
        probe: call.cookie.probe(),
        detail: call.detail.into(),
        depth,
        end,
    };
    let bytes = (size_of::<StackHead>() + (depth as usize & STACK_DEPTH) * 8) as u64;
    // SAFETY: the record starts at `thread.stack`, and `depth` is at most STACK_DEPTH (127, so that
    // the mask above changes nothing but bounds it for the verifier): the bytes are within the map's value.
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
    // Another CPU was first with the same stack: its number applies, ours remains a call site without
    // resources. (Numbers are plentiful; returning ours would take another record.)
    // SAFETY: as above.
    match unsafe { SITES.get(thread.digest) } {
        Some(number) => *number,
        None => {
            lose(Loss::SitesFull);
            0
        }
    }
}
