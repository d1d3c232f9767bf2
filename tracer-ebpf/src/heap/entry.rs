//! Function entries: stores the arguments and the call site of an acquisition, or records a release.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use aya_log_ebpf::debug;
use tracer_common::{
    attach::{Cookie, Shape, product},
    loss::Loss,
    state::Thread,
};

use crate::{
    arch,
    call::{Call, raw, read_word},
    heap::{call_site::entered, resize::resizing, returns::fail},
    loss::{count, lose},
    maps::HITS,
    resources::young::{join_abandoned, released, unmapped},
    stack::{
        cache,
        hidden_returns::{self, is_hijacked},
        site, unwind,
    },
};

/// An acquisition begins.
#[uprobe]
pub(crate) fn acquire_entry(context: ProbeContext) -> u32 {
    _ = acquire(&context);
    0
}

fn acquire(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let arguments = call.arguments();
    let (a, b) = (arguments.get(call.cookie.a()), arguments.get(call.cookie.b()));
    let (size, out_pointer) = match Shape::from_number(call.cookie.shape())? {
        Shape::CountSize => (product(a, b), 0),
        Shape::OutPointer => (b, a),
        _ => (a, 0),
    };
    let thread = begin(context, &call, size, out_pointer).ok()?;
    site::take(context, &call, thread, entered);
    Some(())
}

/// A resize begins.
#[uprobe]
pub(crate) fn resize_entry(context: ProbeContext) -> u32 {
    _ = resize(&context);
    0
}

fn resize(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let arguments = call.arguments();
    let (a, b, c) = (
        arguments.get(call.cookie.a()),
        arguments.get(call.cookie.b()),
        arguments.get(call.cookie.c()),
    );
    let (size, length) = match Shape::from_number(call.cookie.shape())? {
        Shape::CountResize => (product(b, c), 0),
        Shape::Remap => (c, b),
        _ => (b, 0),
    };
    match begin(context, &call, size, 0) {
        Ok(thread) => {
            resizing(&call, thread, a, length);
            site::take(context, &call, thread, entered);
        }
        Err(Skip::Inner) => {}
        // Its return will not be seen, and it is unlikely to fail: the old resource counts as released.
        Err(Skip::Lost) if length == 0 => released(&call, a),
        Err(Skip::Lost) => unmapped(&call, a, length, 0),
    }
    Some(())
}

/// A release.
#[uprobe]
pub(crate) fn release_entry(context: ProbeContext) -> u32 {
    _ = release(&context);
    0
}

fn release(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let arguments = call.arguments();
    let a = arguments.get(call.cookie.a());
    if call.cookie.shape() == Shape::Unmap as u8 {
        let caller = read_word(call.slot()).map_or(0, |word| call.return_address(word));
        unmapped(&call, a, arguments.get(call.cookie.b()), caller);
    } else {
        released(&call, a);
    }
    Some(())
}

/// Why a call is not tracked until its return.
pub(crate) enum Skip {
    /// It is part of a tracked call.
    Inner,
    /// It cannot be tracked; counted.
    Lost,
}

/// Prepares `call` as the call that its thread is in, unless it is part of a tracked call: only the outermost
/// counts.
#[inline(always)]
pub(crate) fn begin<'thread>(
    context: &ProbeContext,
    call: &Call,
    size: u64,
    out_pointer: u64,
) -> Result<&'thread mut Thread, Skip> {
    let Some(thread) = call.thread_or_allocate() else {
        return Err(Skip::Lost);
    };
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    let slot = call.slot();
    let Some(caller) = cache::caller(call) else {
        lose(Loss::Unreadable);
        return Err(Skip::Lost);
    };
    let caller = hidden_returns::caller_of(call, thread, slot, caller);
    if thread.active != 0 {
        if is_within(call, thread, slot, caller) {
            return Err(Skip::Inner);
        }
        debug!(context, "thread {}: a call was abandoned", call.tid());
        let outer = Cookie(thread.cookie);
        if outer.shape() == Shape::JoinThread as u8 {
            // A signal handler may run while the thread waits: the join's return will not be seen, and it is unlikely to fail.
            join_abandoned(call, thread);
        }
        if outer.throws() {
            fail(call, thread, outer);
        }
    }
    thread.cookie = call.cookie.0;
    thread.slot = slot;
    thread.caller = caller;
    thread.size = size;
    thread.out_pointer = out_pointer;
    thread.old_state = 0;
    thread.detail = 0;
    thread.site = 0;
    thread.active = 0;
    Ok(thread)
}

/// Whether a call whose return address lies at `slot` is nested in the one that `thread` is in.
///
/// The stack grows down, so a nested call's return address lies below (or, after a tail call, in the same
/// slot). An outer call that was abandoned by `longjmp`, an exception or a thread's end looks the same, but
/// differs in two respects: nothing returns through its return address any more, so other data soon
/// overwrites its slot; and a nested call comes from the allocator's own code. A call whose return address
/// is the trampoline is a tail call from a function that was hit before: a nested call, if it is not the
/// outer one itself.
#[inline(always)]
fn is_within(call: &Call, thread: &Thread, slot: u64, caller: u64) -> bool {
    if slot > thread.slot {
        return false;
    }
    let Some(word) = arch::return_address(thread.slot, read_word) else {
        return false;
    };
    let Some(process) = call.process() else {
        return false;
    };
    // SAFETY: the map's value lives at least as long as the program runs.
    let process = unsafe { &*process };
    if !is_hijacked(process, word) {
        // Without a return probe, the outer call's return address is still in its slot.
        let outer = Cookie(thread.cookie);
        if outer.has_return_probe() || word != thread.caller {
            return false;
        }
        if slot == thread.slot {
            // The same slot and the same return address: a tail call to another function, or, for the same
            // function, the caller's next attempt after an exception.
            return outer.probe() != call.cookie.probe();
        }
    }
    slot == thread.slot || is_hijacked(process, caller) || unwind::may_be_allocator(process, caller)
}
