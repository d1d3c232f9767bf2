//! The state of a socket: read from the kernel's structures, whose layout user space takes from the kernel's type
//! information.

use tracer_common::{connection::INET6, state::SocketLayout};

use crate::file::{self, read_u32, read_u64};

/// Offsets of the kernel's fields: user space sets them when it loads the programs.
#[unsafe(no_mangle)]
static SOCKET_LAYOUT: SocketLayout = SocketLayout {
    file_private: 0,
    file_count: 0,
    file_alone: 0,
    inode_number: 0,
    socket_file: 0,
    socket_sock: 0,
    family: 0,
    state: 0,
    local_port: 0,
    peer_port: 0,
    local_inet: 0,
    peer_inet: 0,
    local_inet6: 0,
    peer_inet6: 0,
    protocol: 0,
    error: 0,
    peer_pid: 0,
    pid_number: 0,
    received: 0,
    acked: 0,
    written: 0,
    unacked: 0,
    unix_address: 0,
    unix_peer: 0,
    address_length: 0,
    address_path: 0,
};

/// One of these offsets.
macro_rules! at {
    ($field:ident) => {
        // SAFETY: the static is written once, before the programs are loaded: the compiler must not treat it as a
        // constant.
        unsafe { (&raw const SOCKET_LAYOUT.$field).read_volatile() }
    };
}

/// The kernel's `struct sock` of a `struct file`. For a file that is no socket: `None`, or an address that is no
/// socket's.
#[inline(always)]
pub(crate) fn behind(file: u64) -> Option<u64> {
    if at!(file_private) == 0 {
        return None;
    }
    let socket = read_u64(file, at!(file_private))?;
    let sock = read_u64(socket, at!(socket_sock))?;
    if sock == 0 { None } else { Some(sock) }
}

/// The same for any file: checks that the socket points back to the file.
#[inline(always)]
pub(crate) fn checked_behind(file: u64) -> Option<u64> {
    let socket = read_u64(file, at!(file_private))?;
    if read_u64(socket, at!(socket_file))? == file { behind(file) } else { None }
}

/// Whether this is the last reference to a file.
#[inline(always)]
pub(crate) fn is_last(file: u64) -> bool {
    read_u64(file, at!(file_count)) == Some(u64::from(at!(file_alone)))
}

/// Its address family.
#[inline(always)]
pub(crate) fn family(sock: u64) -> Option<u16> {
    Some(read_u32(sock, at!(family))? as u16)
}

/// Its state, such as `ESTABLISHED`.
#[inline(always)]
pub(crate) fn state(sock: u64) -> Option<u32> {
    Some(read_u32(sock, at!(state))? & 0xff)
}

/// Its protocol.
#[inline(always)]
pub(crate) fn protocol(sock: u64) -> Option<u8> {
    Some(read_u32(sock, at!(protocol))? as u8)
}

/// Its pending error, unless the program has already read it.
#[inline(always)]
pub(crate) fn error(sock: u64) -> u32 {
    read_u32(sock, at!(error)).unwrap_or(0)
}

/// Bytes that a TCP socket has received in order, the end of the stream counted as one.
#[inline(always)]
pub(crate) fn received(sock: u64) -> Option<u64> {
    read_u64(sock, at!(received))
}

/// Bytes handed to a TCP socket for sending. The beginning and the end of the stream count as one each where this side
/// sent them, as `connect(2)` and `shutdown(2)` do.
#[inline(always)]
pub(crate) fn sent(sock: u64) -> Option<u64> {
    let in_flight = read_u32(sock, at!(written))?.wrapping_sub(read_u32(sock, at!(unacked))?);
    Some(read_u64(sock, at!(acked))? + u64::from(in_flight))
}

/// Inode number of a file.
#[inline(always)]
pub(crate) fn inode(file: u64) -> Option<u64> {
    read_u64(file::inode(file)?, at!(inode_number))
}

/// Local port and peer port.
#[inline(always)]
pub(crate) fn ports(sock: u64) -> (u16, u16) {
    let port = |offset| read_u32(sock, offset).unwrap_or(0) as u16;
    (port(at!(local_port)), u16::from_be(port(at!(peer_port))))
}

/// Kernel addresses of the local and the peer's address, of an internet socket.
#[inline(always)]
pub(crate) fn addresses(sock: u64, family: u16) -> (u64, u64) {
    let (local, peer) = if family == INET6 {
        (at!(local_inet6), at!(peer_inet6))
    } else {
        (at!(local_inet), at!(peer_inet))
    };
    (sock + u64::from(local), sock + u64::from(peer))
}

/// Kernel address of a unix socket's name, and its length.
#[inline(always)]
pub(crate) fn path(sock: u64) -> Option<(u64, u32)> {
    let address = read_u64(sock, at!(unix_address))?;
    if address == 0 {
        return None;
    }
    // The length includes the address family.
    let length = read_u32(address, at!(address_length))?.wrapping_sub(2);
    Some((address + u64::from(at!(address_path)), length))
}

/// The peer of a unix socket.
#[inline(always)]
pub(crate) fn unix_peer(sock: u64) -> Option<u64> {
    read_u64(sock, at!(unix_peer))
}

/// The peer process of a unix socket.
#[inline(always)]
pub(crate) fn peer_pid(sock: u64) -> Option<u32> {
    read_u32(read_u64(sock, at!(peer_pid))?, at!(pid_number))
}
