//! The only writer of the table of young resources and of change records.
//!
//! A new resource is kept in the kernel's table of young resources. A release that finds it there is complete
//! without the collector. The collector drains the table from time to time; a record reports the release of a
//! drained resource. The deletion of the entry (by a release, or by the collector) decides, so nothing is
//! counted twice or lost; `docs/decisions/0002-two-generations.md` has the argument.

use tracer_common::{
    attach::{Cookie, ProbeNumber, Shape},
    kind::{Extent, Kind, PAGE_BYTES},
    limits,
    loss::Loss,
    object::IS_OBJECT,
    record::{
        ACQUIRE, CLOSE_RANGE, Change, MOVE, Moved, RELEASE, RETAG, RangeClosed, THREAD_DETACHED,
        THREAD_ENDED,
    },
    state::{Key, OLD_NONE, Target, Thread, Young},
};

use crate::{
    call::{Call, read_word},
    loss::{died, doubt, lose},
    maps::{FORKS, YOUNG},
    resources::{
        details::forget,
        records::{emit, now_ns, position},
    },
};

/// Attempts at a deletion that finds its bucket locked.
const DELETE_TRIES: u32 = 4;

/// `-ENOENT`: the table lacks the entry to delete.
const NO_ENTRY: i32 = -2;

/// Whether releases of this kind identify a range instead of a handle.
#[inline(always)]
pub(crate) fn by_range(kind: u8) -> bool {
    matches!(Kind::from_number(kind).map(Kind::extent), Some(Extent::Range))
}

/// The key of `handle` as `call` sees it.
#[inline(always)]
pub(crate) fn key(call: &Call, kind: u8, handle: u64) -> Key {
    Key { pid: call.pid(), kind: u32::from(kind) | call.target.programs << 8, handle }
}

/// Sends a change; `false` when the ring buffer is full.
#[inline(always)]
pub(crate) fn send(
    call: &Call,
    record: u32,
    key: &Key,
    young: &Young,
    caller: u64,
    probe: ProbeNumber,
) -> bool {
    send_with(call, record, key, young, caller, probe, 0)
}

/// The same with [`Change::flags`].
#[inline(always)]
fn send_with(
    call: &Call,
    record: u32,
    key: &Key,
    young: &Young,
    caller: u64,
    probe: ProbeNumber,
    flags: u8,
) -> bool {
    emit(|| Change {
        record,
        kind: key.kind as u8,
        flags,
        probe,
        pid: key.pid,
        tid: call.tid(),
        handle: key.handle,
        size: young.size,
        position: young.position,
        time_ns: young.time_ns,
        caller,
        site: young.site & !IS_OBJECT,
        connection: young.connection,
    })
}

/// Sends the new handle of an object that is in the ledger; `false` when the ring buffer is full.
#[inline(always)]
pub(crate) fn send_move(from: &Key, to: &Key, size: u64, position: u64) -> bool {
    emit(|| Moved {
        record: MOVE,
        kind: to.kind & 0xff,
        pid: to.pid,
        padding: 0,
        from: from.handle,
        to: to.handle,
        size,
        position,
    })
}

/// Stores an acquired resource among the young ones, or sends it to the collector.
#[inline(always)]
pub(crate) fn keep(call: &Call, key: &Key, young: &Young, caller: u64, probe: ProbeNumber) {
    if !by_range(key.kind as u8) && YOUNG.insert(key, young, 0).is_ok() {
        return;
    }
    if !send(call, ACQUIRE, key, young, caller, probe) {
        lose(Loss::AcquireDropped);
    }
}

/// Records an acquisition of `thread`, which has returned `handle`, for a connection.
#[inline(always)]
pub(crate) fn acquired(
    call: &Call,
    thread: &Thread,
    connection: u32,
    kind: u8,
    probe: ProbeNumber,
    handle: u64,
) {
    let young = Young {
        size: thread.size,
        time_ns: now_ns(),
        position: position(),
        site: thread.site,
        connection,
    };
    keep(call, &key(call, kind, handle), &young, thread.caller, probe);
}

/// Records that a page has become resident. If the page is touched again before the collector drains it, it is
/// attributed to the stack that touched it last.
#[inline(always)]
pub(crate) fn touched(call: &Call, page: u64, site: u32) {
    let young = Young {
        size: PAGE_BYTES,
        time_ns: now_ns(),
        position: position(),
        site,
        connection: call.serving(),
    };
    keep(call, &key(call, call.cookie.kind(), page), &young, 0, call.cookie.probe());
}

