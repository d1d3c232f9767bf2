//! Constants of connections: roles, address families, TCP states. Each is defined only here.

/// Which side opened a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// It existed before tracing began.
    Before = 0,
    /// The peer: the target accepted it.
    Accepted = 1,
    /// The target: it connected.
    Connected = 2,
}

impl Role {
    /// The role with this number; [`Role::Before`] for an unknown number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Accepted,
            2 => Self::Connected,
            _ => Self::Before,
        }
    }
}

/// `AF_UNIX`, `AF_INET` and `AF_INET6` of `socket(2)`.
pub const UNIX: u16 = 1;
/// As above.
pub const INET: u16 = 2;
/// As above.
pub const INET6: u16 = 10;

/// `IPPROTO_TCP` of `ip(7)`.
pub const TCP: u8 = 6;

/// States of a TCP socket; connected sockets of other protocols have `TCP_ESTABLISHED` as well.
/// `include/net/tcp_states.h` of the kernel.
pub const ESTABLISHED: u32 = 1;
/// This side has closed first.
pub const FIN_WAIT1: u32 = 4;
/// The connection no longer exists.
pub const CLOSED: u32 = 7;
/// The peer has closed first.
pub const CLOSE_WAIT: u32 = 8;

/// Bytes of a unix socket's path: the size of `sun_path` in `struct sockaddr_un`, see `unix(7)`.
pub const PATH: usize = 108;
