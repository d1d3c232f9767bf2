//! A function is entered: remember what was asked and from where, or record a release.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use aya_log_ebpf::debug;
use tracer_common::{
    attach::{Cookie, Shape, product},
    loss::Loss,
    state::{Process, Thread},
};

use crate::{
    call::{Call, raw, read_word},
    constructors,
    loss::{count, lose},
    maps::HITS,
    resize::resizing,
    returns::fail,
    site, stack_cache, threads, unwind,
    young::{released, unmapped},
};

/// `MAP_ANONYMOUS` of `mmap(2)`.
const MAP_ANONYMOUS: u64 = 0x20;

/// An acquisition is asked for.
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
        Shape::Map if b & MAP_ANONYMOUS == 0 => return None,
        _ => (a, 0),
    };
    let thread = begin(context, &call, size, out_pointer).ok()?;
    site::take(context, &call, thread, site::entered);
    Some(())
}

/// A resize is asked for.
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
            site::take(context, &call, thread, site::entered);
        }
        Err(Skip::Inner) => {}
        // Nobody will see it return, and it will hardly fail: the old resource is gone.
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
        let caller = read_word(call.slot()).unwrap_or(0);
        unmapped(&call, a, arguments.get(call.cookie.b()), caller);
    } else {
        released(&call, a);
    }
    Some(())
}

/// Why a call is not followed to its return.
enum Skip {
    /// It is part of one that is.
    Inner,
    /// It cannot be; counted.
    Lost,
}

/// Prepares `call` to be the one its thread is in, unless it is part of a call already under way: only the
/// outermost counts.
#[inline(always)]
fn begin<'thread>(
    context: &ProbeContext,
    call: &Call,
    size: u64,
    out_pointer: u64,
) -> Result<&'thread mut Thread, Skip> {
    let Some(thread) = thread_of(call) else {
        return Err(Skip::Lost);
    };
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let thread = unsafe { &mut *thread };
    let slot = call.slot();
    let Some(caller) = stack_cache::caller(slot, call.id) else {
        lose(Loss::Unreadable);
        return Err(Skip::Lost);
    };
    let caller = constructors::caller_of(call, thread, slot, caller);
    if thread.active != 0 {
        if is_within(call, thread, slot, caller) {
            return Err(Skip::Inner);
        }
        debug!(context, "thread {}: a call was abandoned", call.tid());
        let outer = Cookie(thread.cookie);
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

/// The thread's room, given to it at its first call.
#[inline(always)]
pub(crate) fn thread_of(call: &Call) -> Option<*mut Thread> {
    match call.thread {
        Some(thread) => Some(thread),
        None => threads::allocate(call.id, call.target),
    }
}

/// Whether a call whose return address lies at `slot` happens within the one `thread` is in.
///
/// The stack grows down, so an inner call's return address lies below (or, after a tail jump, in the
/// same place). An outer call that was left by `longjmp`, an exception or a thread's end looks the
/// same, but two things tell it apart: nobody returns through its return address any more, so the
/// slot, which holds what the outer call left there, soon holds something else; and an inner call is made
/// by the allocator itself. A call whose own return address leads to the trampoline
/// goes on, by a tail jump, with one that was hit before: an inner one, if it is not the outer one itself.
#[inline(always)]
fn is_within(call: &Call, thread: &Thread, slot: u64, caller: u64) -> bool {
    if slot > thread.slot {
        return false;
    }
    let Some(word) = read_word(thread.slot) else {
        return false;
    };
    let Some(process) = call.process() else {
        return false;
    };
    // SAFETY: the map's value lives at least as long as the program runs.
    let process = unsafe { &*process };
    if !is_hijacked(process, word) {
        // Without a return probe, the call under way still has its return address where it was.
        let outer = Cookie(thread.cookie);
        if outer.has_return_probe() || word != thread.caller {
            return false;
        }
        if slot == thread.slot {
            // From the same place to the same address: a tail jump to another function, or, when it is
            // the same one, its caller's next attempt after an exception.
            return outer.probe() != call.cookie.probe();
        }
    }
    slot == thread.slot || is_hijacked(process, caller) || unwind::is_allocator(process, caller)
}

/// Whether a return address is the trampoline's, put there by a return probe.
#[inline(always)]
pub(crate) fn is_hijacked(process: &Process, word: u64) -> bool {
    if process.trampoline == 0 { is_page_start(word) } else { word == process.trampoline }
}

/// Until the collector has seen where the trampoline is: it begins a page of its own.
#[inline(always)]
fn is_page_start(word: u64) -> bool {
    word != 0 && word & 0xfff == 0 && word >> 57 == 0
}