/// Removes a resource from the young ones; `None` when it is not among them (any more).
#[inline(always)]
pub(crate) fn take(key: &Key) -> Option<Young> {
    // SAFETY: the value is copied at once; only its own release or the collector deletes it, and
    // the deletion below decides whether the copy is valid.
    let young = *unsafe { YOUNG.get(key) }?;
    let mut tries = 0;
    while tries < DELETE_TRIES {
        match YOUNG.remove(key) {
            Ok(()) => return Some(young),
            Err(NO_ENTRY) => return None,
            Err(_) => tries += 1,
        }
    }
    // Still in the table, though released: the collector will drain it, and must not trust it.
    lose(Loss::ReleaseBusy);
    doubt(key, position());
    None
}

/// Whether a child has a copy of this young resource: it was acquired before its owner's last fork.
/// The collector needs its acquisition before its release, or it would miss the copy.
#[inline(always)]
pub(crate) fn inherited(key: &Key, young: &Young) -> bool {
    FORKS.get(key.pid & (limits::FORKS - 1)).is_some_and(|after| young.position < *after)
}

/// Sends a release, or marks its handle as doubtful if the ring buffer is full.
#[inline(always)]
pub(crate) fn send_release(call: &Call, record: u32, key: &Key, size: u64, caller: u64) {
    send_release_with(call, record, key, size, caller, 0);
}

/// The same with [`Change::flags`].
#[inline(always)]
fn send_release_with(call: &Call, record: u32, key: &Key, size: u64, caller: u64, flags: u8) {
    let position = position();
    let young = Young { size, time_ns: now_ns(), position, site: 0, connection: 0 };
    if !send_with(call, record, key, &young, caller, call.cookie.probe(), flags) {
        lose(Loss::ReleaseDropped);
        doubt(key, position);
    }
}

/// A young resource was released.
#[inline(always)]
fn ended(call: &Call, key: &Key, young: &Young) {
    if young.site & IS_OBJECT != 0 {
        forget(key);
    }
    count_release(call, key, young);
}

/// Counts the release of a young resource.
#[inline(always)]
fn count_release(call: &Call, key: &Key, young: &Young) {
    if inherited(key, young) && send(call, ACQUIRE, key, young, 0, call.cookie.probe()) {
        send_release(call, RELEASE, key, 0, 0);
    } else {
        died(young.site & !IS_OBJECT, young.size);
    }
}

/// Marks a block as an object, with the call site of its constructor.
#[inline(always)]
pub(crate) fn retag(call: &Call, key: &Key, site: u32, probe: ProbeNumber) {
    if let Some(young) = take(key) {
        keep(call, key, &Young { site: site | IS_OBJECT, ..young }, 0, probe);
        return;
    }
    // The collector has drained it, or its acquisition was not seen.
    let young = Young { position: position(), time_ns: now_ns(), site, ..Young::default() };
    if !send(call, RETAG, key, &young, 0, probe) {
        lose(Loss::AcquireDropped);
    }
}

/// A new object has this handle, and takes the place of the old one in `OBJECTS`: that one, if any was `known`, has ended.
/// The collector deletes the request to release it. (This function runs where the verifier's bound on the stack is near.)
#[inline(always)]
pub(crate) fn replaced(call: &Call, key: &Key, known: bool) {
    if let Some(young) = take(key) {
        count_release(call, key, &young);
    } else if known {
        send_release(call, RELEASE, key, 0, 0);
    }
}

/// Records the end of a caller-allocated object; ignores an unknown one.
#[inline(always)]
pub(crate) fn object_ended(call: &Call, key: &Key) {
    if let Some(young) = take(key) {
        ended(call, key, &young);
    } else if forget(key) {
        send_release(call, RELEASE, key, 0, 0);
    }
}

/// The key of a descriptor. Unlike memory, descriptors survive an `execve`.
#[inline(always)]
fn descriptor(call: &Call, fd: u32) -> Key {
    Key { pid: call.target.files, kind: Kind::Descriptor as u32, handle: u64::from(fd) }
}

/// Records that a descriptor was opened.
#[inline(always)]
pub(crate) fn opened(call: &Call, fd: u32, site: u32) {
    let key = descriptor(call, fd);
    // The old one was closed with a range, or by a call that no program saw.
    if let Some(young) = take(&key) {
        ended(call, &key, &young);
    }
    let young = Young {
        size: 0,
        time_ns: now_ns(),
        position: position(),
        site,
        connection: call.serving(),
    };
    keep(call, &key, &young, 0, call.cookie.probe());
}

/// Records that a descriptor is closed. `flags` is `record::MAY_BE_CLOSED` when it may not have been open, else 0.
#[inline(always)]
pub(crate) fn closed(call: &Call, fd: u32, flags: u8) {
    let key = descriptor(call, fd);
    match take(&key) {
        Some(young) => ended(call, &key, &young),
        None => send_release_with(call, RELEASE, &key, 0, 0, flags),
    }
}

