//! Connections that a thread began in a call whose return nobody has met: the kernel follows a bounded number of returns
//! at once.
//!
//! What such a call has led to, its socket tells when the thread is met next.

use aya_ebpf::bindings::pt_regs;
use tracer_common::{
    connection::{CLOSED, Role, UNIX},
    loss::Loss,
    state::Thread,
    syscall,
};

use crate::{
    call::Call,
    connection,
    entry::thread_of,
    file,
    loss::lose,
    maps::CONNECTIONS,
    opening::current,
    socket,
    syscalls::{action, register},
    threads,
};

/// `Opened::pending`: the thread is in `connect(2)`, as far as is known.
const CONNECTING: u32 = 3;

/// `connect(2)` begins.
#[inline(always)]
pub(crate) fn connecting(call: &Call, fd: u32) -> Option<()> {
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*thread_of(call)?).opened };
    opened.list[0] = fd;
    opened.file = file::behind(fd)?;
    opened.pending = CONNECTING;
    Some(())
}

/// Its return has been met.
#[inline(always)]
pub(crate) fn connected(id: u64) {
    if let Some(thread) = threads::find(id)
        && is_connecting(thread)
    {
        // SAFETY: as above.
        unsafe { (*thread).opened.pending = 0 };
    }
}

/// Whether the thread is in `connect(2)`, as far as is known.
#[inline(always)]
pub(crate) fn is_connecting(thread: *const Thread) -> bool {
    // SAFETY: as above.
    unsafe { (*thread).opened.pending == CONNECTING }
}

/// The thread of this call is not in `connect(2)`, whatever is known.
#[inline(always)]
pub(crate) fn recover(call: &Call) {
    if call.thread.is_some_and(|thread| is_connecting(thread)) {
        _ = recover_connection();
    }
}

/// The thread ends: in `connect(2)`, or later.
#[inline(always)]
pub(crate) fn thread_ends(id: u64) -> Option<()> {
    // Without descriptors there is nothing to make up, and old kernels are not told how to.
    if !file::is_layout_known() {
        return None;
    }
    if !is_connecting(threads::find(id)?) {
        return None;
    }
    let registers = file::registers()? as *const pt_regs;
    let number = register(registers, core::mem::offset_of!(pt_regs, orig_rax))?;
    if action(number) != syscall::CONNECT {
        _ = recover_connection();
    }
    Some(())
}

/// A function of its own: nearly nobody comes here, and callers go on.
#[inline(never)]
pub(crate) fn recover_connection() -> Option<()> {
    let call = current(core::ptr::null(), 0)?;
    // SAFETY: as above.
    let opened = unsafe { &mut (*call.thread?).opened };
    opened.pending = 0;
    let (fd, file) = (opened.list[0], opened.file);
    if file::behind(fd) != Some(file) {
        // Another thread has closed it.
        lose(Loss::ConnectionDropped);
        return None;
    }
    let sock = socket::surely_behind(file)?;
    // Where `connect(2)` fails there is no other side; where the connection is over there was one.
    let (_, peer_port) = socket::ports(sock);
    if socket::state(sock)? == CLOSED && (socket::family(sock)? == UNIX || peer_port == 0)
        || CONNECTIONS.get_ptr(sock).is_some()
    {
        return None;
    }
    connection::begin(&call, fd, file, Role::Connected, 0)
}
