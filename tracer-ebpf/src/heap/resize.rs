//! Resizes: the old resource is removed at the beginning, and restored if the resize fails. An object moves to its new
//! address.

use tracer_common::{
    attach::{Cookie, ProbeNumber},
    loss::Loss,
    object::{IS_OBJECT, ObjectId},
    record::{ACQUIRE, RELEASE, RESIZE, RESTORE},
    state::{OLD_ANNOUNCED, OLD_DRAINED, OLD_NONE, OLD_YOUNG, Thread, Young},
};

use crate::{
    call::Call,
    loss::{died, lose},
    maps::{ASKS, OBJECTS},
    resources::{
        details::forget,
        records::{now_ns, position},
        young::{
            acquired, by_range, inherited, keep, key, released_range, send, send_move,
            send_release, take,
        },
    },
};

/// A resize begins: its old resource may be gone before the function returns, so it is removed now.
#[inline(always)]
pub(crate) fn resizing(call: &Call, thread: &mut Thread, handle: u64, length: u64) {
    thread.old_state = OLD_NONE;
    thread.old_handle = handle;
    thread.moving = 0;
    if handle == 0 {
        return;
    }
    let kind = call.cookie.kind();
    let key = key(call, kind, handle);
    if !by_range(kind) {
        if let Some(young) = take(&key) {
            thread.moving = u32::from(young.site & IS_OBJECT != 0);
            let announced = inherited(&key, &young)
                && send(call, ACQUIRE, &key, &young, thread.caller, call.cookie.probe());
            if !announced {
                thread.old = young;
                thread.old_state = OLD_YOUNG;
                return;
            }
        }
        // SAFETY: only tests for existence.
        if unsafe { OBJECTS.get(key) }.is_some() {
            thread.moving = 1;
            thread.old.position = position();
            thread.old_state = OLD_DRAINED;
            return;
        }
    }
    send_release(call, RESIZE, &key, length, thread.caller);
    thread.old_state = OLD_ANNOUNCED;
}

/// The resize has succeeded: the old resource is gone, and the new one belongs to the old one's connection, where
/// known. An object moves to its new address.
#[inline(always)]
pub(crate) fn resized(call: &Call, thread: &mut Thread, cookie: Cookie, handle: u64) {
    if thread.moving != 0 {
        move_object(call, thread, cookie, handle);
        thread.old_state = OLD_NONE;
        return;
    }
    let mut connection = thread.serving;
    if thread.old_state == OLD_YOUNG {
        connection = thread.old.connection;
        died(thread.old.site, thread.old.size);
    }
    thread.old_state = OLD_NONE;
    acquired(call, thread, connection, cookie.kind(), cookie.probe(), handle);
}

/// The break was moved from `old`: the bytes before it or after it are released or acquired.
#[inline(always)]
pub(crate) fn break_moved(call: &Call, thread: &Thread, cookie: Cookie, old: u64) {
    let by = thread.size as i64;
    if by > 0 {
        acquired(call, thread, thread.serving, cookie.kind(), cookie.probe(), old);
    } else {
        let bytes = by.unsigned_abs();
        released_range(call, cookie, old.wrapping_sub(bytes), bytes);
    }
}

/// A resize has moved an object's block.
#[inline(never)]
fn move_object(call: &Call, thread: &mut Thread, cookie: Cookie, handle: u64) {
    let (state, kind, probe) = (thread.old_state, cookie.kind(), cookie.probe());
    let (from, to) = (key(call, kind, thread.old_handle), key(call, kind, handle));
    // SAFETY: copied at once.
    let known = match unsafe { OBJECTS.get(from) } {
        Some(object) => {
            thread.object = *object;
            true
        }
        None => false,
    };
    if state == OLD_DRAINED {
        if !send_move(&from, &to, thread.size, thread.old.position) {
            lose(Loss::AcquireDropped);
        }
    } else {
        let old = &thread.old;
        let (time_ns, site, connection) = if state == OLD_YOUNG {
            (old.time_ns, old.site, old.connection)
        } else if known {
            (thread.object.time_ns, thread.object.site | IS_OBJECT, thread.serving)
        } else {
            (now_ns(), thread.site, thread.serving)
        };
        let young = Young { size: thread.size, time_ns, position: position(), site, connection };
        keep(call, &to, &young, thread.caller, probe);
    }
    if known && from.handle != to.handle {
        _ = OBJECTS.insert(to, &thread.object, 0);
        let time_ns = thread.object.time_ns;
        // SAFETY: copied at once.
        if let Some(asked_ns) = unsafe { ASKS.get(ObjectId { key: from, time_ns }) }.copied() {
            _ = ASKS.insert(ObjectId { key: to, time_ns }, asked_ns, 0);
        }
        forget(&from);
    }
}

/// The resize was to size 0, and has released its resource.
#[inline(always)]
pub(crate) fn resized_away(call: &Call, thread: &mut Thread, kind: u8) {
    let state = thread.old_state;
    thread.old_state = OLD_NONE;
    if state == OLD_YOUNG {
        died(thread.old.site & !IS_OBJECT, thread.old.size);
    }
    if thread.moving != 0 {
        let key = key(call, kind, thread.old_handle);
        forget(&key);
        if state == OLD_DRAINED {
            send_release(call, RELEASE, &key, 0, 0);
        }
    }
}

/// The resize has failed: the old resource is unchanged.
#[inline(always)]
pub(crate) fn restored(call: &Call, thread: &mut Thread, kind: u8, probe: ProbeNumber) {
    let key = key(call, kind, thread.old_handle);
    if thread.old_state == OLD_YOUNG {
        keep(call, &key, &thread.old, thread.caller, probe);
    } else if thread.old_state == OLD_ANNOUNCED
        && !send(call, RESTORE, &key, &Young { position: position(), ..Young::default() }, 0, probe)
    {
        lose(Loss::AcquireDropped);
    }
    thread.old_state = OLD_NONE;
}
