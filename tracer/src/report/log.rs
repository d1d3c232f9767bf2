//! The connection log: a line of JSON for each connection that was opened, was closed, or left something behind.

use serde::{Deserialize, Serialize};

use super::{Amount, ClosedBy, ConnectionRole, Protocol, Word};

/// One line; `docs/connections-log.md` documents the format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum LogLine {
    /// A connection was opened.
    Opened {
        /// When, RFC 3339.
        time: String,
        /// The same in seconds from the start.
        at_s: f64,
        /// The connection.
        #[serde(flatten)]
        connection: Logged,
    },
    /// A connection was closed.
    Closed {
        /// When, RFC 3339.
        time: String,
        /// The same in seconds from the start.
        at_s: f64,
        /// The connection.
        #[serde(flatten)]
        connection: Logged,
        /// Seconds from the start until it was opened; `null` when that was before the attach.
        opened_s: Option<f64>,
        /// How long it was open, seconds; `null` when that is not known.
        age_s: Option<f64>,
        /// Who closed it, as in the report.
        closed_by: Option<Word<ClosedBy>>,
        /// Bytes received; `null` when not known.
        bytes_in: Option<u64>,
        /// Bytes sent; `null` when not known.
        bytes_out: Option<u64>,
        /// Resources acquired for it that were outstanding at that time.
        held: Amount,
    },
    /// A connection left something behind; known some time after it was closed.
    Orphans {
        /// When that was found, RFC 3339.
        time: String,
        /// The same in seconds from the start.
        at_s: f64,
        /// The connection's number.
        id: u64,
        /// The peer's address without a port, as in the report.
        client: String,
        /// Seconds from the start until it was closed.
        closed_s: f64,
        /// Resources that it left behind.
        orphans: Amount,
    },
}

/// The connection that a line is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// Its number, constant during one run and the same in the report.
    pub id: u64,
    /// The process.
    pub pid: u32,
    /// Number of its file descriptor.
    pub fd: u32,
    /// Its protocol.
    pub protocol: Word<Protocol>,
    /// Which side opened it; `null` when that was not seen.
    pub role: Option<ConnectionRole>,
    /// Local address and port; `null` when not known.
    pub local: Option<String>,
    /// Remote address and port; `null` when not known.
    pub peer: Option<String>,
    /// The process on the other side; `null` when not known.
    pub peer_pid: Option<u32>,
    /// Number of the call site that created it, as in the report; `null` when that was not seen.
    pub site: Option<u32>,
}

/// State of the connection log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionsLog {
    /// The file.
    pub path: String,
    /// Lines written.
    pub written: u64,
    /// Lines not written.
    pub lost: u64,
    /// Why the last lost line was not written; `null` when all were written.
    pub why: Option<String>,
}

impl ConnectionsLog {
    /// A warning if lines are missing.
    pub fn warning(&self) -> Option<String> {
        let lines = if self.lost == 1 { "line" } else { "lines" };
        let why = self.why.as_deref().unwrap_or("unknown");
        (self.lost > 0).then(|| {
            format!(
                "{} {lines} of the log of connections `{}` could not be written: {why}",
                crate::format::count(self.lost),
                crate::format::printable(&self.path),
            )
        })
    }
}