/// Records that all descriptors from `first` to `last` are closed. The collector finds the young ones among them.
#[inline(always)]
pub(crate) fn closed_range(call: &Call, first: u32, last: u32) {
    let position = position();
    let pid = call.target.files;
    if !emit(|| RangeClosed { record: CLOSE_RANGE, pid, first, last, position }) {
        lose(Loss::ReleaseDropped);
        doubt(&descriptor(call, first), position);
    }
}

/// Records the release of one handle, before its function runs: the address cannot be reused yet.
#[inline(always)]
pub(crate) fn released(call: &Call, handle: u64) {
    if handle == 0 {
        return;
    }
    let key = key(call, call.cookie.kind(), handle);
    if let Some(young) = take(&key) {
        ended(call, &key, &young);
        return;
    }
    // An allocator's resize may call its own release for the old block, which is handled when the
    // resize returns.
    if let Some(thread) = call.thread {
        // SAFETY: the value is this thread's own.
        let thread = unsafe { &*thread };
        if thread.active != 0 && thread.old_state != OLD_NONE && thread.old_handle == handle {
            return;
        }
    }
    forget(&key);
    // An allocator that empties the cache of a thread releases what has been released already.
    let caller = read_word(call.slot()).map_or(0, |word| call.return_address(word));
    send_release(call, RELEASE, &key, 0, caller);
}

/// Records the release of a range.
#[inline(always)]
pub(crate) fn unmapped(call: &Call, start: u64, length: u64, caller: u64) {
    let key = key(call, call.cookie.kind(), start);
    send_release(call, RELEASE, &key, length, caller);
}

/// Records the release of a range by the call with this cookie, which has returned.
#[inline(always)]
pub(crate) fn released_range(call: &Call, cookie: Cookie, start: u64, length: u64) {
    send_release(call, RELEASE, &key(call, cookie.kind(), start), length, 0);
}

/// The key of a thread of `target`.
#[inline(always)]
pub(crate) fn thread_key(target: &Target, handle: u64) -> Key {
    Key { pid: target.owner, kind: Kind::Thread as u32 | target.programs << 8, handle }
}

/// Sends a change of a thread, which `young` describes; `false` when the ring buffer is full. Threads are never young: a
/// thread lives longer than a block, and there are few of them.
#[inline(always)]
pub(crate) fn send_thread(
    record: u32,
    key: &Key,
    young: &Young,
    tid: u32,
    probe: ProbeNumber,
) -> bool {
    emit(|| Change {
        record,
        kind: Kind::Thread as u8,
        flags: 0,
        probe,
        pid: key.pid,
        tid,
        handle: key.handle,
        size: 0,
        position: young.position,
        time_ns: young.time_ns,
        caller: 0,
        site: young.site,
        connection: young.connection,
    })
}

/// Sends that a thread has changed its state, which may release it: without the record it would seem to live on.
#[inline(always)]
fn send_thread_state(record: u32, key: &Key, position: u64, tid: u32) {
    let young = Young { position, time_ns: now_ns(), ..Young::default() };
    if !send_thread(record, key, &young, tid, 0) {
        lose(Loss::ReleaseDropped);
        doubt(key, position);
    }
}

/// Records that a thread has ended which was started at this position.
#[inline(always)]
pub(crate) fn thread_ended(key: &Key, started: u64, tid: u32) {
    send_thread_state(THREAD_ENDED, key, started, tid);
}

/// Records that a thread is detached.
#[inline(always)]
pub(crate) fn thread_detached(key: &Key, position: u64, tid: u32) {
    send_thread_state(THREAD_DETACHED, key, position, tid);
}

/// Records that a thread was joined: the one that had the handle when the join began. Another thread may have it by now.
#[inline(always)]
pub(crate) fn joined(call: &Call, thread: &Thread, cookie: Cookie) {
    let key = key(call, cookie.kind(), thread.old_handle);
    send_thread_state(RELEASE, &key, thread.old.position, call.tid());
}

/// The return of the join that `thread` is in will not be seen: with its end, the joined thread counts as released.
#[inline(never)]
pub(crate) fn join_abandoned(call: &Call, thread: &Thread) {
    let key = thread_key(&call.target, thread.old_handle);
    send_thread_state(THREAD_DETACHED, &key, thread.old.position, call.tid());
}

/// Whether `returned` reports a failure of a function of this shape.
#[inline(always)]
pub(crate) fn failed(shape: Shape, returned: u64) -> bool {
    match shape {
        Shape::OutPointer | Shape::JoinThread => returned as i32 != 0,
        Shape::Map | Shape::Remap | Shape::Break => returned == u64::MAX,
        _ => returned == 0,
    }
}
