//! Connections: records their beginning and end.
//!
//! Once a thread has accepted a connection, or read from it or written to it, its acquisitions are attributed to that
//! connection until it waits for work again. `docs/decisions/0010-connections.md` has the argument.

use aya_ebpf::{
    EbpfContext as _, helpers::generated::bpf_probe_read_kernel, macros::raw_tracepoint,
    programs::RawTracePointContext,
};
use tracer_common::{
    connection::{CLOSE_WAIT, CLOSED, FIN_WAIT1, INET, INET6, PATH, Role, TCP, UNIX},
    loss::Loss,
    record::{CONNECTED, Connected, DISCONNECTED, Disconnected},
    state::{Connection, Thread},
};

use crate::{
    call::Call,
    loss::lose,
    maps::{CONNECTIONS, FREE_CONNECTIONS, RECORDS},
    net::socket,
    resources::records::{NO_WAKEUP, now_ns, position},
    threads,
};

/// No descriptor: the served connection's is closed, and its number may be reused.
const NO_FD: u32 = u32::MAX;

/// A TCP socket changes its state: on any CPU, for any process.
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub(crate) fn state_changes(context: RawTracePointContext) -> i32 {
    // SAFETY: the tracepoint has three arguments: the socket, its old state, and the new one.
    let (sock, state) = unsafe {
        let arguments = context.as_ptr().cast::<u64>();
        (*arguments, *arguments.add(2) as u32)
    };
    if !matches!(state, FIN_WAIT1 | CLOSED | CLOSE_WAIT) {
        return 0;
    }
    let Some(connection) = CONNECTIONS.get_ptr_mut(sock) else { return 0 };
    // SAFETY: a live value of the map; the kernel holds the socket's lock, so no other CPU is here with it.
    unsafe {
        if (*connection).ended_ns == 0 {
            (*connection).state = state;
            (*connection).error = socket::error(sock);
            (*connection).ended_ns = now_ns();
        }
    }
    0
}

/// Sets the connection that the thread serves. A connection that the target opens on behalf of an accepted one, to
/// another server for example, counts for the accepted one.
#[inline(always)]
pub(crate) fn set_served(call: &Call, fd: u32, number: u32, role: u32) -> Option<()> {
    let thread: *mut Thread = match call.thread {
        Some(thread) => thread,
        None => threads::try_allocate(call.id, call.target)?,
    };
    let accepted = u32::from(role != Role::Connected as u32);
    // SAFETY: the value belongs to this thread alone.
    unsafe {
        if accepted >= (*thread).accepted || (*thread).serving == 0 {
            (*thread).serving = number;
            (*thread).accepted = accepted;
            (*thread).served = fd;
        }
    }
    Some(())
}

/// A new socket is not connected: removes a stale connection with the same kernel address.
#[inline(always)]
pub(crate) fn remove_stale(sock: u64) {
    _ = CONNECTIONS.remove(&sock);
}

/// A connection begins. It replaces an ended one with the same kernel address.
#[inline(always)]
pub(crate) fn begin(call: &Call, fd: u32, file: u64, role: Role, site: u32) -> Option<()> {
    let sock = socket::checked_behind(file)?;
    let family = socket::family(sock)?;
    if !matches!(family, UNIX | INET | INET6) {
        return None;
    }
    let state = socket::state(sock)?;
    let Ok(Some(number)) = FREE_CONNECTIONS.pop() else {
        lose(Loss::ConnectionDropped);
        return None;
    };
    let mut connection = Connection { number, role: role as u32, ended_ns: 0, state: 0, error: 0 };
    // It may have ended before it was accepted.
    if family != UNIX && matches!(state, CLOSE_WAIT | CLOSED) {
        connection.ended_ns = now_ns();
        connection.state = state;
        connection.error = socket::error(sock);
    }
    let known = CONNECTIONS.insert(sock, &connection, 0).is_ok();
    if !known || send_connected(call, fd, file, sock, family, &connection, site).is_none() {
        _ = CONNECTIONS.remove(&sock);
        _ = FREE_CONNECTIONS.push(number, 0);
        lose(Loss::ConnectionDropped);
        return None;
    }
    set_served(call, fd, number, role as u32)
}

