//! Call sites of calls of allocators, constructors and thread starts: the program that unwinds their stacks, and hands the call site to
//! the call's subject.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};
use tracer_common::{
    attach::{Cookie, Shape},
    state::Thread,
};

use crate::{
    call::{Call, raw},
    lib_objects::objects,
    maps::UNWINDER,
    stack::site,
};

/// Unwinds the stack of the call that the thread has begun.
#[uprobe]
pub(crate) fn take_stack(context: ProbeContext) -> u32 {
    _ = resume(&context);
    0
}

#[inline(always)]
fn resume(context: &ProbeContext) -> Option<()> {
    let mut call = Call::returning(raw(context))?;
    let thread = call.thread?;
    // SAFETY: the value belongs to this thread alone. The cookie is that of the current call.
    unsafe {
        call.cookie = Cookie((*thread).cookie);
        call.detail = (*thread).detail as u8;
    }
    let Some(site) = site::advance(context, &call, thread, site::caller) else {
        // SAFETY: the array holds programs of this type.
        unsafe { UNWINDER.tail_call(context, 0) };
        return None;
    };
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *thread };
    if call.cookie.is_of_object() {
        objects::site_known(&call, thread, site);
    } else if call.cookie.shape() == Shape::StartThread as u8 {
        thread.starting.site = site;
    } else {
        entered(&call, thread, site);
    }
    Some(())
}

/// The call that the thread has begun has the call site `site`: it is the thread's current call from now on.
#[inline(always)]
pub(crate) fn entered(_: &Call, thread: &mut Thread, site: u32) {
    thread.site = site;
    thread.active = 1;
}
