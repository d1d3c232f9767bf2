//! File descriptors in control messages (`SCM_RIGHTS`) that `recvmsg(2)` and `recvmmsg(2)` have received.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_user, macros::raw_tracepoint, programs::RawTracePointContext,
};
use tracer_common::{descriptor::OPENED_AT_ONCE, state::Opened, syscall};

use crate::{
    arch::{read_registers, syscall_argument, syscall_number},
    call::read_word,
    fd::{
        action::action,
        context::{NEXT, continue_with, current},
        tracepoint_args::{registers, returned},
    },
    stack::unwind,
};

/// `SOL_SOCKET` and `SCM_RIGHTS`, as one word of a control message's header.
const RIGHTS: u64 = 1 | 1 << 32;
/// Bytes of such a header: a length, and the word above.
const HEAD: u64 = 16;
/// Bytes of a `struct mmsghdr`.
const MESSAGE: u64 = 64;
/// Control messages examined per message.
const CONTROLS: u32 = 3;
/// Messages examined per `recvmmsg(2)`.
const MESSAGES: u64 = 8;

/// A thread has received messages, which may carry descriptors.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub(crate) fn messages_received(context: RawTracePointContext) -> i32 {
    _ = messages(&context);
    0
}

#[inline(always)]
fn messages(context: &RawTracePointContext) -> Option<()> {
    let (registers, returned) = (registers(context)?, returned(context));
    let regs = read_registers(registers as u64)?;
    let call = current(&regs, 0)?;
    // SAFETY: the value belongs to this thread alone.
    let opened = unsafe { &mut (*call.thread?).opened };
    let several = action(syscall_number(&regs)) == syscall::RECVMMSG;
    let count = if several { returned } else { 1 };
    let mut message = 0;
    while message < MESSAGES && message < count {
        received(opened, syscall_argument::<1>(&regs) + message * MESSAGE);
        message += 1;
    }
    continue_with(context, NEXT)
}

/// Appends the descriptors among the control messages of a `struct msghdr` that was received.
#[inline(never)]
fn received(opened: &mut Opened, message: u64) -> Option<()> {
    let (mut at, length) = (read_word(message + 32)?, read_word(message + 40)?);
    let end = at + length;
    let mut tries = 0;
    while tries < CONTROLS && at + HEAD < end {
        let (size, kind) = (read_word(at)?, read_word(at + 8)?);
        if kind == RIGHTS {
            append(opened, at + HEAD, size.wrapping_sub(HEAD) / 4);
        }
        at += (size + 7) & !7;
        tries += 1;
    }
    Some(())
}

/// Appends the `count` descriptors at `place`, as many as fit.
#[inline(always)]
fn append(opened: &mut Opened, place: u64, count: u64) {
    let already = u64::from(opened.count) & (OPENED_AT_ONCE as u64 - 1);
    let count = count.min(OPENED_AT_ONCE as u64 - already);
    let count = unwind::opaque(count) & (2 * OPENED_AT_ONCE as u64 - 1);
    let count = if count > OPENED_AT_ONCE as u64 { OPENED_AT_ONCE as u64 } else { count };
    // SAFETY: the list has space behind its first half; the helper checks the target's address.
    let outcome = unsafe {
        let list = (&raw mut opened.list).cast::<u32>().add(already as usize);
        bpf_probe_read_user(list.cast(), (count * 4) as u32, place as *const core::ffi::c_void)
    };
    if outcome == 0 {
        opened.count = already as u32 + count as u32;
    }
}
