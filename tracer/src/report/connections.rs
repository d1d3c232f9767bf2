//! Connections: how many there are and were, who they come from, how they ended, and what they left behind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Amount, Orphans};

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
    /// Closed ones by who closed them: `us`, `peer`, `reset`, `timeout`, `exit` (the target ended) or `unknown`.
    #[serde(default)]
    pub by_end: BTreeMap<String, u64>,
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
    /// `tcp`, `udp`, `unix` …
    pub protocol: String,
    /// Who began it; `null` when that was not seen.
    pub role: Option<Began>,
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
    /// What the protocol says of it: `ESTABLISHED`, `CLOSE_WAIT` …; `null` when not known.
    pub state: Option<String>,
    /// Seconds in that state; `null` when its beginning was not seen.
    pub state_s: Option<f64>,
    /// Who closed it: `us`, `peer`, `reset` …; `null` while it is open, or when not known.
    pub closed_by: Option<String>,
    /// What was acquired for it and is outstanding.
    pub held: Amount,
    /// The part of it that its end left behind; nothing while it is open.
    pub orphans: Amount,
    /// Number of the call site that created it; `null` when that was not seen.
    pub site: Option<u32>,
    /// Whether it was open before the attach.
    pub pre_attach: bool,
}

/// Who began a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Began {
    /// The peer: it was accepted.
    Accepted,
    /// The target: it connected.
    Connected,
}

impl Connection {
    /// Whether the peer has closed it, and the target has not.
    pub fn is_half_closed(&self) -> bool {
        self.closed_s.is_none() && self.state.as_deref() == Some("CLOSE_WAIT")
    }
}
