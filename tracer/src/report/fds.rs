//! File descriptors: how many, of what sort, which ones, and how long until there is no room for more.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use tracer_common::descriptor::{FdOrigin, FdType};

use super::{SocketState, Word, connections::is_half_closed};

/// File descriptors of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fds {
    /// Open ones.
    pub open: u64,
    /// Opened since the start; `null` while that is not traced.
    pub opened: Option<u64>,
    /// Closed since the start; `null` while that is not traced.
    pub closed: Option<u64>,
    /// Opened per second over the recent past; `null` when too young to tell.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Change of the open ones per second over the recent past; `null` when too young to tell.
    #[serde(default)]
    pub growth_per_s: Option<f64>,
    /// Soft limit, of the only target; `null` for several, or without one.
    pub limit: Option<u64>,
    /// When the first target will reach its limit at this pace; `null` when none will.
    pub seconds_to_limit: Option<f64>,
    /// Within which time that is, with a probability of 95 percent, going by how evenly the recent past went: the
    /// earliest and the latest, which is `null` when it may never come. `null` as above, or while it is not traced.
    #[serde(default)]
    pub seconds_to_limit_between: Option<(f64, Option<f64>)>,
    /// Open ones by what they are; with `--light` by the kernel's own names.
    pub by_type: BTreeMap<Word<FdType>, u64>,
    /// What became of each type since the start; empty while that is not traced.
    #[serde(default)]
    pub turnover_by_type: BTreeMap<Word<FdType>, Turnover>,
    /// Found opened in a way that is not seen; `null` while descriptors are not traced.
    #[serde(default)]
    pub opened_unseen: Option<u64>,
    /// Found closed in a way that is not seen; `null` while descriptors are not traced.
    #[serde(default)]
    pub closed_unseen: Option<u64>,
    /// The open ones, by process and number; empty while they are not traced.
    #[serde(default)]
    pub table: Vec<Fd>,
}

/// What became of the descriptors of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turnover {
    /// Open ones.
    pub open: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start.
    pub closed: u64,
    /// Change of the open ones per second over the recent past; `null` when too young to tell, or not known.
    #[serde(default)]
    pub growth_per_s: Option<f64>,
}

/// An open file descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fd {
    /// The process.
    pub pid: u32,
    /// Its number.
    pub fd: u32,
    /// What it leads to, in one word.
    #[serde(rename = "type")]
    pub fd_type: Word<FdType>,
    /// What it leads to, as the kernel names it; `null` for one that has just been opened.
    pub what: Option<String>,
    /// The call that opened it; `null` when that was not seen.
    pub acquired_by: Option<Word<FdOrigin>>,
    /// Number of its call site; `null` when that was not seen.
    pub site: Option<u32>,
    /// Seconds since it was opened; `null` when that was not seen.
    pub age_s: Option<f64>,
    /// Whether it was open before the attach.
    pub pre_attach: bool,
    /// What a socket's protocol says of it; `null` when not known.
    #[serde(default)]
    pub state: Option<Word<SocketState>>,
    /// Seconds in that state; `null` when its beginning was not seen.
    #[serde(default)]
    pub state_s: Option<f64>,
    /// A socket's address and port on the other side; `null` when there is none, or not known.
    #[serde(default)]
    pub peer: Option<String>,
    /// A socket's address and port on this side; `null` when there is none, or not known.
    #[serde(default)]
    pub local: Option<String>,
}

impl Fd {
    /// Whether it is a socket that the peer has closed, and the target has not.
    pub fn is_half_closed(&self) -> bool {
        is_half_closed(self.state.as_ref())
    }
}
