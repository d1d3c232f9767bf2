//! Which connection a thread serves: that of the descriptor it used last, until it waits for work.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use tracer_common::connection::{ESTABLISHED, INET, INET6, Role, TCP};

use crate::{
    call::Call,
    fd::{
        context::{FdContext, begin_connection},
        missed_returns,
    },
    file,
    maps::CONNECTIONS,
    net::{connection::set_served, socket},
    threads,
};

/// The thread uses one of its descriptors: from now on it serves that descriptor's connection.
#[inline(always)]
pub(crate) fn serve(context: &impl FdContext, call: &Call, fd: u32) -> Option<()> {
    let file = file::behind(fd)?;
    let sock = socket::behind(file)?;
    // SAFETY: copied; only the value of a socket that no thread uses can be removed meanwhile.
    if let Some(connection) = unsafe { CONNECTIONS.get(sock) } {
        set_served(call, fd, connection.number, connection.role);
        return Some(());
    }
    if !matches!(socket::family(sock)?, INET | INET6)
        || socket::state(sock)? != ESTABLISHED
        || socket::protocol(sock)? != TCP
        || socket::checked_behind(file)? != sock
    {
        return None;
    }
    begin_connection(context, call, fd, file, Role::Before)
}

/// Whether the thread already serves the connection of this descriptor, which is the usual case.
#[inline(always)]
pub(crate) fn is_served(fd: u32) -> bool {
    // SAFETY: the value belongs to this thread alone.
    threads::find(bpf_get_current_pid_tgid()).is_some_and(|thread| unsafe {
        (*thread).serving != 0 && (*thread).served == fd && !missed_returns::is_connecting(thread)
    })
}

/// The thread waits for work.
#[inline(always)]
pub(crate) fn stop_serving(id: u64) {
    if let Some(thread) = threads::find(id) {
        if missed_returns::is_connecting(thread) {
            _ = missed_returns::recover_connection();
        }
        // SAFETY: the value belongs to this thread alone.
        unsafe { (*thread).serving = 0 };
    }
}
