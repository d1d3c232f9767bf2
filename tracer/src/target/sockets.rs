//! A socket as the kernel reports it: protocol, addresses, state and traffic, and the kernel's names of them.
//!
//! `socket_list.rs` lists the sockets of a process; this file knows only what they look like.

use std::{fs, net::SocketAddr};

use procfs::net::TcpState;
use serde::{Deserialize, Deserializer, Serialize};

use super::Pid;
use crate::tape::{Redact, Redactor};

/// The protocols of sockets.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "unix"];
/// The states of sockets.
const STATES: [&str; 15] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "UNCONNECTED",
    "CONNECTING",
    "CONNECTED",
    "DISCONNECTING",
];

/// A word of [`PROTOCOLS`] or [`STATES`]. (An alias, so that serde does not borrow it from what it reads.)
type Word = &'static str;

/// A socket, as the kernel reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// `tcp`, `udp`, `unix`.
    #[serde(deserialize_with = "protocol")]
    pub protocol: Word,
    /// Its local address or path; `None` if it has none.
    pub local: Option<String>,
    /// The peer's address; `None` if there is none, or if the kernel does not report it (Unix sockets).
    pub peer: Option<String>,
    /// The kernel's name of its state: `ESTABLISHED`, `CLOSE_WAIT` …; `None` for protocols without states.
    #[serde(deserialize_with = "state")]
    pub state: Option<Word>,
    /// The traffic of a TCP connection; `None` where the kernel does not report it.
    pub traffic: Option<Traffic>,
}

/// The state of a TCP socket whose connection is over; the kernel lists no such socket.
pub const OVER: &str = "CLOSE";

/// The traffic of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes received.
    pub received: u64,
    /// Bytes that the peer has acknowledged; on the side that connected one more, for its SYN.
    pub sent: u64,
}

impl Traffic {
    /// Of a socket in this state. In the kernel's counters, the end of the stream is a byte, too, in each direction.
    pub(super) fn of(state: Option<&str>, received: u64, acknowledged: u64) -> Self {
        let ended_in = matches!(state, Some("CLOSE_WAIT" | "LAST_ACK" | "CLOSING" | "TIME_WAIT"));
        let ended_out = matches!(state, Some("FIN_WAIT2" | "TIME_WAIT"));
        Self {
            received: received.saturating_sub(ended_in.into()),
            sent: acknowledged.saturating_sub(ended_out.into()),
        }
    }
}

impl Socket {
    /// Whether nobody is at its other end any more: the peer has closed it, or the connection is over.
    pub fn is_peer_gone(&self) -> bool {
        matches!(self.state, Some("CLOSE_WAIT" | OVER))
    }
}

impl Redact for Socket {
    fn redacted(&self, redactor: &mut Redactor) -> Self {
        let mut address = |one: &Option<String>| one.as_deref().map(|text| redactor.address(text));
        Self { local: address(&self.local), peer: address(&self.peer), ..self.clone() }
    }
}

/// The word of a list, as it stands there.
fn word<E: serde::de::Error>(list: &[&'static str], word: &str) -> Result<&'static str, E> {
    let known = list.iter().find(|one| **one == word);
    known.copied().ok_or_else(|| E::custom("an unknown word"))
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static str, D::Error> {
    word(&PROTOCOLS, &String::deserialize(deserializer)?)
}

fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'static str>, D::Error> {
    let name: Option<String> = Option::deserialize(deserializer)?;
    name.map(|name| word(&STATES, &name)).transpose()
}

/// The network namespace of a process; `None` if the process has ended, or if we may not read it.
pub fn namespace(pid: Pid) -> Option<String> {
    let link = fs::read_link(pid.proc_path("ns/net")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The inode in a descriptor's link: `socket:[4711]`.
pub fn inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// An address as text; `None` for an unspecified address with port 0.
pub(super) fn address(address: SocketAddr) -> Option<String> {
    let is_none = address.port() == 0 && address.ip().is_unspecified();
    (!is_none).then(|| match address {
        // Shows an IPv4 client of an IPv6 socket by its IPv4 address.
        SocketAddr::V6(six) => match six.ip().to_ipv4_mapped() {
            Some(four) => SocketAddr::from((four, six.port())).to_string(),
            None => six.to_string(),
        },
        SocketAddr::V4(four) => four.to_string(),
    })
}

/// The kernel's name of a TCP state by its number; `None` for states that newer kernels have added.
pub(crate) fn tcp_state(number: u8) -> Option<&'static str> {
    TcpState::from_u8(number).as_ref().map(state_name)
}

pub(super) fn state_name(state: &TcpState) -> &'static str {
    match state {
        TcpState::Established => "ESTABLISHED",
        TcpState::SynSent => "SYN_SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN_RECV",
        TcpState::FinWait1 => "FIN_WAIT1",
        TcpState::FinWait2 => "FIN_WAIT2",
        TcpState::TimeWait => "TIME_WAIT",
        TcpState::Close => "CLOSE",
        TcpState::CloseWait => "CLOSE_WAIT",
        TcpState::LastAck => "LAST_ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() {
        let written = |text: &str| address(text.parse().unwrap());
        assert_eq!(written("[::ffff:10.0.0.7]:443").as_deref(), Some("10.0.0.7:443"));
        assert_eq!(written("[fe80::1]:443").as_deref(), Some("[fe80::1]:443"));
        assert_eq!((written("0.0.0.0:0"), written("[::]:0")), (None, None));
        assert_eq!(written("0.0.0.0:80").as_deref(), Some("0.0.0.0:80"));
    }

    #[test]
    fn the_end_of_a_stream_is_no_byte_of_the_application() {
        let of = |state| {
            let Traffic { received, sent } = Traffic::of(Some(state), 51, 101);
            (received, sent)
        };
        assert_eq!(of("ESTABLISHED"), (51, 101));
        assert_eq!((of("CLOSE_WAIT"), of("LAST_ACK")), ((50, 101), (50, 101)));
        assert_eq!((of("FIN_WAIT1"), of("FIN_WAIT2")), ((51, 101), (51, 100)));
    }

    #[test]
    fn only_links_of_sockets_have_an_inode() {
        assert_eq!((inode("socket:[12]"), inode("pipe:[12]")), (Some(12), None));
    }
}
