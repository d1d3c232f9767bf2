//! Connections: how they begin and how they end. The only lists.

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// It was there before anybody looked.
    Before = 0,
    /// The peer: it was accepted.
    Accepted = 1,
    /// The target: it connected.
    Connected = 2,
}

impl Role {
    /// The role with this number; one that none has is the first.
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

/// States of a TCP socket, of which `TCP_ESTABLISHED` is that of any connected socket.
/// `include/net/tcp_states.h` of the kernel.
pub const ESTABLISHED: u32 = 1;
/// This side has closed first.
pub const FIN_WAIT1: u32 = 4;
/// Nothing is left of the connection.
pub const CLOSED: u32 = 7;
/// The peer has closed first.
pub const CLOSE_WAIT: u32 = 8;

/// Bytes of the name of a socket in the file system: `struct sockaddr_un` has as many, see `unix(7)`.
pub const PATH: usize = 108;
