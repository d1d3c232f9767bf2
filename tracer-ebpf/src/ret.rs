//! A function returns: now the handle is known, or that there is none.

use aya_ebpf::{macros::uretprobe, programs::RetProbeContext};
use tracer_common::{
    attach::{Cookie, Shape},
    loss::Loss,
    state::Thread,
};

use crate::{
    call::{Call, raw, read_word},
    loss::{count, lose},
    maps::{FAILED, THREADS},
    outstanding::{acquired, failed, resized, restored},
};

/// The outcome of the call that the thread is in.
#[uretprobe]
pub(crate) fn call_return(context: RetProbeContext) -> u32 {
    _ = end(&context);
    0
}

fn end(context: &RetProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *THREADS.get_ptr_mut(call.id)? };
    // The return address has just been popped. Any other place is the return of an inner call.
    if thread.active == 0 || call.stack_pointer() != thread.slot + 8 {
        return None;
    }
    thread.active = 0;
    // The cookie of the call that began counts: after a tail jump the return may be another's.
    let cookie = Cookie(thread.cookie);
    let shape = Shape::from_number(cookie.shape())?;
    let returned: u64 = context.ret();
    if failed(shape, returned) {
        fail(&call, thread, cookie, shape);
        return None;
    }
    let mut handle = returned;
    if shape == Shape::OutPointer {
        match read_word(thread.out_pointer) {
            Some(word) => handle = word,
            None => {
                lose(Loss::Unreadable);
                return None;
            }
        }
    }
    if shape.releases() {
        resized(thread);
    }
    acquired(&call, thread, cookie.kind(), cookie.probe(), handle);
    Some(())
}

/// The call returned no handle.
#[inline(always)]
fn fail(call: &Call, thread: &mut Thread, cookie: Cookie, shape: Shape) {
    // `realloc(p, 0)` releases `p` and returns NULL: that is what was asked for.
    let released = matches!(shape, Shape::Resize | Shape::CountResize) && thread.size == 0;
    if released {
        resized(thread);
        return;
    }
    if shape.releases() {
        restored(call, thread, cookie.kind(), cookie.probe());
    }
    count(&FAILED, u32::from(cookie.probe()));
}
