//! Connections: counts, clients, how they closed, and what they left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Orphans, Word, words::names};

/// Connections of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Open connections: those open at the start, plus those opened since, minus those closed since.
    pub open: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start, including those that were open then.
    pub closed: u64,
    /// Opened per second over the recent past; `null` with too little history.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Closed connections that left something behind.
    pub with_orphans: u64,
    /// Closed connections by who closed them.
    #[serde(default)]
    pub by_end: BTreeMap<Word<ClosedBy>, u64>,
    /// Call sites whose resources closed connections left behind: those of most connections first, then of most
    /// bytes.
    #[serde(default)]
    pub left_behind: Vec<LeftBehind>,
    /// The peers, worst first: by bytes left behind, then by open connections.
    pub clients: Vec<Client>,
    /// The open connections; if there are more than a thousand, those that hold most.
    #[serde(default)]
    pub table: Vec<Connection>,
    /// Recently closed connections, newest first; a bounded number.
    #[serde(default)]
    pub recently_closed: Vec<Connection>,
}

/// Resources of one call site that closed connections left behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftBehind {
    /// Number of the call site.
    pub site: u32,
    /// Amounts.
    #[serde(flatten)]
    pub orphans: Orphans,
}

/// All connections with one peer address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The address, without a port; the name of a unix socket; `unknown`; or `others` for all clients beyond the
    /// first ten thousand.
    pub address: String,
    /// Opened since the start.
    pub opened: u64,
    /// Open connections.
    pub open: u64,
    /// Closed since the start.
    #[serde(default)]
    pub closed: u64,
    /// Opened per second over the recent past; `null` with too little history.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Bytes received by closed connections, as far as known; `null` when known for none.
    #[serde(default)]
    pub bytes_in: Option<u64>,
    /// Bytes sent by closed connections, as far as known; `null` when known for none.
    #[serde(default)]
    pub bytes_out: Option<u64>,
    /// Number of resources that closed connections left behind.
    #[serde(default)]
    pub orphan_count: u64,
    /// Their bytes.
    pub orphan_bytes: u64,
    /// Closed connections that left something behind.
    #[serde(default)]
    pub with_orphans: u64,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number, constant during one run.
    pub id: u64,
    /// The process.
    pub pid: u32,
    /// File descriptor number; `null` once closed.
    pub fd: Option<u32>,
    /// Its protocol.
    pub protocol: Word<Protocol>,
    /// Which side opened it; `null` when that was not seen.
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
    /// State in its protocol; `null` when not known.
    pub state: Option<Word<SocketState>>,
    /// Seconds in that state; `null` when the start of the state was not seen.
    pub state_s: Option<f64>,
    /// Who closed it; `null` while it is open, or when not known.
    pub closed_by: Option<Word<ClosedBy>>,
    /// Resources acquired for it and outstanding.
    pub held: Amount,
    /// The part of `held` that it left behind when it closed; nothing while it is open.
    pub orphans: Amount,
    /// Number of the call site that created it; `null` when that was not seen.
    pub site: Option<u32>,
    /// Whether it was open before the attach.
    pub pre_attach: bool,
}

names! {
    /// Which side opened a connection.
    pub enum ConnectionRole {
        /// The peer: the target accepted it.
        Accepted = "accepted",
        /// The target: it connected to the peer.
        Connected = "connected",
    }
}

names! {
    /// Who closed a connection, or why it ended.
    pub enum ClosedBy {
        /// The target closed or shut it down first.
        Us = "us",
        /// The peer did.
        Peer = "peer",
        /// The peer reset it.
        Reset = "reset",
        /// The peer stopped responding.
        Timeout = "timeout",
        /// The target ended.
        Exit = "exit",
        /// Not known; in sums only.
        Unknown = "unknown",
    }
}

names! {
    /// Protocol of a connection.
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
    /// The kernel's state of a socket: the states of TCP, as `ss` shows them, and those of Unix domain sockets.
    pub enum SocketState {
        /// Both sides are open.
        Established = "ESTABLISHED",
        /// The target has sent a connection request.
        SynSent = "SYN_SENT",
        /// A peer has sent a connection request.
        SynRecv = "SYN_RECV",
        /// The target has closed it first, and waits for the peer's acknowledgment.
        FinWait1 = "FIN_WAIT1",
        /// The target has closed it first, and waits for the peer to close.
        FinWait2 = "FIN_WAIT2",
        /// Both have closed it; it waits for late segments.
        TimeWait = "TIME_WAIT",
        /// Its connection is over, and the socket is still open: the peer has reset it or stopped responding, or both
        /// sides have closed.
        Close = "CLOSE",
        /// The peer has closed it, and the target has not.
        CloseWait = "CLOSE_WAIT",
        /// Both have closed it, the peer first; it waits for the last acknowledgment.
        LastAck = "LAST_ACK",
        /// It waits for connections.
        Listen = "LISTEN",
        /// Both have closed it at once.
        Closing = "CLOSING",
        /// A Unix domain socket that is not connected.
        Unconnected = "UNCONNECTED",
        /// A Unix domain socket that is connecting.
        Connecting = "CONNECTING",
        /// A Unix domain socket that is connected.
        Connected = "CONNECTED",
        /// A Unix domain socket that is disconnecting.
        Disconnecting = "DISCONNECTING",
    }
}

/// Whether nobody is at the other end of an open socket any more: the peer has closed it, or the connection is over.
pub(super) fn is_peer_gone(state: Option<&Word<SocketState>>) -> bool {
    state.is_some_and(|state| state.is(SocketState::CloseWait) || state.is(SocketState::Close))
}

impl Connection {
    /// Whether it is open, and nobody is at its other end any more.
    pub fn is_peer_gone(&self) -> bool {
        self.closed_s.is_none() && is_peer_gone(self.state.as_ref())
    }
}