/// Sends the record of a connection that begins. `None` when the ring buffer is full.
#[inline(always)]
fn send_connected(
    call: &Call,
    fd: u32,
    file: u64,
    sock: u64,
    family: u16,
    connection: &Connection,
    site: u32,
) -> Option<()> {
    let mut entry = RECORDS.reserve::<Connected>(0)?;
    let (local_port, peer_port) = if family == UNIX { (0, 0) } else { socket::ports(sock) };
    let record = entry.as_mut_ptr();
    // Field by field: the whole record does not fit on the stack.
    // SAFETY: space for one record, which is written in full here; the helpers check the kernel's addresses.
    unsafe {
        (*record).record = CONNECTED;
        (*record).number = connection.number;
        (*record).pid = call.target.files;
        (*record).fd = fd;
        (*record).position = position();
        (*record).time_ns = now_ns();
        (*record).socket = sock;
        (*record).inode = socket::inode(file).unwrap_or(0);
        (*record).site = site;
        (*record).family = family;
        (*record).local_port = local_port;
        (*record).peer_port = peer_port;
        (*record).role = connection.role as u8;
        (*record).path_length = 0;
        if family == UNIX {
            (*record).protocol = 0;
            (*record).peer_pid = socket::peer_pid(sock).unwrap_or(0);
            // The name of the side that accepted the connection.
            let named = if connection.role == Role::Connected as u32 {
                socket::unix_peer(sock).unwrap_or(0)
            } else {
                sock
            };
            if let Some((path, length)) = socket::path(named) {
                let length = length.min(PATH as u32);
                let read = bpf_probe_read_kernel(
                    (&raw mut (*record).path).cast(),
                    PATH as u32,
                    path as *const _,
                );
                (*record).path_length = if read == 0 { length } else { 0 };
            }
        } else {
            (*record).protocol = socket::protocol(sock).unwrap_or(0);
            (*record).peer_pid = 0;
            let (local, peer) = socket::addresses(sock, family);
            _ = bpf_probe_read_kernel((&raw mut (*record).local).cast(), 16, local as *const _);
            _ = bpf_probe_read_kernel((&raw mut (*record).peer).cast(), 16, peer as *const _);
        }
    }
    entry.submit(NO_WAKEUP);
    Some(())
}

/// A descriptor of a file is about to be closed: closing the last one ends its connection. Until it waits, the thread
/// serves that connection.
#[inline(always)]
pub(crate) fn closing(call: &Call, file: u64) -> Option<()> {
    let sock = socket::behind(file)?;
    // SAFETY: copied at once.
    let connection = *unsafe { CONNECTIONS.get(sock) }?;
    _ = set_served(call, NO_FD, connection.number, connection.role);
    if !socket::is_last(file) {
        return None;
    }
    if CONNECTIONS.remove(&sock).is_err() {
        return None;
    }
    send_disconnected(sock, &connection)
}

/// Sends the record of a connection that has ended.
#[inline(never)]
fn send_disconnected(sock: u64, connection: &Connection) -> Option<()> {
    let stream = matches!(socket::family(sock)?, INET | INET6) && socket::protocol(sock)? == TCP;
    let count = |count: Option<u64>| if stream { count.unwrap_or(u64::MAX) } else { u64::MAX };
    let present = socket::state(sock).unwrap_or(0);
    let mut ended_ns = connection.ended_ns;
    let mut error = connection.error;
    let state = if ended_ns == 0 { present } else { connection.state };
    // The kernel skipped the program's run at this change of state: only its time is lost.
    if stream && ended_ns == 0 && matches!(present, CLOSE_WAIT | CLOSED) {
        ended_ns = now_ns();
        error = socket::error(sock);
    }
    // When the ring buffer is full, user space detects the end by itself.
    let mut entry = RECORDS.reserve::<Disconnected>(0)?;
    entry.write(Disconnected {
        record: DISCONNECTED,
        number: connection.number,
        position: position(),
        time_ns: now_ns(),
        bytes_in: count(socket::received(sock)),
        bytes_out: count(socket::sent(sock)),
        ended_ns,
        state,
        error: error as u16,
        present: present as u16,
    });
    entry.submit(NO_WAKEUP);
    Some(())
}
