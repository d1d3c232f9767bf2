//! Function returns: reads the handle or the failure, and records the acquisition.

use aya_ebpf::{
    macros::{uprobe, uretprobe},
    programs::{ProbeContext, RetProbeContext},
};
use tracer_common::{
    attach::{Cookie, Shape},
    loss::Loss,
    state::Thread,
};

use crate::{
    arch,
    call::{Call, raw, read_word},
    heap::resize::{break_moved, resized, resized_away, restored},
    lib_objects::objects,
    loss::{count, lose},
    maps::FAILED,
    resources::young::{acquired, failed, joined},
    stack::hidden_returns::is_hijacked,
};

/// The result of the thread's call, seen by a return probe.
#[uretprobe]
pub(crate) fn call_return(context: RetProbeContext) -> u32 {
    _ = return_probe(&context);
    0
}

fn return_probe(context: &RetProbeContext) -> Option<()> {
    let call = Call::returning(raw(context))?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    // The return address has just been popped. With another stack pointer a nested call returns.
    if thread.active == 0 || call.stack_pointer() != arch::stack_pointer_after_return(thread.slot) {
        return None;
    }
    end(&call, thread)
}

/// The result of the thread's call, seen at a return instruction of its function.
#[uprobe]
pub(crate) fn return_entry(context: ProbeContext) -> u32 {
    _ = return_instruction(&context);
    0
}

fn return_instruction(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    // SAFETY: the value belongs to this thread alone.
    let thread = unsafe { &mut *call.thread? };
    // The return address is about to be popped. With another stack pointer a nested call returns, or
    // another function that shares this return instruction.
    if thread.active == 0 || call.stack_pointer() != thread.slot {
        return None;
    }
    // After an exception the same slot may hold another function's return address.
    let word = arch::return_address(thread.slot, read_word)?;
    if word != thread.caller {
        // SAFETY: the map's value lives at least as long as the program runs.
        let process = unsafe { &*call.process()? };
        if !is_hijacked(process, word) {
            return None;
        }
    }
    end(&call, thread)
}

/// The thread's call returns.
#[inline(always)]
fn end(call: &Call, thread: &mut Thread) -> Option<()> {
    thread.active = 0;
    // The cookie of the entry applies: after a tail call the return may be another function's.
    let cookie = Cookie(thread.cookie);
    let shape = Shape::from_number(cookie.shape())?;
    let returned = call.returned();
    if failed(shape, returned) {
        fail(call, thread, cookie);
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
        if shape == Shape::Break {
            break_moved(call, thread, cookie, handle);
        } else if shape == Shape::JoinThread {
            joined(call, thread, cookie);
        } else {
            resized(call, thread, cookie, handle);
        }
    } else {
        acquired(call, thread, thread.serving, cookie.kind(), cookie.probe(), handle);
        if thread.constructor_calls != 0 {
            objects::block_acquired(call, thread, cookie, handle);
        }
    }
    Some(())
}

/// The call with this cookie returned no handle.
#[inline(always)]
pub(crate) fn fail(call: &Call, thread: &mut Thread, cookie: Cookie) {
    let Some(shape) = Shape::from_number(cookie.shape()) else { return };
    // `realloc(p, 0)` releases `p` and returns NULL: no failure.
    let released = matches!(shape, Shape::Resize | Shape::CountResize) && thread.size == 0;
    if released {
        resized_away(call, thread, cookie.kind());
        return;
    }
    if shape.releases() {
        restored(call, thread, cookie.kind(), cookie.probe());
    }
    count(&FAILED, u32::from(cookie.probe()));
}
