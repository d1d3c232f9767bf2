//! Entries of functions that map memory or move the end of the data segment (the break): stores their arguments and call
//! site. A program of its own, so that blocks pay nothing for it.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_common::{attach::Shape, mapping::Backing, state::Thread};

use crate::{
    call::{Call, raw},
    heap::{call_site::entered, entry::begin},
    loss::count,
    maps::HITS,
    stack::{site, unwind},
};

/// A mapping, or a move of the break, begins.
#[uprobe]
pub(crate) fn map_entry(context: ProbeContext) -> u32 {
    _ = map(&context);
    0
}

fn map(context: &ProbeContext) -> Option<()> {
    let mut call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let arguments = call.arguments();
    let (a, b) = (arguments.get(call.cookie.a()), arguments.get(call.cookie.b()));
    let is_break = call.cookie.shape() == Shape::Break as u8;
    if is_break && a == 0 {
        // It only asks where the break is.
        return None;
    }
    let backing = if is_break { Backing::Anonymous } else { Backing::of_flags(b) };
    let thread = begin(context, &call, a, 0).ok()?;
    if (is_break || backing.is_file()) && is_own_call(&call, thread) {
        return None;
    }
    call.detail = backing as u8;
    thread.detail = call.detail.into();
    if is_break && a as i64 <= 0 {
        // A release has no call site.
        entered(&call, thread, 0);
        return None;
    }
    site::take(context, &call, thread, entered);
    Some(())
}

/// Whether the C library itself makes this call: `malloc` moves the break, `setlocale` maps files. So does a program
/// that has just been executed, as long as the library's code is not known.
#[inline(always)]
fn is_own_call(call: &Call, thread: &Thread) -> bool {
    if !call.cookie.leaves_out_own_calls() {
        return false;
    }
    let Some(process) = call.process() else {
        return false;
    };
    // SAFETY: the map's value lives at least as long as the program runs.
    let process = unsafe { &*process };
    // The probed function is the library's.
    !unwind::is_allocator(process, call.instruction())
        || unwind::is_allocator(process, thread.caller)
}
