//! Connections: how many there are and were, who they come from, how they ended, and what they left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Orphans, Word, words::names};

/// Connections of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Open ones: those that were open at the start, and those opened since, less those closed since.
    pub open: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start, those that were open then included.
    pub closed: u64,
    /// Opened per second over the recent past; `null` when too young to tell.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Closed ones that left something behind.
    pub with_orphans: u64,
    /// Closed ones by who closed them.
    #[serde(default)]
    pub by_end: BTreeMap<Word<ClosedBy>, u64>,
    /// Call sites at which something was acquired that closed connections left behind: that of most connections first,
    /// then of most bytes.
    #[serde(default)]
    pub left_behind: Vec<LeftBehind>,
    /// The peers, worst first: by bytes left behind, then by open connections.
    pub clients: Vec<Client>,
    /// The open ones; those that hold most, if there are more than a thousand.
    #[serde(default)]
    pub table: Vec<Connection>,
    /// The last that closed, the newest first; a bounded number.
    #[serde(default)]
    pub recently_closed: Vec<Connection>,
}

/// What closed connections left behind that was acquired at one call site.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Number of the call site.
    pub site: u32,
    /// How much.
    #[serde(flatten)]
    pub orphans: Orphans,
}

/// All connections with one address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The address, without a port; the name of a unix socket; `unknown`; or `others` for all that come after the first
    /// ten thousand.
    pub address: String,
    /// Opened since the start.
    pub opened: u64,
    /// Open ones.
    pub open: u64,
    /// Closed since the start.
    #[serde(default)]
    pub closed: u64,
    /// Opened per second over the recent past; `null` when too young to tell.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Bytes received by closed ones, of which that is known; `null` when it is of none.
    #[serde(default)]
    pub bytes_in: Option<u64>,
    /// The same of bytes sent.
    #[serde(default)]
    pub bytes_out: Option<u64>,
    /// What closed ones left behind, resources.
    #[serde(default)]
    pub orphan_count: u64,
    /// The same, bytes.
    pub orphan_bytes: u64,
    /// Closed ones that left something behind.
    #[serde(default)]
    pub with_orphans: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number, the same through one run.
    pub id: u64,
    /// The process.
    pub pid: u32,
    /// Number of its file descriptor; `null` once closed.
    pub fd: Option<u32>,
    /// Its protocol.
    pub protocol: Word<Protocol>,
    /// Who began it; `null` when that was not seen.
    pub role: Option<ConnectionRole>,
    /// Address and port on this side; `null` when not known.
    pub local: Option<String>,
    /// Address and port on the other side; `null` when not known.
    pub peer: Option<String>,
    /// Seconds from the start until it was opened; `null` when that was before the attach.
    pub opened_s: Option<f64>,
    /// Seconds since it was opened; `null` when that was before the attach.
    pub age_s: Option<f64>,
    /// Seconds from the start until it was closed; `null` while it is open.
    pub closed_s: Option<f64>,
    /// Bytes received; `null` when not known.
    pub bytes_in: Option<u64>,
    /// Bytes sent; `null` when not known.
    pub bytes_out: Option<u64>,
    /// What the protocol says of it; `null` when not known.
    pub state: Option<Word<SocketState>>,
    /// Seconds in that state; `null` when its beginning was not seen.
    pub state_s: Option<f64>,
    /// Who closed it; `null` while it is open, or when not known.
    pub closed_by: Option<Word<ClosedBy>>,
    /// What was acquired for it and is outstanding.
    pub held: Amount,
    /// The part of it that its end left behind; nothing while it is open.
    pub orphans: Amount,
    /// Number of the call site that created it; `null` when that was not seen.
    pub site: Option<u32>,
    /// Whether it was open before the attach.
    pub pre_attach: bool,
}

names! {
    /// Who began a connection.
    pub enum ConnectionRole {
        /// The peer: it was accepted.
        Accepted = "accepted",
        /// The target: it connected.
        Connected = "connected",
    }
}

names! {
    /// Who ended a connection, or what.
    pub enum ClosedBy {
        /// The target closed or shut it down first.
        Us = "us",
        /// The peer did.
        Peer = "peer",
        /// The peer broke it off.
        Reset = "reset",
        /// The peer was not heard of any more.
        Timeout = "timeout",
        /// The target ended.
        Exit = "exit",
        /// Nobody knows; in sums only.
        Unknown = "unknown",
    }
}

names! {
    /// What a connection speaks.
    pub enum Protocol {
        /// TCP, over IPv4 or IPv6.
        Tcp = "tcp",
        /// UDP, over IPv4 or IPv6.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
        /// A Unix domain socket.
        Unix = "unix",
        /// Any other socket.
        Socket = "socket",
    }
}

names! {
    /// What the kernel says of a socket: the states of TCP, as `ss` has them, and those of Unix domain sockets.
    pub enum SocketState {
        /// Both sides are open.
        Established = "ESTABLISHED",
        /// The target has asked to connect.
        SynSent = "SYN_SENT",
        /// A peer has asked to connect.
        SynRecv = "SYN_RECV",
        /// The target has closed it first, and waits for the peer's acknowledgment.
        FinWait1 = "FIN_WAIT1",
        /// The target has closed it first, and waits for the peer to close.
        FinWait2 = "FIN_WAIT2",
        /// Both have closed it; late segments are waited for.
        TimeWait = "TIME_WAIT",
        /// Not connected.
        Close = "CLOSE",
        /// The peer has closed it, and the target has not.
        CloseWait = "CLOSE_WAIT",
        /// Both have closed it, the peer first; the last acknowledgment is waited for.
        LastAck = "LAST_ACK",
        /// It waits for connections.
        Listen = "LISTEN",
        /// Both have closed it at once.
        Closing = "CLOSING",
        /// A Unix domain socket that is not connected.
        Unconnected = "UNCONNECTED",
        /// One that connects.
        Connecting = "CONNECTING",
        /// One that is connected.
        Connected = "CONNECTED",
        /// One that is being disconnected.
        Disconnecting = "DISCONNECTING",
    }
}

/// Whether the peer has closed a socket, and the target has not.
pub(super) fn is_half_closed(state: Option<&Word<SocketState>>) -> bool {
    state.is_some_and(|state| state.is(SocketState::CloseWait))
}

impl Connection {
    /// Whether the peer has closed it, and the target has not.
    pub fn is_half_closed(&self) -> bool {
        self.closed_s.is_none() && is_half_closed(self.state.as_ref())
    }
}
