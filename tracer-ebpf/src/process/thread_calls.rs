//! Functions of the C library that start threads, join them and detach them.
//!
//! A start is recorded by `thread_start` when the kernel makes the task. What the C library allocates during the call,
//! as the stack, is recorded as anything else; the collector knows it by its call sites.

use aya_ebpf::{helpers::bpf_probe_read_user, macros::uprobe, programs::ProbeContext};
use tracer_common::state::{OLD_NONE, Starting};

use crate::{
    call::{Call, raw},
    heap::entry::{Skip, begin},
    loss::count,
    maps::HITS,
    resources::{
        records::position,
        young::{thread_detached, thread_key},
    },
    stack::site,
};

/// The attributes by which `thrd_create` of glibc starts a thread: no address.
const NO_ATTRIBUTES: u64 = u64::MAX;

/// A thread is about to be started.
#[uprobe]
pub(crate) fn thread_start_entry(context: ProbeContext) -> u32 {
    _ = start(&context);
    0
}

fn start(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let attributes = call.arguments().get(call.cookie.a());
    let detached = is_detached(attributes, call.cookie.b(), call.cookie.c());
    let thread = begin(context, &call, 0, 0).ok()?;
    thread.starting = Starting {
        slot: thread.slot,
        caller: thread.caller,
        site: 0,
        detached: u32::from(detached),
        probe: u32::from(call.cookie.probe()),
        padding: 0,
    };
    site::take(context, &call, thread, |_, thread, site| thread.starting.site = site);
    Some(())
}

/// Whether a thread with these attributes will be detached: by the bits `mask` of the byte at `offset`. Also if that is
/// unknown, since a thread that does not have to be joined must not look like one that nobody has joined.
#[inline(always)]
fn is_detached(attributes: u64, offset: u8, mask: u8) -> bool {
    if attributes == 0 || attributes == NO_ATTRIBUTES {
        return false;
    }
    let address = attributes.wrapping_add(u64::from(offset)) as *const u8;
    // SAFETY: the helper checks the address.
    mask == 0 || unsafe { bpf_probe_read_user(address) }.map_or(true, |byte| byte & mask != 0)
}

/// A thread is being joined; whether that succeeds, the return says.
#[uprobe]
pub(crate) fn thread_join_entry(context: ProbeContext) -> u32 {
    _ = join(&context);
    0
}

fn join(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let handle = call.arguments().get(call.cookie.a());
    // Before the thread can have ended, and another one can have its handle.
    let position = position();
    match begin(context, &call, 0, 0) {
        Ok(thread) => {
            thread.old_state = OLD_NONE;
            thread.moving = 0;
            thread.old_handle = handle;
            thread.old.position = position;
            thread.active = 1;
        }
        Err(Skip::Inner) => {}
        // Its return will not be seen, and it is unlikely to fail: with its end the thread counts as released.
        Err(Skip::Lost) => thread_detached(&thread_key(&call.target, handle), position, call.tid()),
    }
    Some(())
}

/// A thread is being detached. If that fails, the thread was detached or joined before.
#[uprobe]
pub(crate) fn thread_detach_entry(context: ProbeContext) -> u32 {
    _ = detach(&context);
    0
}

fn detach(context: &ProbeContext) -> Option<()> {
    let call = Call::current(raw(context))?;
    count(&HITS, u32::from(call.cookie.probe()));
    let handle = call.arguments().get(call.cookie.a());
    thread_detached(&thread_key(&call.target, handle), position(), call.tid());
    Some(())
}
