//! File descriptors: counts, types, the table of open ones, and the time until the limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
pub use tracer_common::descriptor::{FdOrigin, FdType};

use super::{SocketState, Word, connections::is_peer_gone};

/// File descriptors of all targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fds {
    /// Open descriptors.
    pub open: u64,
    /// Opened since the start; `null` while that is not traced.
    pub opened: Option<u64>,
    /// Closed since the start; `null` while that is not traced.
    pub closed: Option<u64>,
    /// Opened per second over the recent past; `null` with too little history.
    #[serde(default)]
    pub opened_per_s: Option<f64>,
    /// Change in open descriptors per second over the recent past; `null` with too little history.
    #[serde(default)]
    pub growth_per_s: Option<f64>,
    /// Soft limit of the only target; `null` for several targets, or without a limit.
    pub limit: Option<u64>,
    /// Seconds until the first target reaches its limit at the present rate, as in [`super::Limit::time_to_limit_s`]; `null`
    /// as there.
    pub seconds_to_limit: Option<f64>,
    /// 95 percent interval of that time: the earliest and the latest.
    #[serde(default)]
    pub seconds_to_limit_between: Option<(f64, Option<f64>)>,
    /// Open descriptors by type; with `--light` by the kernel's own names.
    pub by_type: BTreeMap<Word<FdType>, u64>,
    /// Turnover of each type since the start; empty while it is not traced.
    #[serde(default)]
    pub turnover_by_type: BTreeMap<Word<FdType>, Turnover>,
    /// Descriptors found open whose opening was not seen; `null` while descriptors are not traced.
    #[serde(default)]
    pub opened_unseen: Option<u64>,
    /// Descriptors found closed whose closing was not seen; `null` while descriptors are not traced.
    #[serde(default)]
    pub closed_unseen: Option<u64>,
    /// The open descriptors, by process and number; empty while they are not traced.
    #[serde(default)]
    pub table: Vec<Fd>,
}

/// Turnover of the descriptors of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Turnover {
    /// Open descriptors.
    pub open: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Closed since the start.
    pub closed: u64,
    /// Change in open descriptors per second over the recent past; `null` with too little history, or when not known.
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
    /// The type of file it refers to, in one word.
    #[serde(rename = "type")]
    pub fd_type: Word<FdType>,
    /// What it refers to, as the kernel names it; `null` for one that has just been opened.
    pub what: Option<String>,
    /// The call that opened it; `null` when that was not seen.
    pub acquired_by: Option<Word<FdOrigin>>,
    /// Number of its call site; `null` when that was not seen.
    pub site: Option<u32>,
    /// Seconds since it was opened; `null` when that was not seen.
    pub age_s: Option<f64>,
    /// Whether it was open before the attach.
    pub pre_attach: bool,
    /// State of a socket in its protocol; `null` when not known.
    #[serde(default)]
    pub state: Option<Word<SocketState>>,
    /// Seconds in that state; `null` when the start of the state was not seen.
    #[serde(default)]
    pub state_s: Option<f64>,
    /// Remote address and port of a socket; `null` when there is none, or when not known.
    #[serde(default)]
    pub peer: Option<String>,
    /// Local address and port of a socket; `null` when there is none, or when not known.
    #[serde(default)]
    pub local: Option<String>,
}

impl Fd {
    /// Whether it is a socket without anybody at its other end any more.
    pub fn is_peer_gone(&self) -> bool {
        is_peer_gone(self.state.as_ref())
    }
}
