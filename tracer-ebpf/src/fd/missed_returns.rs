//! Recovers connections from missed return probes: the kernel tracks a bounded number of pending kretprobes.
//!
//! When the return of `connect(2)` is missed, the connection's state is read from its socket at the thread's next hook.

use tracer_common::{
    connection::{CLOSED, Role, UNIX},
    loss::Loss,
    state::Thread,
    syscall,
};

use crate::{
    arch::{Registers, read_syscall_number},
    call::Call,
    fd::{action::action, context::current},
    file,
    loss::lose,
    maps::CONNECTIONS,
    net::{connection, socket},
    threads,
};

/// `Opened::pending`: the thread has entered `connect(2)`, and no return was seen.
const CONNECTING: u32 = 3;

/// `connect(2)` begins.
#[inline(always)]
pub(crate) fn connecting(call: &Call, fd: u32) -> Option<()> {
    // SAFETY: the value belongs to this thread alone; it is removed when the thread ends.
    let opened = unsafe { &mut (*call.thread_or_allocate()?).opened };
    opened.list[0] = fd;
    opened.file = file::behind(fd)?;
    opened.pending = CONNECTING;
    Some(())
}

/// The return probe of `connect(2)` ran.
#[inline(always)]
pub(crate) fn connected(id: u64) {
    if let Some(thread) = threads::find(id)
        && is_connecting(thread)
    {
        // SAFETY: as above.
        unsafe { (*thread).opened.pending = 0 };
    }
}

/// Whether the thread has entered `connect(2)`, and no return was seen.
#[inline(always)]
pub(crate) fn is_connecting(thread: *const Thread) -> bool {
    // SAFETY: as above.
    unsafe { (*thread).opened.pending == CONNECTING }
}

/// The thread is in another call now: recovers a connection whose `connect(2)` return was missed.
#[inline(always)]
pub(crate) fn recover(call: &Call) {
    if call.thread.is_some_and(|thread| is_connecting(thread)) {
        _ = recover_connection();
    }
}

/// The thread ends: recovers its connection, unless it ends within `connect(2)`.
#[inline(always)]
pub(crate) fn thread_ends(id: u64) -> Option<()> {
    // Without traced descriptors there is nothing to recover, and old kernels lack the helpers for it.
    if !file::is_layout_known() {
        return None;
    }
    if !is_connecting(threads::find(id)?) {
        return None;
    }
    let registers = file::registers()? as *const Registers;
    let number = read_syscall_number(registers)?;
    if action(number) != syscall::CONNECT {
        _ = recover_connection();
    }
    Some(())
}

/// Records the thread's pending connection from the state of its socket. Not inlined: rarely called.
#[inline(never)]
pub(crate) fn recover_connection() -> Option<()> {
    let call = current(core::ptr::null(), 0)?;
    // SAFETY: as above.
    let opened = unsafe { &mut (*call.thread?).opened };
    opened.pending = 0;
    let (fd, file) = (opened.list[0], opened.file);
    if file::behind(fd) != Some(file) {
        // Another thread has closed the descriptor.
        lose(Loss::ConnectionDropped);
        return None;
    }
    let sock = socket::checked_behind(file)?;
    // A failed `connect(2)` leaves no peer port; an ended connection still has one.
    let (_, peer_port) = socket::ports(sock);
    if socket::state(sock)? == CLOSED && (socket::family(sock)? == UNIX || peer_port == 0)
        || CONNECTIONS.get_ptr(sock).is_some()
    {
        return None;
    }
    connection::begin(&call, fd, file, Role::Connected, 0)
}
